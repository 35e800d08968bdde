"""Reads images of single characters: `python -m kkanji_jax.predict PATH... [--model M]`.

PATH is an image, a folder (all images in it and below, sorted), or - for one image on standard
input; with --boxes, a whole page. There is one row per candidate, best first. An image that cannot
be read gives a row with an error, and the exit status is then 1. The columns are documented in
docs/predict.md.

verdict: accept, ask or unknown if the model is calibrated; blank for an image without ink; unclear
if ink and paper cannot be told apart.
"""

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from kkanji_jax import __version__, cli
from kkanji_jax.answers.drawing import Drawing, steps_taker
from kkanji_jax.answers.page_readings import PagesOfRows
from kkanji_jax.answers.predict_request import (
    DEFAULTS,
    MOST_WORKERS,
    PredictRequest,
    row_options_of,
)
from kkanji_jax.answers.row_formats import FORMATS
from kkanji_jax.answers.rows import Row, predict_rows
from kkanji_jax.answers.rows_destination import open_rows
from kkanji_jax.answers.tally import Tally, tally_lines
from kkanji_jax.answers.transcript import TRANSCRIPTS, about_reader, written_as
from kkanji_jax.inputs.finding import find_images, only_page, require_not_one_error
from kkanji_jax.inputs.image_input import ImageInput


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "kkanji_jax.predict", __doc__ or "", "scans/ --format csv --out readings.csv"
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image, folder of images, PDF, -, IIIF address, or .txt or .json file with a list of "
        "IIIF addresses; with --engine ray also .tar, .parquet, s3://, gs://",
    )
    add("--model", metavar="M", help="folder of a run, or a bundle (default: the package's)")
    add(
        "--backend",
        choices=("jax", "onnx"),
        help="onnx starts faster on a CPU, and needs onnxruntime (default: jax; with --engine ray: "
        "onnx, or jax on GPUs)",
    )
    add("--weights", choices=("ema", "raw"), help="default: ema where the run kept an average")
    add("--top-k", type=int, metavar="K", help="candidates per image")
    add(
        "--chars",
        metavar="WHICH",
        help="answer only with kanji, kana, or the characters listed in a file",
    )
    add(
        "--min-probability",
        type=float,
        metavar="P",
        help="leave out candidates below P; an image without any left is unknown",
    )
    add(
        "--neighbours",
        type=int,
        metavar="N",
        help="also give the N most similar training images, by sample id",
    )
    add("--dataset", type=Path, help="dataset that --neighbours needs the first time")
    add(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="PATH is a page: read the boxes in this CSV, COCO, Koten-OCR, PAGE, TEI or IIIF file",
    )
    add("--base-url", metavar="URL", help="base of relative addresses in a list (default: none)")
    add("--annotate", metavar="OUT.png", help="draw the page with boxes and readings")
    add(
        "--review",
        metavar="OUT.html",
        help="write a page on which to correct readings; evaluate and build take its labels",
    )
    add(
        "--invert",
        choices=("auto", "yes", "no"),
        help="yes: the ink is brighter than the paper (default: auto, found for each image)",
    )
    add(
        "--orient",
        choices=("no", "auto"),
        help="auto: turn images that lie on their side or upside down; a remark says so "
        "(default: no)",
    )
    add(
        "--show-steps",
        metavar="OUT.png",
        help="draw how each of the first 40 images became a glyph",
    )
    add(
        "--format",
        choices=(*FORMATS, *TRANSCRIPTS),
        help="format of the rows; with --boxes also transcript and tei: the text of the pages in "
        "reading order",
    )
    add("--out", metavar="FILE", help="file to write (default: standard output)")
    add("--bom", action="store_true", help="mark CSV as UTF-8, for Excel")
    add(
        "--engine",
        choices=("local", "ray"),
        help="ray: read on a Ray cluster, and write Parquet files to the folder --out "
        "(docs/scaling.md)",
    )
    add(
        "--address",
        metavar="A",
        help="address of the Ray cluster (default: RAY_ADDRESS, or this machine)",
    )
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes that decode images, if there are many (default: one for each core, at most "
        f"{MOST_WORKERS}); with --engine ray: workers (default: as many as fit)",
    )
    add("--cpus", type=int, metavar="N", help="CPUs for each Ray worker")
    add("--per-gpu", type=int, metavar="N", help="Ray workers a GPU; 0: on CPUs")
    add("--partition", type=int, metavar="N", help="images in a Parquet file")
    parser.set_defaults(**DEFAULTS)
    return parser


def predict(args: argparse.Namespace) -> int:
    """Writes the rows; returns how many images could not be read."""
    request = PredictRequest.of_flags(vars(args), __version__)
    request.validate()
    passed_over: Counter[str] = Counter()
    if request.engine == "ray":
        from kkanji_jax.cluster.collection_reader import read_on_cluster

        tally = read_on_cluster(request, passed_over)
    else:
        tally = _read_here(request, passed_over)
    for line in tally_lines(tally, passed_over):
        print(line, file=sys.stderr)
    return tally.num_errors


def _read_here(request: PredictRequest, passed_over: Counter[str]) -> Tally:
    found = require_not_one_error(find_images(request.paths, passed_over, request.base_url))
    page = None
    if request.annotate:
        page = only_page(found)
        found = iter([page])
    if request.boxes:
        from kkanji_jax.inputs.box_crops import crops_of
        from kkanji_jax.pages.box_files import read_boxes

        found = crops_of(found, read_boxes(request.boxes))

    from kkanji_jax.inference.recogniser import load

    recogniser = load(request.model, weights=request.weights, backend=request.chosen_backend)
    options = row_options_of(request, recogniser)
    drawings = _drawings(request, page)
    options = options._replace(on_steps=steps_taker(drawings))
    render = None
    if request.is_transcript:
        pages = PagesOfRows()
        found = pages.watched(found)
        about = about_reader(recogniser, request.version)
        render = partial(written_as, request.format, pages, about)
    # Rows that go to the same terminal are progress enough.
    is_shown = bool(request.out) or not sys.stdout.isatty()
    with cli.terminable(), cli.Progress() as progress:
        report = progress if is_shown else cli.say_nothing
        with open_rows(request, recogniser, options, render) as out:
            rows = predict_rows(recogniser, out.remaining(found), options, request.num_decoders)
            with contextlib.closing(rows):
                out.write(_watched(rows, drawings, report, out.tally.num_images))
    for drawing in drawings:
        drawing.save()
    return out.tally


def _drawings(request: PredictRequest, page: ImageInput | None) -> list[Drawing]:
    """What is to be drawn beside the rows; `page` is the one to be annotated."""
    drawings: list[Drawing] = []
    if request.annotate and page is not None:
        from kkanji_jax.answers.annotate import AnnotatedPage
        from kkanji_jax.plots.fonts import font_files

        drawings.append(AnnotatedPage(page, request.annotate, font_files()))
    if request.show_steps:
        from kkanji_jax.answers.steps_sheet import StepsSheet

        drawings.append(StepsSheet(request.show_steps))
    if request.review:
        from kkanji_jax.reporting.review_sheet import ReviewSheet

        drawings.append(ReviewSheet(request.review))
    return drawings


def _watched(
    rows: Iterable[Row], drawings: Sequence[Drawing], report: cli.Report, num_images: int
) -> Iterator[Row]:
    """The rows; reports how many images have passed, and shows them to the drawings."""
    for row in rows:
        if row.is_first:
            num_images += 1
            report("images", num_images, None)
        for drawing in drawings:
            drawing.add_row(row)
        yield row


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts; 0, or 1 where a file could not be read or nothing could be done."""
    args = _parser().parse_intermixed_args(argv)  # options may stand between paths

    def work() -> int:
        try:
            return 1 if predict(args) else 0
        except cli.Terminated:
            print("terminated", file=sys.stderr)
            return cli.TERMINATED

    return cli.answer(work)


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.predict` and kkanji-predict."""
    cli.run(main, is_product=True)


if __name__ == "__main__":
    run()
