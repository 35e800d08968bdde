"""The connected parts of the ink in a picture, and which of them are no part of the character."""

import math
from typing import Any, NamedTuple

import numpy as np

from kkanji_jax.array_types import Bool, Int, UInt8

# A crop from a page often cuts the strokes above, below or beside it. Such a stray touches the
# border, reaches in but a little, and is small; measured on half the pages of a photographed book.
STRAY_SHARE = 0.06  # of all ink, at most
STRAY_REACH = 0.2  # of the picture's height or width, from the border it touches
RIM_PX = 2  # how far the grey rim of a stray is cleared around it

# Beside the character, apart from it by a gap: reading aids in a smaller hand at the right, whose
# strokes are thinner; or part of a neighbour, cut off by the picture's side, where the character
# has room at the other side.
AID_SHARE, AID_EXTENT, AID_LENGTH, AID_STROKE = 0.45, 0.7, 0.4, 0.75  # of the character's
AID_BREADTH = 0.85  # of all the ink over the character's height, at least
CUT_SHARE, CUT_EXTENT, CUT_LENGTH, CUT_GAP, CUT_BREADTH = 0.4, 0.45, 0.3, 0.06, 1.0
SIDE_PX, GAP_PX = 2, 2  # ink within so much of a side touches it; a gap is no narrower

# A stroke that the picture's side cuts is as broad at the side as a little further in; one that
# ends there by itself, or only touches it, is narrower. Cut strokes that take MIN_CUT of the side
# of the ink's box are remarked; fewer, if ink touches that side alone and lies apart from the
# opposite one, as half a character does; none are needed then if the ink is long. Of 659 sure and
# right readings of the tuning half this keeps 50 from being accepted, and lets 13 of their halves
# be accepted wrongly; without the look at how strokes end it was 80 and 16.
SQUARE, SQUARE_DEPTH, MIN_SQUARE_PX = 0.8, 0.5, 3  # of the breadth further in; of a stroke's width
MIN_CUT, MIN_LONE_CUT = 0.15, 0.05  # of the side of the ink's box
LONE_SHARE, LONE_ROOM = 0.03, 0.02  # of the ink's side; of the picture, at the opposite side
LONG = 1.9  # the ink's long side over its short one

# Two characters one under (or beside) the other: the ink is long, a band without ink crosses it,
# and what lies on either side is as tall as a character and has its share of the ink.
SEVERAL_LENGTH = 1.7  # long side of the ink's box over its short side
SEVERAL_GAP = 0.03  # of the long side
SEVERAL_SHARE = 0.25  # of the ink
SEVERAL_EXTENT = 0.6  # of the short side


class Parts(NamedTuple):
    """Ink labelled 1..n by connected part, 8 neighbours; 0 is paper. Boxes are half open."""

    labels: Int[np.ndarray, "h w"]
    areas: Int[np.ndarray, " n"]
    tops: Int[np.ndarray, " n"]
    bottoms: Int[np.ndarray, " n"]
    lefts: Int[np.ndarray, " n"]
    rights: Int[np.ndarray, " n"]


def find_parts(is_ink: Bool[np.ndarray, "h w"]) -> Parts:
    """Labels runs of ink row by row and joins those that touch (Rosenfeld and Pfaltz 1966)."""
    height, width = is_ink.shape
    run_rows, starts, ends, part_of_run = _runs_of(is_ink)
    num_parts = int(part_of_run.max(initial=-1)) + 1
    labels = np.zeros((height, width), np.int32)
    labels[is_ink] = np.repeat(part_of_run + 1, ends - starts)
    areas = np.bincount(part_of_run, ends - starts, num_parts).astype(np.int64)
    boxes = [np.full(num_parts, height), np.zeros(num_parts, np.int64)]
    boxes += [np.full(num_parts, width), np.zeros(num_parts, np.int64)]
    np.minimum.at(boxes[0], part_of_run, run_rows)
    np.maximum.at(boxes[1], part_of_run, run_rows + 1)
    np.minimum.at(boxes[2], part_of_run, starts)
    np.maximum.at(boxes[3], part_of_run, ends)
    return Parts(labels, areas, *boxes)


class _Runs(NamedTuple):
    """Stretches of ink in the rows, in order, and the part of each; parts in order of first run."""

    rows: Int[np.ndarray, " n"]
    starts: Int[np.ndarray, " n"]
    ends: Int[np.ndarray, " n"]
    parts: Int[np.ndarray, " n"]


def _runs_of(is_ink: Bool[np.ndarray, "h w"]) -> _Runs:
    height, width = is_ink.shape
    row_px = width + 2  # runs of different rows are further apart than any that touch
    padded = np.zeros((height, row_px), bool)
    padded[:, 1:-1] = is_ink
    flat = padded.ravel()
    # Where ink begins and where it ends, in turns: rows begin and end without ink.
    places = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = places[::2], places[1::2]
    rows = starts // row_px
    own_starts, own_ends = starts - rows * row_px, ends - rows * row_px
    return _Runs(rows, own_starts, own_ends, _joined(starts, ends, row_px))


def _joined(
    starts: Int[np.ndarray, " n"], ends: Int[np.ndarray, " n"], row_px: int
) -> Int[np.ndarray, " n"]:
    """For each run of a picture read row by row the number of its part, by the first runs."""
    num_runs = len(starts)
    first = ends.searchsorted(starts - row_px, side="left")
    after = starts.searchsorted(ends - row_px, side="right")
    counts = np.maximum(after - first, 0)
    below = np.repeat(np.arange(num_runs), counts)
    above = np.arange(len(below)) + np.repeat(first - np.cumsum(counts) + counts, counts)
    roots = np.arange(num_runs)
    while True:
        # The root of each run is the least of those it touches; then each root's own root.
        one, other = roots[above], roots[below]
        is_apart = one != other
        if not is_apart.any():
            break
        one, other = one[is_apart], other[is_apart]
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while True:
            deeper = roots[roots]
            if (deeper == roots).all():
                break
            roots = deeper
    number_of_root = np.cumsum(roots == np.arange(num_runs)) - 1
    return number_of_root[roots]


def without_strays(soft: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The same ink strengths without the ends of other characters' strokes at the border."""
    is_ink = soft >= 128
    most = STRAY_SHARE * np.count_nonzero(is_ink)
    found = []
    for side in range(4):
        view = (is_ink, is_ink[::-1], is_ink.T, is_ink.T[::-1])[side]
        if not view[0].any():
            continue
        # A stray ends in this band; what goes on to its last row is none.
        band = view[: math.ceil(STRAY_REACH * len(view)) + 1]
        pixels = _strays_in(band, len(view), most)
        if pixels is not None:
            found.append((side, len(band), pixels))
    if not found:
        return soft
    every = np.zeros_like(is_ink)
    for side, depth, pixels in found:
        (every, every[::-1], every.T, every.T[::-1])[side][:depth] |= pixels
    return cleared(soft, every)


def _strays_in(
    band: Bool[np.ndarray, "d w"], height: int, most: float
) -> Bool[np.ndarray, "d w"] | None:
    """The strays at the first row of a picture of `height`, with less ink than `most`, if any.

    Rows are whole numbers, a bit a pixel: a part grows from row to row, down and up in turns.
    """
    packed = np.packbits(band, axis=1)
    content, row_bytes = packed.tobytes(), packed.shape[1]
    rows = [
        int.from_bytes(content[start : start + row_bytes])
        for start in range(0, len(content), row_bytes)
    ]
    strays, waiting = [0] * len(rows), rows[0]
    while waiting:
        part = _part_from(rows, waiting & -waiting)
        if part is None:
            # The part of this pixel goes on beyond the band, and so does the rest of its run.
            run = waiting & -waiting
            while (wider := (run | run << 1) & rows[0]) != run:
                run = wider
            waiting &= ~run
            continue
        waiting &= ~part[0]
        depth = max(number for number, row in enumerate(part) if row) + 1
        if depth / height < STRAY_REACH and sum(row.bit_count() for row in part) < most:
            strays = [stray | row for stray, row in zip(strays, part, strict=True)]
    if not strays[0]:
        return None
    found = b"".join(row.to_bytes(row_bytes) for row in strays)
    bits = np.frombuffer(found, np.uint8).reshape(packed.shape)
    return np.unpackbits(bits, axis=1, count=band.shape[1]).astype(bool)


def _part_from(rows: list[int], seed: int) -> list[int] | None:
    """The part that holds the pixels `seed` of the first row; None if it reaches the last row."""
    part = [seed] + [0] * (len(rows) - 1)
    order = range(len(rows))
    while True:
        near, is_grown = 0, False
        for number in order:
            own = part[number]
            near |= own
            grown = (near | near << 1 | near >> 1) & rows[number] | own
            while (wider := (grown | grown << 1 | grown >> 1) & rows[number]) != grown:
                grown = wider
            if grown != own:
                part[number], is_grown = grown, True
            near = grown
        if part[-1]:
            return None
        if not is_grown:
            return part
        order = range(order[-1], -1, -1) if order[0] == 0 else range(len(rows))


def cleared(
    soft: UInt8[np.ndarray, "h w"], pixels: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """The same ink strengths without `pixels` and the grey rim round them."""
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return soft
    near = tuple(
        slice(max(0, int(found[0]) - RIM_PX), int(found[-1]) + 1 + RIM_PX)
        for found in (rows, columns)
    )
    own, marked, kept = soft[near], pixels[near], soft.copy()
    kept[near][_grown(marked, RIM_PX) & ((own < 128) | marked)] = 0
    return kept


def without_neighbours(soft: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The same ink strengths without reading aids at the right and cut neighbours at a side."""
    for _ in range(2):
        beside = _beside(soft >= 128)
        if beside is None:
            break
        soft = np.where(beside, 0, soft).astype(np.uint8)
    return soft


def _beside(is_ink: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"] | None:
    """The part of the picture that holds no ink of the character, by the best of its gaps."""
    for is_level, counts in zip((False, True), reversed(counts_of(is_ink)), strict=True):
        upright = is_ink.T if is_level else is_ink
        inked = counts.nonzero()[0]
        if not inked.size:
            return None
        first, last, width = int(inked[0]), int(inked[-1]) + 1, upright.shape[1]
        for start, end in _gaps(counts[first:last]):
            start, end = start + first, end + first
            if end - start < GAP_PX:
                continue
            before, after = upright[:, :start], upright[:, end:]
            is_before = np.count_nonzero(before) < np.count_nonzero(after)
            part, rest = (before, after) if is_before else (after, before)
            touches = first <= SIDE_PX, last >= width - SIDE_PX
            is_aid = not is_level and not is_before and _is_aid(part, rest, last - first)
            is_cut = (
                end - start >= CUT_GAP * max(upright.shape)
                and touches[0 if is_before else 1]
                and not touches[1 if is_before else 0]
                and _is_cut(part, rest, last - first)
            )
            if is_aid or is_cut:
                beside = np.zeros_like(upright)
                beside[:, slice(0, start) if is_before else slice(end, None)] = True
                return beside.T if is_level else beside
    return None


def counts_of(
    is_ink: Bool[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, " h"], Int[np.ndarray, " w"]]:
    """How much ink there is in each row and in each column."""
    ones, held = is_ink.view(np.uint8), sum_type(max(is_ink.shape))
    rows, columns = (np.add.reduce(ones, axis=axis, dtype=held) for axis in (1, 0))
    return rows.astype(np.int64), columns.astype(np.int64)


def sum_type(num_ones: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that holds so many ones: the smaller, the faster they are added up."""
    return np.uint8 if num_ones <= 255 else np.uint32


def _extent(is_ink: Bool[np.ndarray, "h w"]) -> tuple[int, int, int]:
    """Height and width of the ink's box, and how much ink there is."""
    counts = counts_of(is_ink)
    rows, columns = (own.nonzero()[0] for own in counts)
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    return height, width, int(counts[0].sum())


def _is_aid(part: Bool[np.ndarray, "h w"], rest: Bool[np.ndarray, "h v"], breadth: int) -> bool:
    (height, width, ink), (own_height, own_width, own_ink) = _extent(part), _extent(rest)
    return (
        ink <= AID_SHARE * (ink + own_ink)
        and width <= AID_EXTENT * own_width
        and height >= AID_LENGTH * own_height
        and breadth >= AID_BREADTH * max(height, own_height)
        and stroke_width(part) <= AID_STROKE * stroke_width(rest)
    )


def _is_cut(part: Bool[np.ndarray, "h w"], rest: Bool[np.ndarray, "h v"], breadth: int) -> bool:
    (height, width, ink), (own_height, own_width, own_ink) = _extent(part), _extent(rest)
    return (
        ink <= CUT_SHARE * (ink + own_ink)
        and width <= CUT_EXTENT * own_width
        and height >= CUT_LENGTH * own_height
        and breadth >= CUT_BREADTH * max(height, own_height)
    )


def stroke_width(is_ink: Bool[np.ndarray, "h w"]) -> float:
    """The mean width of strokes in pixels: twice their area over the length of their outline."""
    outline = np.count_nonzero(is_ink[1:] != is_ink[:-1])
    outline += np.count_nonzero(is_ink[:, 1:] != is_ink[:, :-1])
    return 2 * int(np.count_nonzero(is_ink)) / max(int(outline), 1)


def is_cut_by_side(soft: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether strokes seem to go on beyond the picture, as those of half a character do."""
    is_ink = soft >= 128
    spans, rooms = [], []
    for counts in counts_of(is_ink):
        inked = counts.nonzero()[0]
        if not inked.size:
            return False
        spans.append(int(inked[-1] - inked[0]) + 1)
        rooms += [int(inked[0]), len(counts) - 1 - int(inked[-1])]
    if 0 not in rooms:
        return False
    depth = max(MIN_SQUARE_PX, int(SQUARE_DEPTH * stroke_width(is_ink)))
    views = (is_ink, is_ink[::-1], is_ink.T, is_ink.T[::-1])
    touched = [side for side in range(4) if rooms[side] == 0]
    cut = [_cut_px(views[side], depth) / spans[side < 2] for side in touched]
    if max(cut) >= MIN_CUT:
        return True
    side = touched[0]
    if len(touched) > 1 or rooms[side ^ 1] < LONE_ROOM * is_ink.shape[side >= 2]:
        return False
    met = np.count_nonzero(views[side][:SIDE_PX].any(axis=0))
    is_long = max(spans) >= LONG * min(spans)
    return bool(met >= LONE_SHARE * spans[side < 2] and (is_long or cut[0] >= MIN_LONE_CUT))


def _cut_px(is_ink: Bool[np.ndarray, "h w"], depth: int) -> int:
    """How many pixels of the first row are strokes that are no broader `depth` rows further in."""
    rows = [np.ascontiguousarray(row).tobytes() for row in is_ink[: depth + 1]]
    first, cut = rows[0], 0
    start = first.find(1)
    while start >= 0:
        end = _or_length(first.find(0, start), first)
        left, right = start, end
        for row in rows[1:]:
            # All of the next row's ink from the first to the last pixel that touches this stretch.
            nearest = row.find(1, max(0, left - 1), right + 1)
            if nearest < 0:
                left = right
                break
            last = row.rfind(1, max(0, left - 1), right + 1)
            left, right = row.rfind(0, 0, nearest) + 1, _or_length(row.find(0, last), row)
        if left < right and end - start >= SQUARE * (right - left):
            cut += end - start
        start = first.find(1, end)
    return cut


def _or_length(found: int, row: bytes) -> int:
    return len(row) if found < 0 else found


def holds_several(soft: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether the picture plainly shows more than one character, apart from each other.

    Characters that are joined, as they often are in cursive, are not told apart.
    """
    sides = []
    for counts in counts_of(soft >= 128):
        inked = counts.nonzero()[0]
        if not inked.size:
            return False
        sides.append(counts[inked[0] : inked[-1] + 1])
    length, breadth = max(len(sides[0]), len(sides[1])), min(len(sides[0]), len(sides[1]))
    if length < SEVERAL_LENGTH * breadth:
        return False
    ink = sides[0] if len(sides[0]) >= len(sides[1]) else sides[1]
    for start, end in _gaps(ink):
        if end - start < SEVERAL_GAP * length:
            continue
        before, after = ink[:start].sum(), ink[end:].sum()
        is_shared = min(before, after) >= SEVERAL_SHARE * ink.sum()
        if is_shared and min(start, length - end) >= SEVERAL_EXTENT * breadth:
            return True
    return False


def _gaps(ink: Int[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Half-open stretches of zeros; the ends of `ink` are not zero."""
    if ink.all():
        return []
    is_gap = ink == 0
    places = ((is_gap[1:] != is_gap[:-1]).nonzero()[0] + 1).tolist()
    return list(zip(places[::2], places[1::2], strict=True))


def _grown(mask: Bool[np.ndarray, "h w"], reach: int) -> Bool[np.ndarray, "h w"]:
    """Every pixel within `reach` rows and columns of the mask."""
    padded = np.pad(mask, reach)
    height, width = mask.shape
    rows = np.zeros((height, width + 2 * reach), bool)
    for shift in range(2 * reach + 1):
        rows |= padded[shift : shift + height]
    grown = np.zeros_like(mask)
    for shift in range(2 * reach + 1):
        grown |= rows[:, shift : shift + width]
    return grown
