"""What there is to read: files, folders, standard input."""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

STANDARD_INPUT = "-"
MAX_INPUT_BYTES = 200_000_000  # of standard input, which is held in memory


class Found(NamedTuple):
    """Something to read, or why there is nothing. `image` is read instead of the file, if given."""

    path: str
    error: str = ""
    id: str = ""
    box: tuple[int, int, int, int] | None = None  # left, top, width, height on the page
    image: Any = None


def find_images(paths: Iterable[str]) -> Iterator[Found]:
    """Every image of the paths given, in sorted order; a path that yields none, with its error.

    Folders are searched to the bottom; links to folders are not followed, hidden files and files
    without an image's suffix are passed over. `-` is one image on standard input.
    """
    for path in sorted(paths):
        if path == STANDARD_INPUT:
            yield _standard_input()
        elif os.path.isdir(path):
            inside = _walk(path)
            first = next(inside, Found(path, "no images in this folder"))
            yield first
            yield from inside
        elif os.path.isfile(path):
            yield Found(path)
        else:
            is_there = os.path.lexists(path)
            yield Found(path, "neither a file nor a folder" if is_there else "no such file")


def _standard_input() -> Found:
    content = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if not content:
        return Found(STANDARD_INPUT, "nothing came on standard input")
    if len(content) > MAX_INPUT_BYTES:
        return Found(STANDARD_INPUT, f"more than {MAX_INPUT_BYTES:,} bytes on standard input")
    stream = io.BytesIO(content)
    stream.name = "standard input"  # pyright: ignore[reportAttributeAccessIssue]
    return Found(STANDARD_INPUT, image=stream)


def _walk(folder: str) -> Iterator[Found]:
    from kkanji_jax.glyphs.image_files import SUFFIXES

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
