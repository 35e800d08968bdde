"""What a model reads of photographed pages, and what its verdicts are worth there.

    python scripts/experiments/photographs.py --model M --dataset DATASET \\
        [--scans SCANS] [--crops CROPS] [--shapes SHAPES] [--add NAME]

SCANS holds pages `<book>_<page>.jpg` and boxes.csv with the columns page, codepoint, x, y, w, h;
CROPS holds labels.csv with the columns file, codepoint and page; SHAPES holds CODH's character
shapes by book and crops.csv, of which held-out books are read, less the characters that a published
image shows (same_character_in). DATASET says which books the model
was trained on: pages of those are reported apart, for it has seen them. Every character counts, a
character outside the index and a blank crop as a misreading. --add keeps the summary in
docs/results/photographs/, for results.py.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import summaries
from summaries import told, write_json

from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.data.scripts import SCRIPTS, script_of
from kkanji_jax.evaluation import intervals
from kkanji_jax.evaluation.calibration import CALIBRATED_VERDICTS
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.inputs.box_crops import crops_of
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages.box import Box

SUMMARIES = summaries.SUMMARIES / "photographs"


class Shown(NamedTuple):
    """One photographed character: the set it is of, its book, its code point, its picture."""

    set_name: str
    book: str
    codepoint: str
    image: Any


def read_scans(folder: Path) -> Iterator[Shown]:
    """Every box of boxes.csv, cut out of its page; ValueError for one that is not on it."""
    by_page: dict[str, list[dict[str, str]]] = {}
    with (folder / "boxes.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            by_page.setdefault(row["page"], []).append(row)
    for page, rows in sorted(by_page.items()):
        boxes = [
            Box(int(row["x"]), int(row["y"]), int(row["w"]), int(row["h"]), row["codepoint"])
            for row in rows
        ]
        for found in crops_of([ImageInput(str(folder / f"{page}.jpg"))], boxes):
            if found.error:
                raise ValueError(f"{found.path}: {found.error}")
            yield Shown("page_scans", page.split("_")[0], found.id, found.image)


def read_crops(folder: Path) -> Iterator[Shown]:
    """Every crop of labels.csv."""
    with (folder / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            book = row["page"].split("_")[0]
            yield Shown("page_crops", book, row["codepoint"], folder / row["file"])


def read_shapes(folder: Path, manifest: dict[str, Any]) -> Iterator[Shown]:
    """The crops of the books that the dataset holds out; those it was trained on are no test."""
    held_out = {*manifest["val_books"], *manifest["test_books"]}
    with (folder / "crops.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["book"] in held_out and not row["same_character_in"]:
                place = folder / row["book"] / "characters" / row["codepoint"] / row["file"]
                yield Shown("char_shapes", row["book"], row["codepoint"], place)


def role_of(book: str, manifest: dict[str, Any]) -> str:
    """Whether a book is the dataset's for train, val or test, or none of its books."""
    for name in ("val", "test"):
        if book in manifest[f"{name}_books"]:
            return f"{name} book"
    known = {known for source in manifest["sources"] for known in source.get("books", ())}
    return "train book" if book in known else "new book"


def rows_of(
    shown: Sequence[Shown], recogniser: Recogniser, manifest: dict[str, Any]
) -> list[dict[str, Any]]:
    """The scores of each script in each set and role: top-1, and right by verdict."""
    readings = recogniser.predict([each.image for each in shown], top_k=1)
    known = set(recogniser.class_index.codepoints)
    groups: dict[tuple[str, str, str], list[int]] = {}
    for row, each in enumerate(shown):
        key = (each.set_name, role_of(each.book, manifest), script_of(each.codepoint))
        groups.setdefault(key, []).append(row)
    right = [
        bool(len(reading)) and reading[0].codepoint == each.codepoint
        for each, reading in zip(shown, readings, strict=True)
    ]
    rows = []
    for (set_name, role, script), inside in sorted(
        groups.items(), key=lambda item: (*item[0][:2], SCRIPTS.index(item[0][2]))
    ):
        verdicts = {}
        for verdict in CALIBRATED_VERDICTS:
            given = [row for row in inside if readings[row].verdict == verdict]
            verdicts[verdict] = intervals.share(sum(right[row] for row in given), len(given))
        rows.append(
            {
                "set": set_name,
                "role": role,
                "books": sorted({shown[row].book for row in inside}),
                "script": script,
                "n": len(inside),
                "num_known": sum(shown[row].codepoint in known for row in inside),
                "top1": intervals.share(sum(right[row] for row in inside), len(inside)),
                "verdicts": verdicts,
            }
        )
    return rows


def summarise(args: argparse.Namespace) -> dict[str, Any]:
    """All rows, and whose they are."""
    manifest = load_manifest(args.dataset)
    shown: list[Shown] = []
    shown += read_scans(args.scans) if args.scans else []
    shown += read_crops(args.crops) if args.crops else []
    shown += read_shapes(args.shapes, manifest) if args.shapes else []
    if not shown:
        raise ValueError("expected --scans, --crops or --shapes, with a character in them")
    recogniser = load(args.model)
    return {
        "version": 1,
        "step": recogniser.step,
        "weights": recogniser.weights,
        "num_classes": len(recogniser.class_index),
        "dataset_fingerprint": manifest["fingerprint"],
        "rows": rows_of(shown, recogniser, manifest),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="M", help="a run or a bundle (default: the package's)")
    parser.add_argument("--dataset", type=Path, required=True, help="what it was trained on")
    parser.add_argument("--scans", type=Path, help="pages and their boxes")
    parser.add_argument("--crops", type=Path, help="characters cut out of pages")
    parser.add_argument("--shapes", type=Path, help="CODH's character shapes by book")
    parser.add_argument("--add", metavar="NAME", help="keep the summary under this name")
    args = parser.parse_args(argv)
    try:
        summary = summarise(args)
    except (ValueError, OSError, KeyError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    for row in summary["rows"]:
        print(
            f"{row['set']}, {row['role']}, {row['script']} ({row['num_known']} of {row['n']} in "
            f"the index): {told(row['top1'])}; accept {told(row['verdicts']['accept'])}"
        )
    if args.add:
        write_json(SUMMARIES / f"{args.add}.json", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
