"""Pages that were read: their columns in reading order, and what was read in each box.

Columns and their order are those of the file of boxes if it has them, and otherwise those of
`kkanji_jax.pages.reading_order`.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kkanji_jax.answers.rows import Row
from kkanji_jax.inputs.image_input import ImageInput, shown_path

GETA = "〓"  # the geta mark, which printers set for a missing type


class ReadBox(NamedTuple):
    """One box and what was read in it: its rows, the best first."""

    item: ImageInput
    rows: tuple[Row, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether the best candidate may stand in a text."""
        return self.rows[0].verdict == "accept" and self.rows[0].character is not None

    @property
    def text(self) -> str:
        """The character, or 〓."""
        return (self.rows[0].character or GETA) if self.is_accepted else GETA


class ReadPage(NamedTuple):
    """The columns of a page in reading order; if there are none, `error` says why.

    `is_given` is False for a page that only the file of boxes names.
    """

    path: str
    size: tuple[int, int] | None  # width, height in pixels; None where it could not be opened
    columns: tuple[tuple[ReadBox, ...], ...]
    error: str = ""
    is_given: bool = True


class PagesOfRows:
    """Remembers the boxes as they pass, and makes pages from the rows read in them."""

    def __init__(self) -> None:
        self._items: list[ImageInput] = []

    def watched(self, found: Iterable[ImageInput]) -> Iterator[ImageInput]:
        """The same, remembered without their pixels."""
        for item in found:
            self._items.append(item._replace(image=None))
            yield item

    def pages(self, groups: Iterable[list[Row]]) -> Iterator[ReadPage]:
        """The pages, in the order of the items; `groups` are the rows of each item, all of them."""
        taken = [tuple(rows) for rows in groups]  # items are remembered while groups are taken
        read = (ReadBox(item, rows) for item, rows in zip(self._items, taken, strict=True))
        for path, boxes in itertools.groupby(read, lambda box: box.item.path):
            yield _page_of(path, list(boxes))


def _page_of(path: str, boxes: list[ReadBox]) -> ReadPage:
    from kkanji_jax.pages.reading_order import columns_of

    placed = [box for box in boxes if box.item.box is not None]
    error = next((box.item.error for box in boxes if box.item.box is None), "")
    size = next((box.item.page_size for box in placed if box.item.page_size), None)
    if placed and size is None:
        return ReadPage(shown_path(path), None, (), placed[0].item.error, is_given=False)
    if placed and all(box.item.line for box in placed):
        lines: dict[str, list[ReadBox]] = {}
        for box in placed:
            lines.setdefault(box.item.line, []).append(box)
        columns = list(lines.values())
    else:
        places = [box.item.box for box in placed if box.item.box is not None]
        columns = [[placed[number] for number in column] for column in columns_of(places)]
    return ReadPage(shown_path(path), size, tuple(map(tuple, columns)), error)
