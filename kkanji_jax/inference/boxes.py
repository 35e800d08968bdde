"""Boxes on whole pages: where they are written down, and the crops they cut out."""

import csv
import io
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.inference.inputs import ImageInput

MAX_PAGE_PIXELS = 100_000_000  # a scan of a double page at 600 dpi has a third of that
# A column's name in lower case -> what it is. The last three are of CODH's coordinate files and
# Kaggle's.
_COLUMNS = {
    **{name: name for name in ("x", "y", "w", "h", "id", "image", "x1", "y1", "x2", "y2")},
    "xmin": "x1",
    "ymin": "y1",
    "xmax": "x2",
    "ymax": "y2",
    "width": "w",
    "height": "h",
    "path": "image",
    "image_id": "image",
    "file": "image",
    "filename": "image",
    "char id": "id",
    "labels": "labels",
}
_NUMBERS = frozenset(("x", "y", "w", "h", "x1", "y1", "x2", "y2"))
_KAGGLE = re.compile(r"\s*(?:U\+[0-9A-F]{4,6}(?:\s+-?\d+){4}\s*)+")
_DELIMITERS = ",;\t"
_WANTED = (
    "expected a CSV file with a heading of x,y,w,h (or x1,y1,x2,y2 or xmin,ymin,xmax,ymax), and "
    "perhaps id and image, a line of U+XXXX x y w h U+XXXX x y w h ..., or COCO's JSON"
)


class Box(NamedTuple):
    """A rectangle in pixels from the upright page's top left corner.

    `id` is whatever the file says of it; `image` names its page, and is empty if the file does not.
    """

    left: int
    top: int
    width: int
    height: int
    id: str = ""
    image: str = ""


def read_boxes(path: str | os.PathLike) -> list[Box]:
    """The boxes of a file, in its order; ValueError names the file and the line.

    CSV with a heading (x,y,w,h or x1,y1,x2,y2 or xmin,ymin,xmax,ymax, optionally id and image;
    Kaggle's image_id,labels; CODH's coordinates), separated by commas, semicolons or tabs;
    Kaggle's string alone, whose code points become the ids; or COCO's JSON. UTF-8, UTF-16 with its
    mark, or CP932. Ids are as they are written, to the byte.
    """
    text = _decoded(Path(path))
    if text.lstrip()[:1] in ("{", "["):
        boxes = _of_coco(text, path)
    elif _KAGGLE.fullmatch(text):
        return list(_of_string(text, ""))
    else:
        boxes = _of_table(text, path)
    if not boxes:
        raise ValueError(f"no boxes in {path}: {_WANTED}")
    return boxes


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):  # Excel's "Unicode text"
        encodings = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp932")
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError(f"{path} is neither UTF-8 nor CP932 (Shift_JIS): save it as UTF-8")


def _of_table(text: str, path: str | os.PathLike) -> list[Box]:
    first = next(iter(text.splitlines()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    # Kaggle's labels of a page are one cell; the module's limit is 131,072 characters.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    boxes: list[Box] = []
    try:
        heading = [_COLUMNS.get(name.strip().lower(), "") for name in next(rows, [])]
        for line in rows:
            if not any(line):
                continue
            cells = {name: cell for name, cell in zip(heading, line, strict=False) if name}
            if delimiter != ",":  # where it is not, the comma is the decimal one
                cells |= {k: v.replace(",", ".") for k, v in cells.items() if k in _NUMBERS}
            boxes += _of_cells(cells, heading)
    except (ValueError, csv.Error) as err:
        raise ValueError(f"{path}, line {rows.line_num}: {err}") from err
    return boxes


def _of_coco(text: str, path: str | os.PathLike) -> list[Box]:
    """Boxes of COCO's JSON: {"images": [{id, file_name}], "annotations": [{id, image_id, bbox}]}.

    Also a bare list of annotations, whose image_id is then the page's name.
    """
    try:
        # Numbers as they are written: an id of 1.0 or of thirty digits stays what it is.
        content = json.loads(text, parse_int=_Number, parse_float=_Number)
    except ValueError as err:
        raise ValueError(f"{path} is no JSON: {err}") from err
    is_whole = isinstance(content, dict)
    annotations = content.get("annotations") if is_whole else content
    images = content.get("images", []) if is_whole else []
    if not isinstance(annotations, list) or not isinstance(images, list):
        raise ValueError(f"{path} has no list of annotations: {_WANTED}")
    names = {}
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not {"id", "file_name"} <= image.keys():
            raise ValueError(f"{path}, image {number}: expected id and file_name")
        names[str(image["id"])] = str(image["file_name"])
    boxes = []
    for number, annotation in enumerate(annotations):
        where = f"{path}, annotation {number}"
        if not isinstance(annotation, dict):
            raise ValueError(f"{where}: expected an object with bbox, got {annotation!r:.40}")
        place = annotation.get("bbox")
        if not isinstance(place, list) or len(place) != 4:
            raise ValueError(
                f"{where}: expected a bbox of [x, y, width, height], got {place!r:.40}"
            )
        image = str(annotation.get("image_id") or "")
        if names and image not in names:
            raise ValueError(f"{where}: image_id {image} is not among the images")
        try:
            cells = dict(zip("xywh", map(str, place), strict=True))
            left, top, width, height = (_number(cells, key) for key in "xywh")
        except ValueError as err:
            raise ValueError(f"{where}: {err}") from err
        name = str(annotation.get("id") or "")
        boxes.append(Box(left, top, width, height, name, names.get(image, image)))
    return boxes


class _Number(str):
    """A number of JSON as it is written."""


def _of_cells(cells: dict[str, str], heading: Sequence[str]) -> list[Box]:
    image, name = cells.get("image", ""), cells.get("id", "")
    if "labels" in heading:
        labels = cells.get("labels", "")
        if labels.strip() and not _KAGGLE.fullmatch(labels):
            raise ValueError(f"expected U+XXXX x y w h ..., got {labels[:40]!r}")
        return list(_of_string(labels, image))
    if {"x", "y", "w", "h"} <= set(heading):
        left, top, width, height = (_number(cells, key) for key in "xywh")
    elif {"x1", "y1", "x2", "y2"} <= set(heading):
        left, top, right, bottom = (_number(cells, key) for key in ("x1", "y1", "x2", "y2"))
        width, height = right - left, bottom - top
    else:
        raise ValueError(_WANTED)
    return [Box(left, top, width, height, name, image)]


def _number(cells: dict[str, str], key: str) -> int:
    text = cells.get(key, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a number for {key}, got {text!r}")
    return round(value)


def _of_string(text: str, image: str) -> Iterator[Box]:
    words = text.split()
    for start in range(0, len(words), 5):
        left, top, width, height = map(int, words[start + 1 : start + 5])
        yield Box(left, top, width, height, words[start], image)


class BoxesByPage:
    """The boxes of a file, found by the name of their page; keeps which pages were met.

    A box names its page by its whole path, by the end of it (`scans/p1.jpg`), or by its file name,
    with or without suffix, in the same case. A box that names no image is of every page.
    """

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._of_name: dict[str, list[tuple[int, Box]]] = defaultdict(list)
        for number, box in enumerate(boxes):
            self._of_name[box.image].append((number, box))
        self._met: set[str] = set()
        self._pages: dict[str, str] = {}  # the stem in lower case -> a page's path

    def of(self, page: str) -> list[Box]:
        """Those of a page, in the file's order."""
        names = _names_of(page) | {""}
        self._met |= names
        self._pages[_stem(page).lower()] = page
        return [box for _, box in sorted(pair for n in names for pair in self._of_name.get(n, ()))]

    def unmet(self) -> Iterator[tuple[Box, str]]:
        """Boxes whose page did not come, with what is wrong, in the file's order."""
        names = self._of_name.keys() - self._met
        for _, box in sorted(pair for name in names for pair in self._of_name[name]):
            near = self._pages.get(_stem(box.image).lower())
            told = f"; there is {os.path.basename(near)}" if near else ""
            yield box, f"the file of boxes names a page that is not among those given{told}"


def _stem(page: str) -> str:
    name = os.path.basename(page.replace("\\", "/"))
    stem, suffix = os.path.splitext(name)
    number = suffix[suffix.find("#") :] if "#" in suffix else ""  # of a PDF's page, x.pdf#3
    return stem + number


def _names_of(page: str) -> set[str]:
    parts = page.split("/")
    ends = {"/".join(parts[start:]) for start in range(len(parts))}
    return {page, *ends, _stem(page)}


def crops_of(pages: Iterable[ImageInput], boxes: Sequence[Box]) -> Iterator[ImageInput]:
    """Each page's boxes as images, page after page; what cannot be cut out, with its error.

    Boxes of pages that did not come are errors, at the end. One page is in memory at a time.
    """
    by_page = BoxesByPage(boxes)
    for page in pages:
        own = by_page.of(page.path)  # also of a page with an error: they have none of their own
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
        place = (box.left, box.top, box.width, box.height)
        rows = slice(max(box.top, 0), min(box.top + box.height, height))
        columns = slice(max(box.left, 0), min(box.left + box.width, width))
        error = ""
        if box.width < 1 or box.height < 1:
            error = "the box is empty"
        elif rows.start >= rows.stop or columns.start >= columns.stop:
            error = f"the box is outside the page, which is {width} x {height}"
        image = None if error else picture[rows, columns]
        yield ImageInput(page.path, error, box.id, place, image)
