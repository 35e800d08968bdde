"""Reads images of single characters: `python -m kkanji_jax.predict PATH... --model M`.

PATH is an image or a folder (all images in it and below, sorted). One row per candidate, best
first: path, rank, character, codepoint, probability, verdict, error. What cannot be read is a row
with its error, and the exit status is then 1. The verdict is `blank` for an image without ink and
empty otherwise: models carry no calibration yet.
"""

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from kkanji_jax.recogniser import Recogniser

FORMATS = ("text", "csv", "json", "jsonl")
BATCH_SIZE = 128  # images in memory at a time


class Row(NamedTuple):
    """One line of the answer; None where it does not apply."""

    path: str
    rank: int | None = None
    character: str | None = None
    codepoint: str | None = None
    probability: float | None = None
    verdict: str = ""
    error: str = ""


class Found(NamedTuple):
    """A file to read, or why there is none."""

    path: str
    error: str = ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kkanji_jax.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image, or folder of images")
    parser.add_argument("--model", metavar="M", help="folder of a run, as runs/b0")
    parser.add_argument(
        "--top-k", type=int, default=5, metavar="K", help="candidates for each image (default: 5)"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument("--bom", action="store_true", help="mark CSV as UTF-8, as Excel wants it")
    parser.add_argument(
        "--weights", choices=("ema", "raw"), help="default: ema where the run kept an average"
    )
    return parser


# --- files -------------------------------------------------------------------------------------


def find_images(paths: Iterable[str]) -> Iterator[Found]:
    """Every image of the paths given, in sorted order; a path that yields none, with its error.

    Folders are searched to the bottom; links to folders are not followed, hidden files and files
    without an image's suffix are passed over.
    """
    for path in sorted(paths):
        if os.path.isdir(path):
            inside = _walk(path)
            first = next(inside, Found(path, "no images in this folder"))
            yield first
            yield from inside
        elif os.path.isfile(path):
            yield Found(path)
        else:
            is_there = os.path.lexists(path)
            yield Found(path, "neither a file nor a folder" if is_there else "no such file")


def _walk(folder: str) -> Iterator[Found]:
    from kkanji_jax.data.glyph_image import SUFFIXES

    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as err:
        yield Found(folder, f"cannot list this folder: {err.strerror}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
            yield Found(entry.path)


# --- rows --------------------------------------------------------------------------------------


def predict_rows(recogniser: "Recogniser", found: Iterable[Found], top_k: int) -> Iterator[Row]:
    """Rows of every file in order; at most BATCH_SIZE images are held at a time."""
    import numpy as np

    from kkanji_jax.data.glyph_image import glyph_image, is_blank

    remaining = iter(found)
    while batch := list(itertools.islice(remaining, BATCH_SIZE)):
        glyphs: dict[int, Any] = {}
        errors: dict[int, str] = {}
        for position, (path, error) in enumerate(batch):
            try:
                if error:
                    errors[position] = error
                else:
                    glyphs[position] = glyph_image(path)
            except (ValueError, OSError) as err:
                errors[position] = " ".join(str(err).split())
        answers: dict[int, Any] = {}
        if glyphs:
            predicted = recogniser.predict_glyphs(np.stack(list(glyphs.values())), top_k)
            answers = dict(zip(glyphs, predicted, strict=True))
        for position, found_file in enumerate(batch):
            # File names are UTF-8 here whatever the locale; other bytes show as \xff.
            path = os.fsencode(found_file.path).decode("utf-8", "backslashreplace")
            if position in errors:
                yield Row(path, error=errors[position])
                continue
            verdict = "blank" if is_blank(glyphs[position]) else ""
            for candidate in answers[position]:
                yield Row(
                    path,
                    candidate.rank,
                    candidate.character,
                    candidate.codepoint,
                    candidate.probability,
                    verdict,
                )


def write_rows(rows: Iterable[Row], file: Any, form: str) -> None:
    """Writes rows as they come: `text` (tab-separated), `csv`, `json` (one array) or `jsonl`."""
    if form == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in rows:
            shown = "" if row.probability is None else f"{row.probability:.6f}"
            writer.writerow(row._replace(probability=shown))  # pyright: ignore[reportArgumentType]
    elif form == "text":
        for row in rows:
            if row.error:
                file.write(f"{_printable(row.path)}\terror: {_printable(row.error)}\n")
            else:
                told = [_printable(row.path), str(row.rank), row.character, row.codepoint,
                        f"{row.probability:.4f}", row.verdict]  # fmt: skip
                file.write("\t".join(str(field) for field in told).rstrip("\t") + "\n")
    else:
        before = "[\n" if form == "json" else ""
        for row in rows:
            text = json.dumps(row._asdict(), ensure_ascii=False)
            file.write(f"{before}{text}" if form == "json" else f"{text}\n")
            before = ",\n"
        if form == "json":
            file.write("[]\n" if before == "[\n" else "\n]\n")


def _printable(text: str) -> str:
    """Control characters escaped: a file's name must not drive the reader's terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Tally:
    """Counts images and errors as rows pass; shows progress on a terminal."""

    def __init__(self) -> None:
        self.num_images = self.num_errors = self.num_blank = 0
        # Rows that go to the same terminal are progress enough.
        self._is_shown = sys.stderr.isatty() and not sys.stdout.isatty()

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if row.rank in (None, 1):
                self.num_images += 1
                self.num_errors += bool(row.error)
                self.num_blank += row.verdict == "blank"
                if self._is_shown and self.num_images % BATCH_SIZE == 0:
                    print(f"\r{self.num_images:,} images", end="", file=sys.stderr, flush=True)
            yield row
        if self._is_shown:
            print(f"\r{self.num_images:,} images", file=sys.stderr)


# --- the door ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _output(path: Path | None, has_bom: bool) -> Iterator[Any]:
    """Standard output or a file that appears when whole; UTF-8 whatever the locale."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
        if has_bom:
            sys.stdout.write("\ufeff")
        yield sys.stdout
        sys.stdout.flush()
        return
    unfinished = path.with_name(path.name + ".unfinished")
    encoding = "utf-8-sig" if has_bom else "utf-8"
    try:
        with unfinished.open(
            "w", encoding=encoding, errors="backslashreplace", newline="\n"
        ) as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def predict(args: argparse.Namespace) -> int:
    """Writes the rows; returns how many files could not be read."""
    if args.top_k < 1:
        raise ValueError(f"wanted a --top-k of at least 1, got {args.top_k}")
    found = find_images(args.paths)
    first = next(found)
    if first.error and len(args.paths) == 1:
        raise ValueError(f"{first.path}: {first.error}")

    from kkanji_jax.recogniser import load

    recogniser = load(args.model, weights=args.weights)
    tally = _Tally()
    rows = predict_rows(recogniser, itertools.chain([first], found), args.top_k)
    with _output(args.out, args.bom and args.format == "csv") as file:
        write_rows(tally.watch(rows), file, args.format)
    for count, what in ((tally.num_errors, "could not be read"), (tally.num_blank, "have no ink")):
        if count:
            print(f"{count:,} of {tally.num_images:,} images {what}", file=sys.stderr)
    return tally.num_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Predicts; 0, or 1 where a file could not be read or nothing could be done."""
    args = _parser().parse_intermixed_args(argv)  # options may stand between paths
    try:
        return 1 if predict(args) else 0
    except BrokenPipeError:
        # The reader has gone, as `head` does; what is buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as err:
        if "KKANJI_TRACEBACK" in os.environ:
            raise
        print(f"error: {' '.join(str(err).split())}", file=sys.stderr)
        return 1


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
