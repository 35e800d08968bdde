"""python -m data_tools.download: downloads CODH's files, or a mirror's; resumes and verifies."""

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from data_tools.fetch import sources
from data_tools.fetch.transfer import (
    RefusedError,
    Server,
    UnreachableError,
    check_base_url,
    fetch,
    lock_folder,
)
from kkanji_jax import cli

SETS = ("kkanji", "k49", "kmnist")
LONGEST_TIMEOUT_S = 86_400


def _set_names(text: str) -> list[str]:
    names = text.split(",")
    if wrong := [name for name in names if name not in SETS]:
        raise argparse.ArgumentTypeError(f"expected some of {','.join(SETS)}, got {wrong[0]!r}")
    return names


def _base_url(text: str) -> str:
    try:
        return check_base_url(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise argparse.ArgumentTypeError(
            f"expected seconds, more than 0 and at most {LONGEST_TIMEOUT_S}, got {text!r}"
        )
    return seconds


def make_parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "data_tools.download",
        "Fetches CODH's files (444 MB) into a folder that data_tools.build reads. The same\n"
        "command resumes a download that was stopped, and fetches nothing twice.",
        "--dest data/codh --only kkanji,k49",
    )
    add = parser.add_argument
    add("--dest", type=Path, required=True, metavar="DIR", help="folder to put the files into")
    add(
        "--only",
        type=_set_names,
        default=list(SETS),
        metavar="SETS",
        help="some of kkanji,k49,kmnist (default: all of them)",
    )
    add(
        "--base-url",
        type=_base_url,
        default=sources.BASE_URL,
        metavar="URL",
        help="a mirror laid out like CODH's server: http, https or file:///…",
    )
    add("--retries", type=_retries, default=5, metavar="N", help="attempts after a failed one")
    add(
        "--timeout",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="seconds without a byte before an attempt is given up",
    )
    return parser


def _check_space(expected: list[sources.Archive], dest: Path) -> None:
    missing = 0
    for archive in expected:
        part = dest / f"{archive.name}.part"
        if not (dest / archive.name).exists():
            missing += archive.num_bytes - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(dest).free
    if missing > free:
        raise OSError(f"{dest} needs {missing:,} more bytes and has {free:,} free: make room")


def _advice(expected: list[sources.Archive], args: argparse.Namespace) -> str:
    """What to do if no server answers."""
    missing = [each for each in expected if not (args.dest / each.name).exists()]
    return (
        f"what was received is kept, and the same command resumes; or name a mirror that has "
        f"{missing[0].path} and so on with --base-url; or get "
        f"{', '.join(each.name for each in missing)} by hand, from {sources.PAGE_URL} or another "
        f"copy, put them into {args.dest} under these names, and give the command again: it "
        "checks them"
    )


def download(args: argparse.Namespace) -> int:
    """Downloads missing files; returns 1 if a file is refused, with a line for each on stderr."""
    server = Server(args.base_url, args.retries, args.timeout)
    expected = [each for each in sources.ARCHIVES if each.path.partition("/")[0] in args.only]
    num_refused = 0
    args.dest.mkdir(parents=True, exist_ok=True)
    with lock_folder(args.dest), cli.Progress() as progress:
        _check_space(expected, args.dest)
        for archive in expected:
            try:
                is_new = fetch(
                    archive,
                    args.dest,
                    server,
                    report=progress,
                    say=lambda line: print(line, file=sys.stderr, flush=True),
                )
            except RefusedError as err:
                num_refused += 1
                print(f"error: {cli.describe(err)}", file=sys.stderr)
            except UnreachableError as err:
                raise UnreachableError(f"{err}: {_advice(expected, args)}") from err
            else:
                state = "fetched and verified" if is_new else "there already, as published"
                print(f"{args.dest / archive.name}: {state}", flush=True)
    if num_refused:
        return 1
    print(f"the images are under {sources.LICENCE}; attribute them as {sources.ATTRIBUTION}")
    print(f"next: python -m data_tools.build --source {args.dest} --out DATASET")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when every file is there, else 1 and a line on stderr for each."""
    args = make_parser().parse_args(argv)
    interrupted = "stopped: the same command again goes on from here"
    return cli.answer(lambda: download(args), interrupted=interrupted)


def run() -> NoReturn:
    """The process of `python -m data_tools.download` and kkanji-download."""
    cli.run(main)


if __name__ == "__main__":
    run()
