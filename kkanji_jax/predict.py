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
import hashlib
import itertools
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kkanji_jax import __version__, cli
from kkanji_jax.files import file_named, is_written_through, sha256_of
from kkanji_jax.inference.inputs import STANDARD_INPUT, find_images, told_counts
from kkanji_jax.inference.output import FORMATS, RowFormat, open_output, write_rows
from kkanji_jax.inference.output_paths import require_apart
from kkanji_jax.inference.page_readings import PagesOfRows
from kkanji_jax.inference.partial_rows import PartialRows, Tally, images_of
from kkanji_jax.inference.rows import Row, RowOptions, predict_rows
from kkanji_jax.inference.transcript import TRANSCRIPTS, written_as
from kkanji_jax.workers import num_cores

if TYPE_CHECKING:
    from kkanji_jax.glyphs.glyph_image import Steps
    from kkanji_jax.inference.inputs import ImageInput
    from kkanji_jax.inference.recogniser import Recogniser
    from kkanji_jax.reporting.review_sheet import ReviewSheet

SCRIPTS = ("kanji", "kana")  # what --chars takes for a name, and not for a file
MOST_NAMED = 40  # characters in one line
MOST_WORKERS = 8  # unless more are asked for: each is a process with its own memory
TERMINATED = 143  # 128 + SIGTERM, as shells have it


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
    add("--top-k", type=int, default=5, metavar="K", help="candidates per image")
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
        help="also give the N most similar training images, by sample id",
    )
    add("--dataset", type=Path, help="dataset that --neighbours needs the first time")
    add(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="PATH is a page: read the boxes in this CSV, COCO, Koten-OCR, PAGE, TEI or IIIF file",
    )
    add(
        "--base-url",
        default="",
        metavar="URL",
        help="base of relative addresses in a list (default: none)",
    )
    add("--annotate", metavar="OUT.png", help="draw the page with boxes and readings")
    add(
        "--review",
        metavar="OUT.html",
        help="write a page on which to correct readings; evaluate and build take its labels",
    )
    add(
        "--invert",
        choices=("auto", "yes", "no"),
        default="auto",
        help="yes: the ink is brighter than the paper (default: auto, found for each image)",
    )
    add(
        "--orient",
        choices=("no", "auto"),
        default="no",
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
        default="text",
        help="format of the rows; with --boxes also transcript and tei: the text of the pages in "
        "reading order",
    )
    add("--out", metavar="FILE", help="file to write (default: standard output)")
    add("--bom", action="store_true", help="mark CSV as UTF-8, for Excel")
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
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
    add("--cpus", type=int, default=1, metavar="N", help="CPUs for each Ray worker")
    add("--per-gpu", type=int, default=0, metavar="N", help="Ray workers a GPU; 0: on CPUs")
    add("--partition", type=int, default=4096, metavar="N", help="images in a Parquet file")
    return parser


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C does, with the exit status of the other signal."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds the block as Ctrl-C does, so that finished rows are kept."""

    def stop(number: int, frame: object) -> NoReturn:
        raise Terminated

    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _name_outputs(args: argparse.Namespace) -> None:
    """Makes paths of the names of outputs; ValueError if a folder is named where a file is meant.

    On a cluster --out is a folder.
    """
    for name in ("out", "annotate", "show_steps", "review"):
        text = getattr(args, name)
        if text is None:
            continue
        is_folder = name == "out" and args.engine == "ray"
        path = Path(text) if is_folder else file_named(text, f"--{name.replace('_', '-')}")
        setattr(args, name, path)


def _check(args: argparse.Namespace) -> None:
    if args.top_k < 1:
        raise ValueError(f"--top-k must be at least 1, not {args.top_k}")
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be at least 1, not {args.workers}")
    if args.neighbours < 0:
        raise ValueError(f"--neighbours must be at least 0, not {args.neighbours}")
    if not 0 <= args.min_probability <= 1:
        raise ValueError(f"--min-probability must be in [0, 1], not {args.min_probability}")
    if args.annotate and (not args.boxes or len(args.paths) != 1 or os.path.isdir(args.paths[0])):
        raise ValueError("--annotate needs one page, and --boxes with its boxes")
    if args.base_url and not args.base_url.startswith(("http://", "https://")):
        raise ValueError(f"--base-url must begin with http:// or https://, not {args.base_url}")
    if args.format in TRANSCRIPTS and not args.boxes:
        raise ValueError(f"--format {args.format} is of pages: give --boxes with their boxes")
    for flag, path in (("--annotate", args.annotate), ("--show-steps", args.show_steps)):
        if path and path.suffix.lower() != ".png":
            raise ValueError(f"{flag} must end in .png, not {path}")
    if args.review and args.review.suffix.lower() != ".html":
        raise ValueError(f"--review must end in .html, not {args.review}")
    if args.review and STANDARD_INPUT in args.paths:
        raise ValueError("--review names images by their files: give a path instead of -")
    written = {"--out": args.out, "--annotate": args.annotate, "--show-steps": args.show_steps}
    written |= {"--review": args.review}
    is_listed = args.chars and args.chars not in SCRIPTS
    read = {
        "--boxes": args.boxes,
        "--chars": Path(args.chars) if is_listed else None,
        "--model": Path(args.model) if args.model else None,
        "--dataset": args.dataset,
    }
    require_apart(
        {flag: path for flag, path in written.items() if path},
        {flag: path for flag, path in read.items() if path},
        args.paths,
    )


def _row_options(args: argparse.Namespace, recogniser: "Recogniser") -> RowOptions:
    characters = index = None
    if args.chars:
        from kkanji_jax.data.class_index import codepoint_of
        from kkanji_jax.inference.allowed_characters import characters_of

        characters, lacking = characters_of(args.chars, recogniser.class_index)
        if lacking:
            told = " ".join(f"{c} {codepoint_of(c)}" for c in lacking[:MOST_NAMED])
            rest = f" and {len(lacking) - MOST_NAMED:,} more" if len(lacking) > MOST_NAMED else ""
            print(
                f"the model lacks {len(lacking):,} of the characters in {args.chars}: {told}{rest}",
                file=sys.stderr,
            )
    if args.neighbours:
        from kkanji_jax.inference.neighbours import cached_index

        with cli.Progress() as progress:
            index = cached_index(recogniser, args.dataset, progress)
    return RowOptions(
        args.top_k,
        characters,
        args.min_probability,
        index,
        args.neighbours,
        is_ink_bright={"auto": None, "yes": True, "no": False}[args.invert],
        orient=args.orient,
    )


def _identity(
    args: argparse.Namespace, recogniser: "Recogniser", options: RowOptions
) -> dict[str, str]:
    """All that decides about rows, by the name that a message gives it."""
    index = options.index
    told = {
        "model": recogniser.digest,
        "--backend": args.backend or "jax",
        "--top-k": args.top_k,
        "--chars": None if options.characters is None else "".join(sorted(options.characters)),
        "--min-probability": args.min_probability,
        "--neighbours": args.neighbours,
        "--dataset": index and hashlib.sha256(index.vectors.tobytes()).hexdigest(),
        "--invert": args.invert,
        "--orient": args.orient,
        "--boxes": sha256_of(args.boxes) if args.boxes else None,
        "--base-url": args.base_url,
        "--format": args.format,
        "--bom": args.bom,
        "version of kkanji_jax": __version__,
        "working folder": os.getcwd() if any(map(_is_relative, args.paths)) else None,
    }
    return {name: str(value) for name, value in told.items()}


def _is_relative(path: str) -> bool:
    return path != STANDARD_INPUT and "://" not in path and not os.path.isabs(path)


def predict(args: argparse.Namespace) -> int:
    """Writes the rows; returns how many images could not be read."""
    _name_outputs(args)
    _check(args)
    passed_over: Counter[str] = Counter()
    if args.engine == "ray":
        return _predict_on_cluster(args, passed_over)
    found = find_images(args.paths, passed_over, args.base_url)
    begin = list(itertools.islice(found, 2))
    if len(begin) == 1 and begin[0].error:
        raise ValueError(f"{begin[0].path}: {begin[0].error}")
    if args.annotate and len(begin) > 1:
        raise ValueError(f"--annotate needs one page, as {begin[0].path}")
    found = itertools.chain(begin, found)
    if args.boxes:
        from kkanji_jax.inference.box_crops import crops_of
        from kkanji_jax.pages.box_files import read_boxes

        found = crops_of(found, read_boxes(args.boxes))

    from kkanji_jax.inference.recogniser import load

    recogniser = load(args.model, weights=args.weights, backend=args.backend or "jax")
    options, sheet = _row_options(args, recogniser), None
    if args.show_steps:
        from kkanji_jax.inference.steps_sheet import StepsSheet

        sheet = StepsSheet()
        options = options._replace(on_steps=sheet.add)
    review = None
    if args.review:
        from kkanji_jax.reporting.review_sheet import ReviewSheet

        review = ReviewSheet(args.review)
        options = options._replace(on_steps=_both(options.on_steps, review.add))
    # Rows that go to the same terminal are progress enough.
    is_shown = bool(args.out) or not sys.stdout.isatty()
    drawn: list[Row] = []
    form = RowFormat(args.format, args.bom and args.format == "csv")
    render, num_workers = None, args.workers or min(num_cores(), MOST_WORKERS)
    if args.format in TRANSCRIPTS:
        read, form = PagesOfRows(), RowFormat("jsonl")
        found = read.watched(found)
        render = partial(written_as, args.format, read, _about(recogniser))
    with _terminable(), cli.Progress() as progress:
        watch = _Watch(progress if is_shown else cli.say_nothing, drawn if args.annotate else None)
        watch.review = review
        if args.out and not is_written_through(args.out):
            identity = _identity(args, recogniser, options)
            # A drawing needs every row, those of an earlier run too.
            is_resumed = not (args.annotate or args.show_steps or args.review)
            with PartialRows(args.out, form, identity, is_resumed=is_resumed, render=render) as out:
                watch.tally = out.tally
                rows = predict_rows(recogniser, out.remaining(found), options, num_workers)
                with contextlib.closing(rows):
                    out.write(watch.over(rows))
        else:
            with open_output(args.out) as file:
                rows = predict_rows(recogniser, found, options, num_workers)
                with contextlib.closing(rows):
                    if render is None:
                        write_rows(watch.over(rows), file, form)
                    else:
                        file.writelines(render(images_of(watch.over(rows))))
    if args.annotate:
        from kkanji_jax.inference.annotate import annotate_page
        from kkanji_jax.plots.fonts import font_files

        annotate_page(begin[0].source(), drawn, args.annotate, font_files())
    if sheet is not None:
        sheet.save(args.show_steps)
    if review is not None:
        review.save()
        if review.num_left_out:
            print(
                f"{args.review} holds the first {review.num_images:,} images; "
                f"{review.num_left_out:,} more have no room on it: read them apart",
                file=sys.stderr,
            )
    _tell(watch.tally, passed_over)
    return watch.tally.num_errors


def _predict_on_cluster(args: argparse.Namespace, passed_over: Counter[str]) -> int:
    """`predict` with --engine ray."""
    if args.out is None:
        raise ValueError("--engine ray writes a folder of Parquet files: give --out DIR")
    if args.format in TRANSCRIPTS:
        raise ValueError(f"--engine ray writes rows: leave out --format {args.format}")
    for flag in ("annotate", "review", "show_steps", "base_url", "bom"):
        if getattr(args, flag):
            raise ValueError(f"--{flag.replace('_', '-')} is not for --engine ray: leave it out")
    for flag, least in (("cpus", 1), ("per_gpu", 0)):
        if getattr(args, flag) < least:
            raise ValueError(f"--{flag.replace('_', '-')} must be at least {least}")
    from kkanji_jax.cluster.collection_reader import Request, read_collection
    from kkanji_jax.cluster.partition_reader import load_same
    from kkanji_jax.cluster.ray_workers import Resources
    from kkanji_jax.inference.recogniser import load
    from kkanji_jax.pages.box_files import read_boxes

    args.backend = args.backend or ("jax" if args.per_gpu else "onnx")
    model = os.path.abspath(args.model) if args.model else None
    recogniser = load(model, weights=args.weights, backend=args.backend)
    options = _row_options(args, recogniser)
    identity = _identity(args, recogniser, options)
    request = Request(
        args.paths,
        args.out,
        {name: value for name, value in identity.items() if name not in ("--format", "--bom")},
        partial(load_same, model, args.weights, args.backend, recogniser.digest),
        options,
        read_boxes(args.boxes) if args.boxes else None,
        args.partition,
    )
    resources = Resources(args.address, args.workers, args.cpus, args.per_gpu)
    with _terminable(), cli.Progress() as progress:
        tally = read_collection(request, resources, passed_over, progress)
    _tell(tally, passed_over)
    return tally.num_errors


def _about(recogniser: "Recogniser") -> dict[str, str]:
    """Who reads, as a transcript tells it; ValueError for a model without verdicts."""
    if recogniser.accuracy_of("accept") is None:
        raise ValueError(
            "a transcript needs verdicts, and this model is not calibrated: run "
            "kkanji_jax.evaluate --of val, or give a --format of rows"
        )
    return {"version": __version__, "model": recogniser.digest}


class _Watch:
    """Counts images as their rows pass, reports how many, and keeps first rows in `drawn`."""

    def __init__(self, report: cli.Report, drawn: list[Row] | None) -> None:
        self.tally = Tally()
        self.review: ReviewSheet | None = None
        self._report, self._drawn = report, drawn

    def over(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, watched."""
        for row in rows:
            if row.rank in (None, 1):
                self.tally = self.tally.with_image(row)
                self._report("images", self.tally.num_images, None)
                if self._drawn is not None:
                    self._drawn.append(row)
            if self.review is not None:
                self.review.add_row(row)
            yield row


def _both(
    first: "Callable[[ImageInput, Steps], None] | None",
    second: "Callable[[ImageInput, Steps], None]",
) -> "Callable[[ImageInput, Steps], None]":
    """What tells two of each image's steps."""

    def tell(found: "ImageInput", steps: "Steps") -> None:
        if first is not None:
            first(found, steps)
        second(found, steps)

    return tell


def _tell(tally: Tally, passed_over: Counter[str]) -> None:
    """What a reader should know of the whole, on standard error."""
    for count, what in (
        (tally.num_errors, "could not be read"),
        (tally.num_blank, "have no ink"),
        (tally.num_unclear, "are unclear: their ink and paper cannot be told apart"),
        (tally.num_several, "seem to hold several characters: cut them apart, or use --boxes"),
    ):
        if count:
            print(f"{count:,} of {tally.num_images:,} images {what}", file=sys.stderr)
    if passed_over:
        told = told_counts(passed_over)
        print(f"passed over in folders, being no images: {told}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts; 0, or 1 where a file could not be read or nothing could be done."""
    args = _parser().parse_intermixed_args(argv)  # options may stand between paths

    def work() -> int:
        try:
            return 1 if predict(args) else 0
        except Terminated:
            print("terminated", file=sys.stderr)
            return TERMINATED

    return cli.answer(work)


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.predict` and kkanji-predict."""
    cli.run(main, is_product=True)


if __name__ == "__main__":
    run()
