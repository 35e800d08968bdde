"""Augmented images per CPU second: the JAX engine, the original's code, and albumentations.

    python scripts/benchmarks/augmentation.py [--dataset data/kuzushiji] [--rounds 5]

`legacy` against the original's steps in SciPy and scikit-image, `glyph_safe` against albumentations
executing it; in turns, all on the same core. Needs the `bench` extra.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import single_records
import turns
from jaxtyping import UInt8

NUM_IMAGES = 4096
IMAGES_A_TURN = {
    "jax-legacy": 8192,
    "original": 512,
    "jax-glyph_safe": 8192,
    "albumentations": 2048,
}
PAIRS = [
    ("jax-legacy", "original", "the original's SciPy and scikit-image code", 15.0),
    ("jax-glyph_safe", "albumentations", "albumentations executing glyph_safe", 4.0),
]


def augment_as_the_original(
    image: UInt8[np.ndarray, "64 64"], rng: np.random.Generator
) -> UInt8[np.ndarray, "64 64"]:
    """Elastic (alpha 1000, sigma 30), affine about the corner, noise: its steps and parameters."""
    from scipy.ndimage import gaussian_filter, map_coordinates
    from skimage.transform import AffineTransform, warp

    pixels = image.astype(np.float64) / 255
    shift_x, shift_y = (
        gaussian_filter(rng.uniform(-1, 1, image.shape), 30.0) * 1000.0 for _ in "xy"
    )
    y, x = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    pixels = map_coordinates(pixels, [y + shift_y, x + shift_x], order=1, mode="reflect")
    affine = AffineTransform(
        rotation=np.deg2rad(rng.uniform(-15, 15)),
        scale=rng.uniform(0.9, 1.1),
        translation=(rng.uniform(-5, 5), rng.uniform(-5, 5)),
    )
    pixels = warp(pixels, affine.inverse, mode="reflect")
    return (np.clip(pixels + rng.normal(0, 0.05, image.shape), 0, 1) * 255).astype(np.uint8)


def original_code(images: UInt8[np.ndarray, "n 64 64"]) -> Callable[[int], int]:
    rng = np.random.default_rng(0)

    def work(num_images: int) -> int:
        for row in range(num_images):
            augment_as_the_original(images[row], rng)
        return num_images

    return work


def jax_engine(images: UInt8[np.ndarray, "n 64 64"], policy: str) -> Callable[[int], int]:
    from functools import partial

    import jax
    import jax.numpy as jnp

    from kkanji_jax.augment.engine import augment, sample_keys
    from kkanji_jax.augment.policy import get_policy
    from kkanji_jax.data.records import address_of

    addresses = jnp.asarray(address_of([str(row) for row in range(1024)]))
    batch = jnp.asarray(images[:1024])

    @partial(jax.jit, static_argnums=0)
    def run(policy, batch, copies):
        return augment(batch, sample_keys(0, addresses, copies), copies, policy)

    def work(num_images: int) -> int:
        for copy in range(1, num_images // 1024 + 1):
            run(get_policy(policy), batch, jnp.full(1024, copy, jnp.int32)).block_until_ready()
        return num_images

    return work


def host_engine(images: UInt8[np.ndarray, "n 64 64"]) -> Callable[[int], int]:
    from data_tools.write.host_augment import HostAugmenter
    from kkanji_jax.augment.policy import get_policy

    augmenter = HostAugmenter(get_policy("glyph_safe"), 0)

    def work(num_images: int) -> int:
        for row in range(num_images):
            augmenter(images[row], str(row), 1)
        return num_images

    return work


def run_worker(name: str, folder: Path) -> None:
    images = np.load(folder / "images.npy")
    if name == "original":
        work = original_code(images)
    elif name == "albumentations":
        work = host_engine(images)
    else:
        work = jax_engine(images, name.removeprefix("jax-"))
    work(1024 if name.startswith("jax") else 8)  # compiles, or imports
    turns.serve(lambda: work(IMAGES_A_TURN[name]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, default=Path("data/kuzushiji"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        run_worker(args.worker[0], Path(args.worker[1]))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        images, _ = single_records.take_images(args.dataset, NUM_IMAGES)
        np.save(Path(scratch) / "images.npy", images)
        commands = {name: [__file__, "--worker", name, scratch] for name in IMAGES_A_TURN}
        found = turns.take_turns(commands, args.rounds, num_cores=1)
    for name, spent in found.items():
        cost_us = statistics.median(1e6 * turn.cpu_s / turn.units for turn in spent)
        print(f"{name:20} {cost_us:8.1f} us of CPU an image")
    for ours, theirs, label, target in PAIRS:
        line = turns.comparison(label, turns.ratios(found[ours], found[theirs]))
        print(f"{line}; expected {target:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
