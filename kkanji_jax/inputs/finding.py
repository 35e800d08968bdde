"""What there is to read: files, folders, pages of PDF files, standard input."""

import heapq
import io
import itertools
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from kkanji_jax.inputs.heif_and_pdf import HEIF_SUFFIXES, PDF_SUFFIX, open_heif, pages_of_pdf
from kkanji_jax.inputs.image_input import STANDARD_INPUT, ImageInput

MAX_INPUT_BYTES = 200_000_000  # of standard input, which is held in memory
MOST_LISTED = 500_000  # entries of one folder that are held in memory
USER_AGENT = "kkanji_jax (reads single characters; one request at a time)"
_PDF_PAGE = re.compile(r"(.+\.pdf)#([1-9]\d*)", re.IGNORECASE | re.DOTALL)


class _Findable(Protocol):
    """What was found: its path, and what is wrong with it."""

    @property
    def path(self) -> str: ...
    @property
    def error(self) -> str: ...


Found = TypeVar("Found", bound=_Findable)


def find_images(
    paths: Iterable[str], passed_over: Counter[str] | None = None, base_url: str = ""
) -> Iterator[ImageInput]:
    """Every image of the paths, in their order; a path that yields none, with its error.

    Folders are searched to the bottom, in the order of names; links to folders are not followed,
    hidden files and files without an image's suffix are passed over. `passed_over` counts the
    latter by suffix. `-` is one image on standard input; `x.pdf` is its pages, `x.pdf#3` one. An
    address is an image or the pages of a IIIF manifest, a .json or .txt file one, or a list of
    addresses, which may be relative to `base_url`.
    """
    passed_over = Counter() if passed_over is None else passed_over
    web = _Web(base_url)
    for path in paths:
        if path != STANDARD_INPUT and web.has(path):
            yield from web.pages(path)
            continue
        for item in find_files([path], passed_over):
            yield from images_in(item)


def require_not_one_error(found: Iterator[Found]) -> Iterator[Found]:
    """All of `found`; ValueError if that is a single error: a mistake in the command."""
    begin = list(itertools.islice(found, 2))
    if len(begin) == 1 and begin[0].error:
        raise ValueError(f"{begin[0].path}: {begin[0].error}")
    return itertools.chain(begin, found)


def only_page(found: Iterator[ImageInput]) -> ImageInput:
    """The one page that is found; ValueError if there are several."""
    begin = list(itertools.islice(found, 2))
    if len(begin) > 1:
        raise ValueError(f"--annotate needs one page, as {begin[0].path}")
    return begin[0]


def find_files(
    paths: Iterable[str],
    passed_over: Counter[str] | None = None,
    *,
    is_wanted: "Callable[[str], bool] | None" = None,
) -> Iterator[ImageInput]:
    """What `find_images` finds before it opens anything: a PDF file is one item, as is any other.

    `is_wanted` tells by its name whether a file in a folder is read (default: `is_image_name`).
    """
    passed_over = Counter() if passed_over is None else passed_over
    is_wanted = is_wanted or is_image_name
    for path in paths:
        if path == STANDARD_INPUT:
            yield _standard_input()
        elif os.path.isdir(path):
            before = passed_over.copy()
            inside = _walk(path, passed_over, is_wanted)
            first = next(inside, None)
            if first is None:
                own = passed_over - before
                told = f" (but {told_counts(own)})" if own else ""
                yield ImageInput(path, f"no images in this folder{told}")
                continue
            yield first
            yield from inside
        elif os.path.isfile(path) or ((pdf := pdf_of(path)) and os.path.isfile(pdf)):
            yield ImageInput(path)
        else:
            is_there = os.path.lexists(path)
            yield ImageInput(path, "neither a file nor a folder" if is_there else "no such file")


def images_in(item: ImageInput) -> Iterator[ImageInput]:
    """The images of a file that `find_files` found: those of a PDF are its pages."""
    page = None if item.error or item.image is not None else _PDF_PAGE.fullmatch(item.path)
    if item.error or item.image is not None:
        yield item
    elif page and not os.path.lexists(item.path):
        yield page_of(list(pages_of(page[1])), item.path)
    else:
        yield from _images_of(item.path)


def told_counts(counts: Counter[str]) -> str:
    """`3 .txt, 1 .md`: most frequent first, the ten commonest."""
    told = [f"{count:,} {kind}" for kind, count in counts.most_common(10)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(10))
    return ", ".join(told + ([f"{rest:,} others"] if rest else []))


def _standard_input() -> ImageInput:
    content = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if not content:
        return ImageInput(STANDARD_INPUT, "nothing came on standard input")
    if len(content) > MAX_INPUT_BYTES:
        return ImageInput(STANDARD_INPUT, f"more than {MAX_INPUT_BYTES:,} bytes on standard input")
    stream = io.BytesIO(content)
    stream.name = "standard input"  # pyright: ignore[reportAttributeAccessIssue]
    return ImageInput(STANDARD_INPUT, image=stream)


class _Web:
    """Pages at addresses, and in files of addresses."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._fetcher: Any = None

    def has(self, path: str) -> bool:
        """Whether a path is an address, or a file of addresses."""
        from kkanji_jax.pages.iiif import LIST_SUFFIXES, is_address

        return is_address(path) or (_suffix(path) in LIST_SUFFIXES and os.path.isfile(path))

    def pages(self, path: str) -> Iterator[ImageInput]:
        """The pages; what cannot be had, with its error."""
        from kkanji_jax.files import cache_folder
        from kkanji_jax.pages import iiif
        from kkanji_jax.pages.fetch import Fetcher

        if self._fetcher is None:
            folder = cache_folder()
            self._fetcher = Fetcher(folder and folder / "iiif", USER_AGENT)
        try:
            if iiif.is_address(path):
                pages = iiif.pages_of_address(path, self._fetcher)
            else:
                with open(path, "rb") as file:
                    content = file.read(MAX_INPUT_BYTES + 1)
                if len(content) > MAX_INPUT_BYTES:
                    raise ValueError(f"expected at most {MAX_INPUT_BYTES:,} bytes: cut it in parts")
                pages = iiif.pages_of_list(content, path, self._base_url, self._fetcher)
            for page in pages:
                image = None if page.error else iiif.opener(page, self._fetcher)
                yield ImageInput(
                    page.id, page.error, image=image, names=page.names, canvas=page.canvas
                )
        except (ValueError, OSError) as err:
            yield ImageInput(path, " ".join(str(err).split()))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _images_of(path: str) -> Iterator[ImageInput]:
    if _suffix(path) == PDF_SUFFIX:
        yield from pages_of(path)
    elif _suffix(path) in HEIF_SUFFIXES:
        yield ImageInput(path, image=partial(open_heif, path))
    else:
        yield ImageInput(path)


def pages_of(path: str) -> Iterator[ImageInput]:
    """The pages of a PDF file as `path#1`, `path#2`; one error if it cannot be read."""
    try:
        pages = pages_of_pdf(path)
    except (ValueError, OSError) as err:
        yield ImageInput(path, " ".join(str(err).split()))
        return
    for number, render in enumerate(pages, 1):
        yield ImageInput(f"{path}#{number}", image=render)


def page_of(pages: Sequence[ImageInput], path: str) -> ImageInput:
    """The page that `path` names, as `x.pdf#3`, among those that `pages_of` gave of its file."""
    pdf, _, number = path.rpartition("#")
    if pages and pages[0].error:
        return ImageInput(path, pages[0].error)
    if int(number) > len(pages):
        return ImageInput(path, f"{pdf} has {len(pages)} pages, expected page {number}")
    return pages[int(number) - 1]


def is_image_name(name: str) -> bool:
    """Whether a file of this name is read where a folder is."""
    from kkanji_jax.glyphs.image_files import SUFFIXES

    suffix = _suffix(name)
    return suffix in SUFFIXES or suffix == PDF_SUFFIX or suffix in HEIF_SUFFIXES


def pdf_of(path: str) -> str | None:
    """The file of a path that names one page, as `x.pdf#3`; None for any other path."""
    page = None if os.path.lexists(path) else _PDF_PAGE.fullmatch(path)
    return page[1] if page else None


def entries_in_order(folder: str, most: int = MOST_LISTED) -> "Iterator[os.DirEntry[str]]":
    """The entries of a folder in the order of their names, `most` of them in memory at a time.

    A folder of more is listed again for each `most`. OSError if it cannot be listed.
    """
    last = ""
    while True:
        with os.scandir(folder) as listing:
            later = (entry for entry in listing if entry.name > last)
            block = heapq.nsmallest(most, later, key=lambda entry: entry.name)
        yield from block
        if len(block) < most:
            return
        last = block[-1].name


def _walk(
    folder: str, passed_over: Counter[str], is_wanted: Callable[[str], bool]
) -> Iterator[ImageInput]:
    entries = entries_in_order(folder)
    while True:
        try:
            entry = next(entries, None)
        except OSError as err:
            yield ImageInput(folder, f"cannot list this folder: {err.strerror}")
            return
        if entry is None:
            return
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, passed_over, is_wanted)
        elif entry.is_dir():
            passed_over["links to folders"] += 1
        elif not is_wanted(entry.name):
            passed_over[_suffix(entry.name) or "without a suffix"] += 1
        elif entry.is_file():
            yield ImageInput(entry.path)
        else:
            is_link = entry.is_symlink() and not os.path.exists(entry.path)
            yield ImageInput(entry.path, "a link to nothing" if is_link else "not a file")
