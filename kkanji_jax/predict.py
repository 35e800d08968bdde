"""Reads images of single characters: `python -m kkanji_jax.predict PATH... [--model M]`.

PATH is an image, a folder (all images in it and below, sorted), or - for one image on standard
input; with --boxes, a whole page. One row per candidate, best first. What cannot be read is a row
with its error, and the exit status is then 1. The columns are documented in docs/predict.md.

verdict: accept, ask or unknown where the model is calibrated; blank for an image without ink;
unclear where ink and paper cannot be told apart.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kkanji_jax import cli
from kkanji_jax.inference.inputs import find_images
from kkanji_jax.inference.output import FORMATS, open_output, write_rows
from kkanji_jax.inference.rows import Asked, Row, predict_rows

if TYPE_CHECKING:
    from kkanji_jax.inference.recogniser import Recogniser


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "kkanji_jax.predict", __doc__ or "", "scans/ --format csv --out readings.csv"
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="image, folder of images, or -")
    add("--model", metavar="M", help="folder of a run, or a bundle (default: the package's)")
    add(
        "--backend",
        choices=("jax", "onnx"),
        default="jax",
        help="onnx is the quicker one on a CPU, and needs onnxruntime",
    )
    add("--weights", choices=("ema", "raw"), help="default: ema where the run kept an average")
    add("--top-k", type=int, default=5, metavar="K", help="candidates an image")
    add(
        "--chars",
        metavar="WHICH",
        help="answer only with kanji, kana, or the characters listed in a file",
    )
    add(
        "--min-probability",
        type=float,
        default=0.0,
        metavar="P",
        help="leave out candidates below P; an image without any left is unknown",
    )
    add(
        "--neighbours",
        type=int,
        default=0,
        metavar="N",
        help="also the N training images that look most alike, by sample id",
    )
    add("--dataset", type=Path, help="where --neighbours finds them, for the first time")
    add(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="PATH is a page: read its boxes, CSV with x,y,w,h or U+XXXX x y w h ...",
    )
    add("--annotate", type=Path, metavar="OUT.png", help="the page with its boxes and readings")
    add(
        "--invert",
        choices=("auto", "yes", "no"),
        default="auto",
        help="yes: the ink is brighter than the paper (default: auto, found for each image)",
    )
    add(
        "--show-steps",
        type=Path,
        metavar="OUT.png",
        help="how each image became what the network sees; the first 40",
    )
    add("--format", choices=FORMATS, default="text", help="of the rows")
    add("--out", type=Path, metavar="FILE", help="default: standard output")
    add("--bom", action="store_true", help="mark CSV as UTF-8, as Excel wants it")
    return parser


SEVERAL = "several characters"  # of glyph_image's remarks


class _Tally:
    """Counts images and errors as rows pass, and reports how many."""

    def __init__(self, report: cli.Report) -> None:
        self.num_images = self.num_errors = self.num_blank = self.num_unclear = 0
        self.num_several = 0
        self._report = report

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if row.rank in (None, 1):
                self.num_images += 1
                self.num_errors += bool(row.error)
                self.num_blank += row.verdict == "blank"
                self.num_unclear += row.verdict == "unclear"
                self.num_several += SEVERAL in row.remark
                self._report("images", self.num_images, None)
            yield row


def _check(args: argparse.Namespace) -> None:
    if args.top_k < 1:
        raise ValueError(f"wanted a --top-k of at least 1, got {args.top_k}")
    if args.neighbours < 0:
        raise ValueError(f"wanted a --neighbours of at least 0, got {args.neighbours}")
    if not 0 <= args.min_probability <= 1:
        raise ValueError(f"wanted a --min-probability in [0, 1], got {args.min_probability}")
    if args.annotate and (not args.boxes or len(args.paths) != 1 or os.path.isdir(args.paths[0])):
        raise ValueError("--annotate wants one page, and --boxes with its boxes")
    for flag, path in (("--annotate", args.annotate), ("--show-steps", args.show_steps)):
        if path and path.suffix.lower() != ".png":
            raise ValueError(f"wanted a file name that ends in .png, got {flag} {path}")


def _asked(args: argparse.Namespace, recogniser: "Recogniser") -> Asked:
    characters = index = None
    if args.chars:
        from kkanji_jax.inference.characters import characters_of

        characters = characters_of(args.chars, recogniser.class_index)
    if args.neighbours:
        from kkanji_jax.inference.neighbours import cached_index

        with cli.Progress() as progress:
            index = cached_index(recogniser, args.dataset, progress)
    return Asked(
        args.top_k,
        characters,
        args.min_probability,
        index,
        args.neighbours,
        is_ink_bright={"auto": None, "yes": True, "no": False}[args.invert],
    )


def predict(args: argparse.Namespace) -> int:
    """Writes the rows; returns how many images could not be read."""
    _check(args)
    found = find_images(args.paths)
    first = next(found)
    if first.error and len(args.paths) == 1:
        raise ValueError(f"{first.path}: {first.error}")
    found = itertools.chain([first], found)
    if args.boxes:
        from kkanji_jax.inference.boxes import crops_of, read_boxes

        found = crops_of(found, read_boxes(args.boxes))

    from kkanji_jax.inference.recogniser import load

    recogniser = load(args.model, weights=args.weights, backend=args.backend)
    # Rows that go to the same terminal are progress enough.
    is_shown = bool(args.out) or not sys.stdout.isatty()
    progress = cli.Progress()
    tally = _Tally(progress if is_shown else cli.say_nothing)
    asked, sheet = _asked(args, recogniser), None
    if args.show_steps:
        from kkanji_jax.inference.steps_sheet import StepsSheet

        sheet = StepsSheet()
        asked = asked._replace(on_steps=sheet.add)
    rows = tally.watch(predict_rows(recogniser, found, asked))
    drawn: list[Row] = []
    with progress, open_output(args.out, args.bom and args.format == "csv") as file:
        write_rows(_kept(rows, drawn) if args.annotate else rows, file, args.format)
    if args.annotate:
        from kkanji_jax.inference.annotate import annotate_page
        from kkanji_jax.plots.fonts import font_files

        annotate_page(args.paths[0], drawn, args.annotate, font_files())
    if sheet is not None:
        sheet.save(args.show_steps)
    for count, what in (
        (tally.num_errors, "could not be read"),
        (tally.num_blank, "have no ink"),
        (tally.num_unclear, "are unclear: their ink and paper cannot be told apart"),
        (tally.num_several, "seem to hold several characters: cut them apart, or use --boxes"),
    ):
        if count:
            print(f"{count:,} of {tally.num_images:,} images {what}", file=sys.stderr)
    return tally.num_errors


def _kept(rows: Iterable[Row], kept: list[Row]) -> Iterator[Row]:
    for row in rows:
        if row.rank in (None, 1):
            kept.append(row)
        yield row


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts; 0, or 1 where a file could not be read or nothing could be done."""
    args = _parser().parse_intermixed_args(argv)  # options may stand between paths
    return cli.answer(lambda: 1 if predict(args) else 0)


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.predict` and kkanji-predict."""
    cli.run(main, is_product=True)


if __name__ == "__main__":
    run()
