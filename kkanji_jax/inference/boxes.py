"""Boxes on whole pages: where they are written down, and the crops they cut out."""

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.inference.inputs import Found

MAX_PAGE_PIXELS = 100_000_000  # a scan of a double page at 600 dpi has a third of that
# A column's name in lower case -> what it is. The last four are of CODH's coordinate files.
_COLUMNS = {
    **{name: name for name in ("x", "y", "w", "h", "id", "image", "x1", "y1", "x2", "y2")},
    "width": "w",
    "height": "h",
    "path": "image",
    "image_id": "image",
    "file": "image",
    "char id": "id",
    "labels": "labels",
}
_KAGGLE = re.compile(r"\s*(?:U\+[0-9A-F]{4,6}(?:\s+-?\d+){4}\s*)+")
_WANTED = (
    "wanted a CSV file with a heading of x,y,w,h (or x1,y1,x2,y2), and perhaps id and image, "
    "or a line of U+XXXX x y w h U+XXXX x y w h ..."
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

    CSV with a heading (x,y,w,h or x1,y1,x2,y2, optionally id and image; Kaggle's image_id,labels;
    CODH's coordinates), or Kaggle's string alone, whose code points become the ids.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise ValueError(f"{path} is not UTF-8: {_WANTED}") from err
    if _KAGGLE.fullmatch(text):
        return list(_of_string(text, ""))
    rows = csv.reader(io.StringIO(text, newline=""))
    heading = [_COLUMNS.get(name.strip().lower(), "") for name in next(rows, [])]
    boxes: list[Box] = []
    for line in rows:
        if not any(line):
            continue
        cells = {name: cell for name, cell in zip(heading, line, strict=False) if name}
        try:
            boxes += _of_cells(cells, heading)
        except ValueError as err:
            raise ValueError(f"{path}, line {rows.line_num}: {err}") from err
    if not boxes:
        raise ValueError(f"no boxes in {path}: {_WANTED}")
    return boxes


def _of_cells(cells: dict[str, str], heading: Sequence[str]) -> list[Box]:
    image, name = cells.get("image", ""), cells.get("id", "")
    if "labels" in heading:
        labels = cells.get("labels", "")
        if labels.strip() and not _KAGGLE.fullmatch(labels):
            raise ValueError(f"wanted U+XXXX x y w h ..., got {labels[:40]!r}")
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
        raise ValueError(f"wanted a number for {key}, got {text!r}")
    return round(value)


def _of_string(text: str, image: str) -> Iterator[Box]:
    words = text.split()
    for start in range(0, len(words), 5):
        left, top, width, height = map(int, words[start + 1 : start + 5])
        yield Box(left, top, width, height, words[start], image)


def boxes_of(boxes: Iterable[Box], page: str) -> list[Box]:
    """Those of a page: boxes that name no image are of every page."""
    names = {page, os.path.basename(page), os.path.splitext(os.path.basename(page))[0]}
    return [box for box in boxes if not box.image or box.image in names]


def crops_of(pages: Iterable[Found], boxes: Sequence[Box]) -> Iterator[Found]:
    """Each page's boxes as images, page after page; what cannot be cut out, with its error.

    A box that reaches over the page's edge is cut there; one wholly outside is an error. One page
    is in memory at a time.
    """
    from kkanji_jax.glyphs.image_files import load_picture

    for page in pages:
        if page.error:
            yield page
            continue
        own = boxes_of(boxes, page.path)
        if not own:
            yield Found(page.path, "the file of boxes has none for this page")
            continue
        try:
            source = page.path if page.image is None else page.image
            picture = load_picture(source, max_pixels=MAX_PAGE_PIXELS)
        except (ValueError, OSError) as err:
            yield Found(page.path, " ".join(str(err).split()))
            continue
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
            yield Found(page.path, error, box.id, place, image)
