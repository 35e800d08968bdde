"""From CODH's files to the first balanced, augmented batch of 1,024: seconds, and bytes on disk.

    python scripts/benchmarks/first_batch.py --source DIR [--workers 2]

Builds a dataset from nothing, then plans 10,000 examples of each class, draws a batch and augments
it, each in a process of its own, everything compiled anew.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PER_CLASS, BATCH_SIZE, MOST_S = 10_000, 1024, 60.0


def draw_batch(dataset: Path) -> None:
    import jax
    import numpy as np

    from kkanji_jax.augment.engine import augment, sample_keys
    from kkanji_jax.augment.policy import get_policy
    from kkanji_jax.data.batches import BatchShape
    from kkanji_jax.training.feed import FeedConfig, open_resident

    config = FeedConfig(per_class=PER_CLASS, sampling_exponent=0.5, fresh_copies=True, seed=0)
    feed = open_resident(dataset, config)
    assert feed.data is not None
    num_batches = feed.num_examples // BATCH_SIZE
    batches = feed.make_iterator(
        BatchShape(batch_size=BATCH_SIZE, steps_per_dispatch=1, num_dispatches=num_batches)
    )
    batch = feed.batch(**next(batches))
    rows, copies = (np.asarray(column)[0, 0] for column in batch)

    @jax.jit
    def vary(images, addresses, copies):
        keys = sample_keys(0, addresses, copies)
        return augment(images, keys, copies, get_policy("glyph_safe"))

    images = vary(feed.data.images[rows], feed.data.addresses[rows], copies)
    num_classes = len(np.unique(np.asarray(feed.data.labels)[rows]))
    print(f"a batch {images.block_until_ready().shape} of {num_classes} classes", end=" ")
    print(f"out of an epoch of {feed.num_examples:,}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="folder of CODH's files")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.draw:
        draw_batch(args.draw)
        return 0
    if args.source is None:
        parser.error("--source is missing: a folder of CODH's files")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "dataset"
        build = [
            "-m",
            "data_tools.build",
            "--source",
            str(args.source.resolve()),
            "--out",
            str(out),
        ]
        environment, total_s = os.environ | {"PYTHONPATH": str(ROOT)}, 0.0
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        for name, command in (
            ("build", [*build, "--workers", str(args.workers)]),
            ("first batch", [__file__, "--draw", str(out)]),
        ):
            before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, cwd=ROOT, env=environment)
            wall_s = time.perf_counter() - start_s
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{name}: {wall_s:.1f} s, {cpu_s:.1f} CPU-s")
            total_s += wall_s
        size = sum(path.stat().st_size for path in out.iterdir())
        print(f"{total_s:.1f} s in all; expected {MOST_S:g} at most, on two idle cores")
        print(f"on disk {size / 1e6:.1f} MB, each original once: 0 bytes of balanced data")
    return 0


if __name__ == "__main__":
    sys.exit(main())
