"""One image through the package's model on the CPU: the ONNX backend against the JAX one.

    python scripts/benchmarks/single_image.py [--model M] [--rounds 5]

Twice, in turns: a whole `predict IMAGE --backend ...`, from the shell back to the shell, as one who
reads a single image waits for it; and a call with one glyph in a process that has read others, as a
program waits for it. Needs onnxruntime.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import turns
from PIL import Image

BACKENDS = ("onnx", "jax")
CALLS = 40
WANTED = 5.0


def run_worker(backend: str, model: str | None) -> None:
    from kkanji_jax.inference.recogniser import load

    recogniser = load(model, backend=backend)
    glyphs = np.random.default_rng(0).integers(0, 256, (CALLS, 1, 64, 64), np.uint8)

    def work() -> int:
        for glyph in glyphs:
            recogniser.predict_glyphs(glyph, top_k=5)
        return CALLS

    work()
    turns.serve(work)


def command_seconds(backend: str, image: Path, model: Sequence[str]) -> float:
    """Seconds of the clock that the whole command takes."""
    begun_s = time.perf_counter()
    command = [sys.executable, "-m", "kkanji_jax.predict", str(image), "--backend", backend, *model]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun_s


def compare(what: str, seconds: dict[str, list[float]]) -> None:
    for name in BACKENDS:
        print(f"{what}, {name}: {1e3 * statistics.median(seconds[name]):,.1f} ms")
    found = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
    print(turns.comparison("jax", found) + f"; expected {WANTED:g}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a run or a bundle (default: the package's)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        run_worker(args.worker, args.model)
        return 0
    model = ["--model", args.model] if args.model else []
    whole: dict[str, list[float]] = {name: [] for name in BACKENDS}
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.png"
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(pixels).save(image)
        for _ in range(args.rounds + 1):  # the first one fills the disk's cache
            for name in BACKENDS:
                whole[name].append(command_seconds(name, image, model))
    compare("a whole command", {name: seconds[1:] for name, seconds in whole.items()})
    commands = {name: [__file__, "--worker", name, *model] for name in BACKENDS}
    found = turns.take_turns(commands, args.rounds, num_cores=2)
    compare(
        "a call", {name: [turn.wall_s / turn.units for turn in found[name]] for name in BACKENDS}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
