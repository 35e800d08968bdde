"""Boxes in tables: CSV with a heading, CODH's coordinates, Kaggle's strings, and our own rows.

CODH's coordinate files have the columns Unicode,Image,X,Y,Block ID,Char ID,Width,Height
(https://codh.rois.ac.jp/char-shape/). The Kuzushiji Recognition competition's train.csv has
image_id,labels, where labels are `U+306F 1231 3465 133 53 ...`: code point, left, top, width and
height (https://www.kaggle.com/competitions/kuzushiji-recognition/data).
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence

from kkanji_jax.data.csv_text import CsvText
from kkanji_jax.data.label_table import unquoted
from kkanji_jax.pages.box import Box, number_of

# A column's name in lower case -> what it is. `char id` is of CODH's coordinate files, `labels` of
# Kaggle's.
_COLUMNS = {
    **{name: name for name in ("x", "y", "w", "h", "id", "image", "x1", "y1", "x2", "y2", "line")},
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
    "box": "box",  # of `predict` itself and of the web page, with a row for each candidate
    "rank": "rank",
}
_NUMBERS = frozenset(("x", "y", "w", "h", "x1", "y1", "x2", "y2"))
_KAGGLE = re.compile(r"\s*(?:U\+[0-9A-F]{4,6}(?:\s+-?\d+){4}\s*)+")
_GROUPED = re.compile(r"-?[0-9]{1,3}(\.[0-9]{3})+")
WANTED = (
    "expected a CSV file with a heading of x,y,w,h (or x1,y1,x2,y2 or xmin,ymin,xmax,ymax), and "
    "perhaps id and image, a line of U+XXXX x y w h U+XXXX x y w h ..., or JSON of COCO, "
    "Koten-OCR or IIIF annotations, or XML of Koten-OCR, PAGE or TEI"
)


def is_kaggle_string(text: str) -> bool:
    """Whether a file has only Kaggle's labels of one page."""
    return _KAGGLE.fullmatch(text) is not None


def boxes_of_string(text: str, image: str = "") -> Iterator[Box]:
    """The boxes of Kaggle's labels, with the code points as ids."""
    words = text.split()
    for start in range(0, len(words), 5):
        left, top, width, height = map(int, words[start + 1 : start + 5])
        yield Box(left, top, width, height, words[start], image)


def boxes_of_table(text: str, path: str | os.PathLike) -> list[Box]:
    """The boxes of a table, in its order; ValueError names the line."""
    boxes: list[Box] = []
    rows = CsvText(text)
    heading = [_COLUMNS.get(name, "") for name in rows.heading]
    grouped: list[tuple[int, str]] = []  # where, and what: 1.234 is a thousand, or about one
    has_points = False  # decimal ones
    try:
        twice = [name for name in heading if name in _NUMBERS and heading.count(name) > 1]
        if twice:
            raise ValueError(f"the heading has {twice[0]} {heading.count(twice[0])} times")
        for line in rows:
            named = zip(heading, line, strict=False)
            # An id comes back as it is, but for what this project has quoted itself.
            is_kept = "box" not in heading
            cells = {k: c if k == "id" and is_kept else unquoted(c) for k, c in named if k}
            if rows.delimiter != ",":  # where it is not, the comma is the decimal one
                numbers = {k: v for k, v in cells.items() if k in _NUMBERS}
                pointed = [v.strip() for v in numbers.values() if "." in v]
                grouped += [(rows.line_num, v) for v in pointed if _GROUPED.fullmatch(v)]
                has_points |= any(not _GROUPED.fullmatch(v) and "," not in v for v in pointed)
                cells |= {k: v.replace(",", ".") for k, v in numbers.items()}
            boxes += _of_cells(cells, heading)
    except (ValueError, csv.Error) as err:
        raise ValueError(f"{path}, line {rows.line_num}: {err}") from err
    if grouped and not has_points:
        line_num, number = grouped[0]
        raise ValueError(
            f"{path}, line {line_num}: {number} may be {number.replace('.', '')} or a fraction: "
            "write numbers without points between thousands"
        )
    return boxes


def _of_cells(cells: dict[str, str], heading: Sequence[str]) -> list[Box]:
    image, name = cells.get("image", ""), cells.get("id", "")
    if "labels" in heading:
        labels = cells.get("labels", "")
        if labels.strip() and not is_kaggle_string(labels):
            raise ValueError(f"expected U+XXXX x y w h ..., got {labels[:40]!r}")
        return list(boxes_of_string(labels, image))
    if {"x", "y", "w", "h"} <= set(heading):
        left, top, width, height = (number_of(cells, key) for key in "xywh")
    elif {"x1", "y1", "x2", "y2"} <= set(heading):
        left, top, right, bottom = (number_of(cells, key) for key in ("x1", "y1", "x2", "y2"))
        width, height = right - left, bottom - top
    elif "box" in heading:
        if cells.get("rank", "") not in ("", "1"):
            return []  # another candidate of the same box
        place = dict(zip("xywh", cells.get("box", "").split(), strict=False))
        left, top, width, height = (number_of(place, key) for key in "xywh")
    else:
        raise ValueError(WANTED)
    return [Box(left, top, width, height, name, image, cells.get("line", ""))]
