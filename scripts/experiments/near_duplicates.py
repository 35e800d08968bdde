"""Photographed crops that show the very character of a published image: to be left out of a build.

    python scripts/experiments/near_duplicates.py --source DIR --out CSV [--crops CROPS.csv]

DIR is a source of data_tools.build that has published images and CODH's character shapes. A crop is
listed if its 64x64 glyph correlates with a published image over MAX_CORRELATION, or if the column
same_character_in of CROPS.csv names a published image. Such a crop may else be trained on while the
image is held out. Prints how many crops correlate over which value; `data_tools.build --leave-out`
takes the CSV.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, UInt8

from data_tools.read.catalogue import read_catalogue, stack_images
from kkanji_jax.data.source_looks import look_of
from kkanji_jax.workers import Workers

MAX_CORRELATION = 0.9
_TOLD = (0.8, 0.85, 0.9, 0.93, 0.95)
_ROWS = 4096  # published images compared at a time: 64 MB


def standardised(images: UInt8[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n p"]:
    """The pixels of each, of mean 0 and length 1; zeros for an image of one value."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def most_alike(
    crops: UInt8[np.ndarray, "n h w"], published: UInt8[np.ndarray, "m h w"]
) -> tuple[Float32[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The highest correlation of each crop with a published image, and which image it is."""
    expected = standardised(crops)
    highest, rows = np.full(len(crops), -1, np.float32), np.zeros(len(crops), np.int64)
    for start in range(0, len(published), _ROWS):
        likeness = expected @ standardised(published[start : start + _ROWS]).T
        best = likeness.argmax(axis=1)
        found = likeness[np.arange(len(crops)), best]
        rows = np.where(found > highest, start + best, rows)
        highest = np.maximum(highest, found)
    return highest, rows


def told_by_codh(crops: Path) -> dict[str, str]:
    """The reason by sample id of each crop whose character a published image is known to show.

    `same_character_in` names it as `kmnist-test[58]`, row 58 of the array.
    """
    reasons = {}
    with crops.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["same_character_in"]:
                source, _, number = row["same_character_in"].rstrip("]").partition("[")
                sample_id = f"char-shape/{row['codepoint']}/{Path(row['file']).stem}"
                reasons[sample_id] = f"the same character as {source}/{int(number):06d}"
    return reasons


def find(source: Path, crops: Path | None) -> dict[str, str]:
    """The reason by sample id of each crop to leave out."""
    with Workers(2) as workers:
        originals = read_catalogue(source, workers=workers).originals
    photographed = [o for o in originals if look_of(o.sample_id) == "photographed"]
    published = [o for o in originals if look_of(o.sample_id) != "photographed"]
    if not photographed or not published:
        raise ValueError(f"{source} must have both published images and character shapes")
    highest, rows = most_alike(
        stack_images(o.pixels for o in photographed), stack_images(o.pixels for o in published)
    )
    for value in _TOLD:
        print(f"{(highest > value).sum():,} of {len(photographed):,} crops correlate over {value}")
    reasons = told_by_codh(crops) if crops else {}
    print(f"{len(reasons):,} are known to show the character of a published image")
    for crop, value, row in zip(photographed, highest, rows, strict=True):
        if value > MAX_CORRELATION:
            reason = f"like {published[row].sample_id} (correlation {value:.3f})"
            reasons.setdefault(crop.sample_id, reason)
    return reasons


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV")
    parser.add_argument("--crops", type=Path, metavar="CSV", help="with same_character_in")
    args = parser.parse_args(argv)
    try:
        reasons = find(args.source, args.crops)
    except (ValueError, OSError, KeyError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    with args.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("sample_id", "reason"))
        writer.writerows(sorted(reasons.items()))
    print(f"wrote {args.out}: {len(reasons):,} crops")
    return 0


if __name__ == "__main__":
    sys.exit(main())
