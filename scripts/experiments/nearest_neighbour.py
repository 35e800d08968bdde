"""What a DATASET's test split is worth to a method that learns nothing: the floor for a network.

    python scripts/experiments/nearest_neighbour.py DATASET [--add NAME]

Each test image takes the class of the training image whose pixels, blurred and brought to 32x32,
correlate best with its own. --add keeps the scores in docs/results/floors/, for results.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import summaries
from jaxtyping import Float, Int, UInt8
from summaries import write_json

from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.data.resident import load_split
from kkanji_jax.evaluation import intervals
from kkanji_jax.evaluation.groups import macro_recall

SUMMARIES = summaries.SUMMARIES / "floors"
SMALL_PX = 32
_TRAIN_ROWS = 8192  # training images compared at a time: 32 MB


def describe(images: UInt8[np.ndarray, "n 64 64"]) -> Float[np.ndarray, "n d"]:
    """Means of 2x2 pixels, blurred by (1, 2, 1); of mean 0 and length 1."""
    n, height, width = images.shape
    blocks = images.reshape(n, height // 2, 2, width // 2, 2)
    small = np.pad(blocks.mean(axis=(2, 4), dtype=np.float32), ((0, 0), (1, 1), (1, 1)))
    small = small[:, :-2] + 2 * small[:, 1:-1] + small[:, 2:]
    small = small[:, :, :-2] + 2 * small[:, :, 1:-1] + small[:, :, 2:]
    flat = small.reshape(n, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def nearest(
    train: UInt8[np.ndarray, "n 64 64"], test: UInt8[np.ndarray, "m 64 64"]
) -> Int[np.ndarray, " m"]:
    """The row of the training image that correlates best with each test image; ties: the first."""
    expected = describe(test)
    best, rows = np.full(len(test), -np.inf, np.float32), np.zeros(len(test), np.int64)
    for start in range(0, len(train), _TRAIN_ROWS):
        likeness = expected @ describe(train[start : start + _TRAIN_ROWS]).T
        found = likeness.argmax(axis=1)
        highest = likeness[np.arange(len(test)), found]
        rows = np.where(highest > best, start + found, rows)
        best = np.maximum(best, highest)
        print(f"{min(start + _TRAIN_ROWS, len(train)):,} of {len(train):,}", file=sys.stderr)
    return rows


def summarise(dataset: Path) -> dict[str, Any]:
    """Top-1 and the mean over classes of the test split, each with n and interval."""
    train, test = load_split(dataset, "train"), load_split(dataset, "test")
    is_right = train.labels[nearest(train.images, test.images)] == test.labels
    rng, manifest = np.random.default_rng(0), load_manifest(dataset)
    return {
        "version": 1,
        "dataset_fingerprint": manifest["fingerprint"],
        "protocol": manifest["protocol"],
        "num_classes": manifest["splits"]["train"]["num_classes"],
        "num_train": len(train.labels),
        "top1": intervals.share(int(is_right.sum()), len(is_right)),
        "macro": macro_recall(test.labels, is_right, int(test.labels.max()) + 1, rng),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--add", metavar="NAME", help="keep the scores under this name")
    args = parser.parse_args(argv)
    try:
        summary = summarise(args.dataset)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    for name in ("top1", "macro"):
        low, high = summary[name]["ci95"]
        value = summary[name]["value"]
        print(
            f"{name:6} {100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}] "
            f"n={summary[name]['n']:,}"
        )
    if args.add:
        write_json(SUMMARIES / f"{args.add}.json", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
