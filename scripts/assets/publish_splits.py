"""Writes which image of Kuzushiji-Kanji is in which split, for people who do not run our code.

    python scripts/assets/publish_splits.py --source data/codh \
        --out docs/splits/kkanji-seed0.csv.xz

One row an image: its id, its code point, its split under the protocol honest, the first 16 hex
digits of the SHA-256 of its pixels, and its split under the protocol 5050. No image is in it.
"""

import argparse
import csv
import io
import lzma
import sys
from pathlib import Path

from data_tools.plan import protocols, split
from data_tools.plan.build_plan import Options, decide
from kkanji_jax.cli import Progress

COLUMNS = ("sample_id", "codepoint", "split", "pixels_sha256", "split_5050")
SOURCE = "kkanji"


def make_table(source: Path) -> str:
    """The published table as CSV text: seed 0, default ratios, nothing left out by size."""
    options = Options().completed()
    decided = decide(source, options, Progress())
    originals = [original for original in decided.kept if original.source == SOURCE]
    halves = protocols.assign(
        "5050", originals, ratios=protocols.DEFAULT_RATIOS["5050"], seed=options.seed
    )
    half_of = {
        original.sample_id: "" if original.codepoint in halves.left_out else half
        for original, half in zip(originals, halves.splits, strict=True)
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in decided.rows:
        if row.sample_id in half_of:
            digest = row.pixels_sha256[: split.MIN_DIGITS]
            fields = (row.sample_id, row.codepoint, row.split, digest, half_of[row.sample_id])
            writer.writerow(fields)
    return text.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="a folder that holds kkanji2")
    parser.add_argument("--out", type=Path, required=True, help="the .csv.xz to write")
    options = parser.parse_args()
    table = make_table(options.source).encode()
    options.out.write_bytes(lzma.compress(table, preset=9 | lzma.PRESET_EXTREME))
    num_rows = table.count(b"\n") - 1
    print(f"{options.out}: {num_rows:,} images, {options.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
