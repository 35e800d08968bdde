"""What a DATASET's files weigh beside PNG files, and what loading them costs beside np.load.

    python scripts/benchmarks/files.py [--dataset data/kuzushiji] [--rounds 5]

Bytes of all training shards against the same images encoded as PNG by Pillow's defaults; CPU
seconds of `load_split` against `np.load` and a copy of the same array, in turns.
"""

import argparse
import io
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import turns
from PIL import Image

MOST_BYTES, MOST_CPU = 0.85, 3.0


def png_bytes(image: np.ndarray) -> int:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.tell()


def run_worker(name: str, dataset: Path, array: Path) -> None:
    from kkanji_jax.data.resident import load_split

    def work() -> int:
        images = load_split(dataset, "train").images if name == "ours" else np.load(array).copy()
        return len(images)

    work()
    turns.serve(work)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, default=Path("data/kuzushiji"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        name, dataset, array = args.worker
        run_worker(name, Path(dataset), Path(array))
        return 0

    from kkanji_jax.data.manifest import load_manifest, shard_paths
    from kkanji_jax.data.resident import load_split

    images = load_split(args.dataset, "train").images
    paths = shard_paths(args.dataset, load_manifest(args.dataset), "train")
    ours, theirs = sum(path.stat().st_size for path in paths), sum(map(png_bytes, images))
    print(
        f"{len(images):,} images: {ours / len(images):,.0f} bytes each in shards with their ids, "
        f"{theirs / len(images):,.0f} as PNG: {ours / theirs:.3f}; expected {MOST_BYTES:g} at most"
    )
    with tempfile.TemporaryDirectory() as scratch:
        array = Path(scratch) / "images.npy"
        np.save(array, images)
        commands = {
            name: [__file__, "--worker", name, str(args.dataset), str(array)]
            for name in ("ours", "np.load")
        }
        found = turns.take_turns(commands, args.rounds, num_cores=1)
    for name, spent in found.items():
        print(f"{name:8} {statistics.median(turn.cpu_s for turn in spent):6.2f} CPU-s")
    line = turns.comparison("np.load and a copy", turns.ratios(found["np.load"], found["ours"]))
    print(f"CPU seconds {line}; expected {MOST_CPU:g} at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
