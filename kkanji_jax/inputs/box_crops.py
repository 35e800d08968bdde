"""Boxes on whole pages: which page each is of, and the crops they cut out."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kkanji_jax.array_types import UInt8
from kkanji_jax.glyphs.image_files import MAX_PAGE_PIXELS
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages.box import Box


class BoxesByPage:
    """The boxes of a file, found by the name of their page; keeps which of these pages were met.

    A box names its page by its whole path, by the end of it (`scans/p1.jpg`), or by its file name,
    with or without suffix, in the same case; a page of IIIF by an address or an id of it
    (`ImageInput.names`). A name that Unicode composes otherwise, as macOS writes it, is taken where
    none is the same. A box that names no image is of every page.
    """

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._of_name: dict[str, list[tuple[int, Box]]] = defaultdict(list)
        for number, box in enumerate(boxes):
            self._of_name[box.image].append((number, box))
        self._composed: dict[str, list[str]] = defaultdict(list)
        for name in self._of_name:
            self._composed[_composed(name)].append(name)
        self._met: set[str] = set()
        self._met_as_written: set[str] = set()
        # In lower case: the stem that boxes name -> the path of a page that has it.
        self._pages = {_likeness(name): "" for name in self._of_name}

    def of(self, page: str, also: Iterable[str] = ()) -> list[Box]:
        """Those of a page, in the file's order; `also` are other names of it."""
        names = {"", *_names_of(page), *also}
        named = names & self._of_name.keys()
        self._met_as_written |= named
        if named <= {""}:
            named |= self._composed_as(names) - self._met_as_written
        self._met |= named
        likeness = _likeness(page)
        if likeness in self._pages:
            self._pages[likeness] = page
        return [box for _, box in sorted(pair for n in named for pair in self._of_name[n])]

    def _composed_as(self, names: Iterable[str]) -> set[str]:
        """The names in the file that differ from these by Unicode's composition at most."""
        return {each for name in names for each in self._composed.get(_composed(name), ())}

    def unmet(self) -> Iterator[tuple[Box, str]]:
        """Boxes whose page did not come, with what is wrong, in the file's order."""
        names = self._of_name.keys() - self._met
        for _, box in sorted(pair for name in names for pair in self._of_name[name]):
            near = self._pages[_likeness(box.image)]
            told = f"; there is {os.path.basename(near)}" if near else ""
            yield box, f"the file of boxes names a page that is not among those given{told}"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _likeness(page: str) -> str:
    """What names of a page have in common that differ by folder, suffix, case or composition."""
    return _composed(_stem(page)).lower()


def _stem(page: str) -> str:
    name = os.path.basename(page.replace("\\", "/"))
    stem, suffix = os.path.splitext(name)
    number = suffix[suffix.find("#") :] if "#" in suffix else ""  # of a PDF's page, x.pdf#3
    return stem + number


def _names_of(page: str) -> set[str]:
    if "://" in page:  # .../full/max/0/default.jpg is the end of every image of IIIF
        return {page}
    parts = page.split("/")
    ends = {"/".join(parts[start:]) for start in range(len(parts))}
    return {page, *ends, _stem(page)}


def cut_out(picture: UInt8[np.ndarray, "h w *c"], box: Box) -> UInt8[np.ndarray, "bh bw *c"]:
    """The part of a page in a box, cut at the page's edge; ValueError if there is none."""
    height, width = picture.shape[:2]
    rows = slice(max(box.top, 0), min(box.top + box.height, height))
    columns = slice(max(box.left, 0), min(box.left + box.width, width))
    if box.width < 1 or box.height < 1:
        raise ValueError(f"the box is empty: {box.width} wide and {box.height} high")
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise ValueError(f"the box is outside the page, which is {width} x {height}")
    return picture[rows, columns]


def crops_of(pages: Iterable[ImageInput], boxes: Sequence[Box]) -> Iterator[ImageInput]:
    """Each page's boxes as images, page after page; what cannot be cut out, with its error.

    Boxes of pages that did not come are errors, at the end. One page is in memory at a time.
    """
    by_page = BoxesByPage(boxes)
    for page in pages:
        # Also where the page has an error: its boxes have none of their own.
        own = by_page.of(page.path, page.names)
        yield from crops_of_page(page, own)
    for box, error in by_page.unmet():
        yield ImageInput(box.image, error, box.id, (box.left, box.top, box.width, box.height))


def crops_of_page(page: ImageInput, own: Sequence[Box]) -> Iterator[ImageInput]:
    """A page's boxes as images; one error where the page cannot be read, or has no box.

    A box that reaches over the page's edge is cut there; one wholly outside is an error.
    """
    from kkanji_jax.glyphs.image_files import load_picture

    if page.error:
        yield page
        return
    if not own:
        yield ImageInput(page.path, "the file of boxes has none for this page")
        return
    try:
        picture = load_picture(page.source(), max_pixels=MAX_PAGE_PIXELS)
    except (ValueError, OSError) as err:
        yield ImageInput(page.path, " ".join(str(err).split()))
        return
    height, width = picture.shape[:2]
    for box in own:
        if page.canvas is not None and box.image == page.canvas.id:
            box = page.canvas.in_pixels(box, width, height)
        place = (box.left, box.top, box.width, box.height)
        image = None
        error = box.trouble
        if not error:
            try:
                image = cut_out(picture, box)
            except ValueError as err:
                error = str(err)
        yield ImageInput(
            page.path, error, box.id, place, image, line=box.line, page_size=(width, height)
        )
