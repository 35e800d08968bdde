"""A box on a page, and how it is made from the numbers in files."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote

from kkanji_jax.data.class_index import composed

# The error of a box that holds a line. No part of this project finds characters in a line.
LINE = "this box is {what}, not one character: give boxes of single characters"

FARTHEST_PX = 1_000_000_000  # from the page's corner, or of a side: what is more is no pixels


class Box(NamedTuple):
    """A rectangle in pixels from the top left corner of the upright page.

    `id` is as the file has it; `image` names the page, and is empty if the file does not. `line`
    names the line of text that contains the box, if the file groups characters into lines and gives
    their order. `trouble` says why the box cannot be read, for example because it is a line of
    several characters.
    """

    left: int
    top: int
    width: int
    height: int
    id: str = ""
    image: str = ""
    line: str = ""
    trouble: str = ""


class Canvas(NamedTuple):
    """A canvas of IIIF. Boxes that name it are in its units; its image may be larger."""

    id: str
    width: float
    height: float

    def in_pixels(self, box: Box, width: int, height: int) -> Box:
        """A box on the canvas, in pixels of its image of `width` x `height`."""
        across, down = width / self.width, height / self.height
        left, top = round(box.left * across), round(box.top * down)
        return box._replace(
            left=left,
            top=top,
            width=round((box.left + box.width) * across) - left,
            height=round((box.top + box.height) * down) - top,
        )


def file_name_of(address: str) -> str:
    """The name of an image in a file of boxes: the last part of a path, or a whole address.

    Paths in PAGE and TEI are those of the machine that wrote them.
    """
    if address.startswith(("http://", "https://")):
        return address
    return unquote(address).replace("\\", "/").rpartition("/")[2]


def trouble_of(what: str, text: str | None) -> str:
    """Why a box of `what` (`a line`) cannot be read; a `text` of None is unknown.

    A line of one character is a character, and nothing is wrong with it.
    """
    characters = composed((text or "").strip())
    if len(characters) == 1:
        return ""
    count = f" of {len(characters)} characters" if characters else ""
    return LINE.format(what=what + count)


def number_of(cells: Mapping[str, str], key: str) -> int:
    """A number from a table or an attribute, rounded to a pixel; ValueError if it is not one."""
    return round(decimal_of(cells, key))


def decimal_of(cells: Mapping[str, str], key: str) -> float:
    """`number_of` as it is written, not rounded."""
    text = cells.get(key, "")
    try:
        value = math.nan if "_" in text else float(text)  # 1_234 is Python's
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a number for {key}, got {text!r}")
    return value


def around(points: Sequence[tuple[float, float]]) -> tuple[int, int, int, int]:
    """The bounding rectangle of points: left, top, width, height; ValueError without any."""
    if not points:
        raise ValueError("expected points of an outline, got none")
    if not all(math.isfinite(value) for point in points for value in point):
        raise ValueError("expected numbers for the points of an outline")
    x, y = ([point[axis] for point in points] for axis in (0, 1))
    left, top = round(min(x)), round(min(y))
    return left, top, round(max(x)) - left, round(max(y)) - top


class WrittenNumber(str):
    """A number of JSON as it is written: an id of 1.0 or of thirty digits stays unchanged."""
