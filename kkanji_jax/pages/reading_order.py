"""The reading order of the characters on a page: columns from right to left, each downwards.

What is handled: columns that lean or bend slightly, together or individually; columns that begin
lower or end higher than others, and gaps inside a column; two pages side by side, the right one
first; registers one above the other (on each page separately); notes in two narrow columns inside
one (warichu), right half first; a column of small characters beside another (furigana), which
becomes a line of its own before the column to its left.

What is not: horizontal text, text in circles or scattered over a picture, columns that lean by more
than about 15 degrees. An empty band across a whole page is taken for the border of two registers,
even if it separates the two halves of poems.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kkanji_jax.array_types import Bool, Float64, Int

# In sizes of a usual character of the page.
MAX_SIDESTEP = 0.6  # between the middles of characters that follow one another
MAX_LINK_GAP = 2.0  # blank between them; what is further down is joined later, if in line
MAX_JOIN_SIDESTEP = 0.75  # between the ends of two parts of one column
MIN_REGISTER_GAP = 1.2  # blank across a page between two registers
MIN_REGISTER_COLUMNS = 3  # in each register
MAX_REGISTERS = 12
MIN_GUTTER = 2.5  # blank from top to bottom between two pages
SMALL_WIDTH, SMALL_HEIGHT = 0.6, 0.8  # of reading aids, and of notes in two columns
MAX_SMALL_SIDESTEP = 0.5  # between a small character and a usual one in one column
MAX_SLANT = 0.27  # sideways over down: 15 degrees
_SIDE_WEIGHT = 2.0  # a step aside costs as much as twice the step down
_MIN_LINKS = 8  # to estimate how the page leans
_BESIDE, _ABREAST = 0.25, 0.3  # shares of the smaller box: at most in x, at least in y


class _Layout(NamedTuple):
    """Boxes of a page, upright: centres, sizes, and the size of a typical character."""

    x: Float64[np.ndarray, " n"]
    y: Float64[np.ndarray, " n"]
    width: Float64[np.ndarray, " n"]
    height: Float64[np.ndarray, " n"]
    usual_width: float
    usual_height: float

    @property
    def is_small(self) -> Bool[np.ndarray, " n"]:
        is_narrow = self.width < SMALL_WIDTH * self.usual_width
        return is_narrow & (self.height < SMALL_HEIGHT * self.usual_height)


def columns_of(boxes: Sequence[tuple[int, int, int, int]]) -> list[list[int]]:
    """The indices of the boxes (left, top, width, height) of one page, column by column.

    Columns and the boxes in each are in reading order; every box is in exactly one column.
    """
    if not boxes:
        return []
    left, top, width, height = np.asarray(boxes, np.float64).T
    width, height = np.maximum(width, 1), np.maximum(height, 1)
    size = np.maximum(width, height)
    is_usual = size >= 0.5 * np.percentile(size, 90)
    layout = _Layout(
        left + width / 2,
        top + height / 2,
        width,
        height,
        float(np.median(width[is_usual])),
        float(np.median(height[is_usual])),
    )
    layout = layout._replace(x=layout.x - _slant(layout) * layout.y)
    across = (layout.x - layout.width / 2, layout.x + layout.width / 2)
    ordered: list[list[int]] = []
    for page in _parts(np.arange(len(boxes)), *across, MIN_GUTTER * layout.usual_width)[::-1]:
        for register in _registers(layout, page):
            columns = _columns(layout, register)
            columns.sort(key=lambda column: -float(np.median(layout.x[column])))
            ordered += [_down(layout, column) for column in columns]
    return ordered


def _links(layout: _Layout, inside: Int[np.ndarray, " m"]) -> list[tuple[int, int]]:
    """Pairs of boxes that follow one another: each is the other's nearest, below and above."""
    x, y = layout.x[inside], layout.y[inside]
    half = layout.height[inside] / 2
    width, is_small = layout.width[inside], layout.is_small[inside]
    below = np.full(len(inside), -1)
    above, above_cost = np.full(len(inside), -1), np.full(len(inside), np.inf)
    for i in range(len(inside)):
        gap = (y - half) - (y[i] + half[i])
        aside = np.abs(x - x[i])
        reach = MAX_SIDESTEP * np.maximum(layout.usual_width, np.minimum(width, width[i]))
        reach = np.where(is_small == is_small[i], reach, MAX_SMALL_SIDESTEP * layout.usual_width)
        fits = (y > y[i]) & (aside <= reach) & (gap <= MAX_LINK_GAP * layout.usual_height)
        if not fits.any():
            continue
        cost = np.where(fits, y - y[i] + _SIDE_WEIGHT * aside, np.inf)
        below[i] = int(cost.argmin())
        nearer = cost < above_cost
        above[nearer], above_cost[nearer] = i, cost[nearer]
    return [
        (int(inside[i]), int(inside[j])) for i, j in enumerate(below) if j >= 0 and above[j] == i
    ]


def _slant(layout: _Layout) -> float:
    """How far columns move sideways per step downwards: the median of all links."""
    links = _links(layout, np.arange(len(layout.x)))
    if len(links) < _MIN_LINKS:
        return 0.0
    upper, lower = np.asarray(links).T
    steps = (layout.x[lower] - layout.x[upper]) / (layout.y[lower] - layout.y[upper])
    return float(np.clip(np.median(steps), -MAX_SLANT, MAX_SLANT))


def _parts(
    inside: Int[np.ndarray, " m"],
    begin: Float64[np.ndarray, " n"],
    end: Float64[np.ndarray, " n"],
    min_gap: float,
) -> list[Int[np.ndarray, " k"]]:
    """The boxes, cut at every blank of at least `min_gap` along one axis, in its order."""
    order = inside[np.argsort(begin[inside], kind="stable")]
    reach = np.maximum.accumulate(end[order])
    cuts = np.nonzero(begin[order[1:]] - reach[:-1] >= min_gap)[0] + 1
    return np.split(order, cuts)


def _registers(layout: _Layout, page: Int[np.ndarray, " m"]) -> list[Int[np.ndarray, " k"]]:
    """A page, cut at blanks across it if there are enough columns above and below."""
    half = layout.height / 2
    gap = MIN_REGISTER_GAP * layout.usual_height
    parts = _parts(page, layout.y - half, layout.y + half, gap)
    if len(parts) > MAX_REGISTERS:  # scattered characters
        return [page]
    registers: list[Int[np.ndarray, " k"]] = []
    for part in parts:
        both = [*registers[-1:], part]
        if all(len(_columns(layout, each)) >= MIN_REGISTER_COLUMNS for each in both):
            registers.append(part)
        else:
            registers[-1:] = [np.concatenate(both)]
    return registers


def _columns(layout: _Layout, inside: Int[np.ndarray, " m"]) -> list[list[int]]:
    """The boxes in columns; the boxes of each from top to bottom."""
    following = dict(_links(layout, inside))
    followed = set(following.values())
    column_of = np.full(len(layout.x), -1)
    columns: list[list[int]] = []
    for start in sorted((int(i) for i in inside if int(i) not in followed), key=layout.y.item):
        chain = [start]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        number = _column_to_join(layout, column_of, chain)
        if number is None:
            number = len(columns)
            columns.append([])
        columns[number] += chain
        column_of[chain] = number
    return [sorted(column, key=layout.y.item) for column in columns]


def _column_to_join(
    layout: _Layout, column_of: Int[np.ndarray, " n"], chain: list[int]
) -> int | None:
    """The column that `chain` continues or lies inside of; None if it begins a new one.

    If both have boxes at the same height, these must be small: the halves of a note in two columns.
    """
    begin, end = layout.y[chain[0]], layout.y[chain[-1]]
    is_small = layout.is_small
    is_chain_small = bool(is_small[chain].mean() > 0.5)
    aside = np.abs(layout.x - layout.x[chain[0]])
    reach = np.where(is_small == is_chain_small, MAX_JOIN_SIDESTEP, MAX_SMALL_SIDESTEP)
    fits = (column_of >= 0) & (layout.y <= begin) & (aside <= reach * layout.usual_width)
    cost = np.where(fits, begin - layout.y + _SIDE_WEIGHT * aside, np.inf)
    refused: set[int] = set()
    for number in column_of[np.argsort(cost, kind="stable")[: int(fits.sum())]]:
        if int(number) in refused:
            continue
        abreast = (column_of == number) & (layout.y > begin) & (layout.y < end)
        if not abreast.any() or (is_chain_small and is_small[abreast].mean() > 0.5):
            return int(number)
        refused.add(int(number))
    return None


def _down(layout: _Layout, column: list[int]) -> list[int]:
    """One column from top to bottom; where boxes are side by side, the right half before the left.

    The right half continues as long as small characters follow it in its own line.
    """
    ordered: list[int] = []
    rest = sorted(column, key=layout.y.item)
    while rest:
        number = _num_abreast(layout, rest)
        run, rest = rest[: max(number, 1)], rest[max(number, 1) :]
        if number:
            x = layout.x[run]
            middle = (x.min() + x.max()) / 2
            right = [i for i in run if layout.x[i] > middle]
            left = [i for i in run if layout.x[i] <= middle]
            edge = layout.x[left].max()
            while rest and layout.is_small[rest[0]] and layout.x[rest[0]] > edge:
                right.append(rest.pop(0))
            run = right + left
        ordered += run
    return ordered


def _num_abreast(layout: _Layout, column: list[int]) -> int:
    """The number of boxes at the column's head in a note of two columns; 0 if it has none."""
    last = -1
    for number, i in enumerate(column):
        beside = []
        for other in range(number + 1, len(column)):
            if layout.y[column[other]] - layout.y[i] > 2 * layout.usual_height:
                break
            if _is_beside(layout, i, column[other]):
                beside.append(other)
        if number > last and not beside:
            break
        last = max([last, *beside])
    return last + 1


def _is_beside(layout: _Layout, one: int, other: int) -> bool:
    """Whether two boxes are at the same height, next to each other."""
    is_abreast = _shared(layout.y, layout.height, one, other) >= _ABREAST
    return is_abreast and _shared(layout.x, layout.width, one, other) <= _BESIDE


def _shared(
    middle: Float64[np.ndarray, " n"], size: Float64[np.ndarray, " n"], one: int, other: int
) -> float:
    """How far two boxes overlap along one axis, as a share of the shorter; negative if apart."""
    reach = (size[one] + size[other]) / 2 - abs(middle[one] - middle[other])
    return float(reach / min(size[one], size[other]))
