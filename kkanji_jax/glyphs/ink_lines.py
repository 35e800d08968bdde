"""What is straight in a picture of a character and no part of it: edges of another tone, rules.

`foreign_edges` finds mats, frames, letterboxes, corners of a turned scan, strips of a background,
before anything is known of ink and paper. `ruled_lines` finds ruled lines and bands in the ink.
"""

import functools
from typing import NamedTuple

import numpy as np

from kkanji_jax.array_types import Bool, Float, Int, UInt8
from kkanji_jax.glyphs.ink_parts import stroke_width

# An edge of another tone: along a straight line from side to side, or cut off by one in a corner.
EDGE_STEP = 3  # columns of the picture between those looked at
EDGE_REACH = 0.42  # of the picture, from the side it lies at
EDGE_SLOPE = 0.3  # rise over run, at most: 17 degrees
EDGE_FIT_PX = 1.5  # from the line
EDGE_SHARE = 0.7  # of the places where it meets the side that must lie on the line
EDGE_RIM_PX = 2  # beyond the line: the edge is soft
TONE_SHARE, MIN_TONE = 0.08, 8.0  # of the range of greys; what is within it is one tone
MIN_INSIDE, MIN_OTHER = 0.15, 0.03  # share left inside, and of it what is not paper
MIN_SHEET = 0.4  # share left inside that is paper though nothing is on it
NUM_ANCHORS = 9

# A ruled line: thin, straight, even, with sharp sides, through all of the ink.
NUM_BANDS = 6
SLANTS = range(-4, 5)  # half pixels a band
RULE_COVERAGE, LEAST_IN_BAND = 0.86, 0.5  # of its length, and of any sixth of it
RULE_SIDE, FLANK_PX, FLANK_COVERAGE = 0.6, 2, 0.42  # where its sides are, and what lies beyond
RULE_WIDTH = 0.05  # of the picture, at most; above, up to the next, it is a band
BAND_WIDTH, BAND_COVERAGE = 0.6, 0.98
UNEVEN_PX, MIN_EVEN = 1.0, 4  # from the middle width, and in how many bands it is closer: two
# may be crossed
END_PX = 2  # from the picture's side, for a line that reaches it
OUTSIDE_SHARE = 0.01  # of the ink that may lie beyond a rule beside the character
INNER_COVERAGE, INNER_WIDTH = (
    0.95,
    0.6,
)  # of the strokes' width: a rule through the character is thinner
MAX_LINES, FRAME_LINES = 6, 3


class Lines(NamedTuple):
    """Pixels of ruled lines, and whether some of them are a band too broad for a rule."""

    pixels: Bool[np.ndarray, "h w"]
    has_band: bool


def foreign_edges(grey: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"] | None:
    """Pixels at the sides that are neither the paper nor on it; None if there are none.

    What is cut off is of one tone, other than that of most of the rest, and ends along a straight
    line with a sharp edge; the rest must have two tones of its own, or be too
    large for a stroke.
    """
    low, high = ranked(grey, (2, 98))
    tone = max(MIN_TONE, TONE_SHARE * (high - low))
    found = []
    for side in range(4):
        view = _from_side(grey, side)
        reach = int(EDGE_REACH * len(view))
        if reach < 4 or view.shape[1] <= 7 * EDGE_STEP:
            continue
        for is_mirrored in (False, True):
            seen = view[: reach + 4, :: -EDGE_STEP if is_mirrored else EDGE_STEP]
            corner = view[0, -5:] if is_mirrored else view[0, :5]
            reference = sorted(corner.tolist())[2]
            # One row for each column looked at, from the side inwards.
            edge = _edge_along(np.ascontiguousarray(seen.T), reach, reference, tone)
            if edge is None:
                continue
            depths = _depths_of(edge, view.shape[1])
            depths = depths[::-1] if is_mirrored else depths
            pixels = np.arange(len(view))[:, None] < depths[None]
            found.append((_from_side_back(pixels, side), reference))
    while found:
        pixels = np.logical_or.reduce([pixels for pixels, _ in found])
        inside = grey[~pixels]
        if inside.size < MIN_INSIDE * grey.size:
            return None
        middle = int(ranked(inside, (50,))[0])
        kept = [
            (pixels, tone_of) for pixels, tone_of in found if abs(tone_of - middle) > 1.5 * tone
        ]
        if len(kept) == len(found):
            is_other = np.abs(inside.astype(np.int16) - middle) > 2 * tone
            has_two = np.count_nonzero(is_other) >= MIN_OTHER * inside.size
            return pixels if has_two or inside.size >= MIN_SHEET * grey.size else None
        found = kept
    return None


def ranked(grey: UInt8[np.ndarray, "..."], per_cent: tuple[int, ...]) -> list[int]:
    """The least values with so many per cent of all at or below them."""
    running = np.cumsum(np.bincount(grey.ravel(), minlength=256))
    return [int(np.searchsorted(100 * running, share * grey.size)) for share in per_cent]


def _from_side(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture with its side (top, bottom, left, right) as the first row."""
    return (picture, picture[::-1], picture.T, picture.T[::-1])[side]


def _from_side_back(picture: np.ndarray, side: int) -> np.ndarray:
    return (picture, picture[::-1], picture.T, picture[::-1].T)[side]


class _Edge(NamedTuple):
    """A straight edge: its depth at the first column looked at, its slope, and how far it goes."""

    start: float
    slope: float
    num_met: int | None  # columns looked at; None where it goes all along the side


def _edge_along(
    profiles: UInt8[np.ndarray, "w h"], reach: int, reference: int, tone: float
) -> _Edge | None:
    """The line in which the tone `reference` of the side's first end ends.

    `profiles` are the columns looked at, from the side to 4 pixels beyond `reach`. None if the
    tone does not end in a straight line with a sharp edge.
    """
    depths = _depths_in_tone(profiles, reach, reference, int(tone))
    meets = depths > 0
    num_columns = num_met = len(depths)
    if np.count_nonzero(meets) < 0.9 * num_columns:
        ends = np.flatnonzero(~(meets[:-1] | meets[1:]))
        num_met = int(ends[0]) if ends.size else num_met
    places = np.flatnonzero(meets[:num_met] & (depths[:num_met] < reach))
    if len(places) < max(4, 0.15 * num_columns, 0.3 * num_met):
        return None
    met = depths[places]
    beyond = profiles[places, np.minimum(met + 3, profiles.shape[1] - 1)].astype(np.int16)
    beyond -= reference
    # So many places must be sharp for 0.75 of those on a line, which EDGE_SHARE of all are, to be.
    is_lighter, is_darker = beyond >= 2 * tone, beyond <= -2 * tone
    most = max(np.count_nonzero(is_lighter), np.count_nonzero(is_darker))
    if most < 0.75 * EDGE_SHARE * len(places) - 1e-9:
        return None
    line = _line_through(places, depths)
    if line is None:
        return None
    start, slope = line
    is_on = np.abs(met - (start + slope * places)) <= EDGE_FIT_PX
    num_on = np.count_nonzero(is_on)
    is_sharp = is_lighter if 2 * np.count_nonzero(beyond[is_on] > 0) > num_on else is_darker
    if np.count_nonzero(is_sharp[is_on]) < 0.75 * num_on:
        return None
    return _Edge(start, slope, num_met if num_met < num_columns else None)


def _depths_in_tone(
    profiles: UInt8[np.ndarray, "w h"], reach: int, reference: int, tone: int
) -> Int[np.ndarray, " w"]:
    """How many pixels from the side, up to `reach`, are within `tone` of the reference."""
    low, high = max(reference - tone, 0), min(reference + tone, 255)
    # What is darker than `low` wraps round to the bright end.
    ends = (profiles[:, : reach + 1] - np.uint8(low)) > high - low
    ends[:, reach] = True
    return ends.argmax(axis=1)


def _depths_of(edge: _Edge, width: int) -> Float[np.ndarray, " w"]:
    """How deep the edge lies at each pixel of its side, with its soft rim; 0 where it does not."""
    depths = edge.start + edge.slope * (np.arange(width) / EDGE_STEP)
    depths = np.where(depths > 0, depths + EDGE_RIM_PX, 0.0)
    if edge.num_met is not None:
        depths[edge.num_met * EDGE_STEP :] = 0.0
    return depths


@functools.cache
def _pairs() -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The first and the second of every pair of anchors."""
    first, second = np.triu_indices(NUM_ANCHORS, 1)
    return first, second


def _line_through(
    places: Int[np.ndarray, " n"], depths: Int[np.ndarray, " m"]
) -> tuple[float, float] | None:
    """Start and slope of the line on which most places lie; None if less than EDGE_SHARE do."""
    last = len(places) - 1
    anchors = places[(np.arange(NUM_ANCHORS) * last + NUM_ANCHORS // 2) // (NUM_ANCHORS - 1)]
    before = depths[np.maximum(anchors - 1, 0)]
    after = depths[np.minimum(anchors + 1, len(depths) - 1)]
    here = depths[anchors]
    # The middle of three.
    at = np.maximum(np.minimum(before, after), np.minimum(np.maximum(before, after), here))
    first, second = _pairs()
    run = anchors[second] - anchors[first]
    rise = at[second] - at[first]
    is_fit = (run > 0) & (np.abs(rise) <= EDGE_SLOPE * EDGE_STEP * run)
    if not is_fit.any():
        return None
    slopes = rise[is_fit] / run[is_fit]
    starts = at[first][is_fit] - slopes * anchors[first][is_fit]
    misses = np.abs(depths[places] - (starts[:, None] + slopes[:, None] * places))
    num_on = (misses <= EDGE_FIT_PX).sum(axis=1)
    best = int(num_on.argmax())
    if num_on[best] < EDGE_SHARE * len(places):
        return None
    return float(starts[best]), float(slopes[best])


class _Line(NamedTuple):
    """An upright line in a picture: its columns in each band, and what tells it from a stroke."""

    lefts: Int[np.ndarray, " bands"]
    rights: Int[np.ndarray, " bands"]
    is_whole: bool  # reaches the picture's sides
    is_even: bool
    is_solid: bool
    is_outer: bool
    is_band: bool


def ruled_lines(
    is_ink: Bool[np.ndarray, "h w"], outside: Bool[np.ndarray, "h w"] | None = None
) -> Lines | None:
    """Straight lines of even width through all of the ink, from top to bottom or side to side.

    They reach both sides of the picture, or of what is left of it `outside` foreign edges; or
    they are three sides or more of a frame. They lie beside the character, or are plainly thinner
    than its strokes; where a stroke crosses such a one, the crossing is the stroke's. Bands, as
    broad as strokes or broader, are found where they are straight and solid. None without lines.
    """
    kept, spare = [], []
    for is_level in (False, True):
        ink, beyond = is_ink, outside
        if is_level:
            ink, beyond = is_ink.T.copy(), None if outside is None else outside.T
        for line in _upright_lines(ink, beyond):
            width = float(np.median(line.rights - line.lefts))
            if line.is_band:
                is_kept = line.is_whole and line.is_even
            elif line.is_outer:
                is_kept = line.is_whole and line.is_even
                if line.is_even and not line.is_whole:
                    spare.append((is_level, line))
            else:
                is_kept = (
                    line.is_whole
                    and line.is_solid
                    and width <= INNER_WIDTH * stroke_width(is_ink)
                )
            if is_kept:
                kept.append((is_level, line))
    if len(spare) >= FRAME_LINES:
        kept += spare
    if not kept:
        return None
    rules = [(is_level, line) for is_level, line in kept if not line.is_band]
    every = np.zeros_like(is_ink)
    for is_level, line in rules:
        _mark(line, is_ink.T if is_level else is_ink, None, every.T if is_level else every)
    strokes, pixels = is_ink & ~every, np.zeros_like(is_ink)
    for is_level, line in rules:
        ink, other = (is_ink.T, strokes.T) if is_level else (is_ink, strokes)
        _mark(line, ink, other, pixels.T if is_level else pixels)
    return Lines(pixels, any(line.is_band for _, line in kept))


def _upright_lines(
    is_ink: Bool[np.ndarray, "h w"], outside: Bool[np.ndarray, "h w"] | None
) -> list[_Line]:
    height, width = is_ink.shape
    rows = np.flatnonzero(is_ink.any(axis=1))
    if not rows.size:
        return []
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    if bottom - top < max(8 * NUM_BANDS, 0.5 * height):
        return []
    bounds = [top + (bottom - top) * band // NUM_BANDS for band in range(NUM_BANDS + 1)]
    sums = np.empty((NUM_BANDS, width), np.int32)
    for band, counted in enumerate(sums):
        np.add.reduce(is_ink[bounds[band] : bounds[band + 1]], axis=0, dtype=np.int16, out=counted)
    shares = sums / np.diff(bounds)[:, None]
    if shares.mean(axis=0).max() < 0.3:
        return []
    pad, shifts = len(SLANTS), _shifts()
    padded = np.zeros((NUM_BANDS, width + 2 * pad))
    padded[:, pad : pad + width] = shares
    if not _may_hold_line(padded):
        return []
    bands = np.arange(NUM_BANDS)
    slanted = padded[bands[:, None], pad + np.arange(width) + shifts[:, :, None]]
    coverage = np.where(slanted.min(axis=1) >= LEAST_IN_BAND, slanted.mean(axis=1), 0.0)
    total, running = sums.sum(), np.cumsum(sums.sum(axis=0))
    first, last = 0, height
    if outside is not None:
        inner = np.flatnonzero(~outside.all(axis=1))
        first, last = int(inner[0]), int(inner[-1]) + 1
    taken, found = np.zeros(width, bool), []
    for _ in range(MAX_LINES):
        free = np.where(taken, 0.0, coverage)
        slant, column = divmod(int(free.argmax()), width)
        if free[slant, column] < RULE_COVERAGE:
            break
        along = coverage[slant]
        left, right = column, column + 1
        while left > 0 and along[left - 1] >= RULE_SIDE:
            left -= 1
        while right < width and along[right] >= RULE_SIDE:
            right += 1
        taken[max(0, left - FLANK_PX) : right + FLANK_PX] = True
        before = along[left - FLANK_PX] if left >= FLANK_PX else 0.0
        after = along[right + FLANK_PX - 1] if right + FLANK_PX <= width else 0.0
        broad = (right - left) / max(height, width)
        is_band = broad > RULE_WIDTH
        if max(before, after) > FLANK_COVERAGE or broad > BAND_WIDTH:
            continue
        if is_band and along[left:right].mean() < BAND_COVERAGE:
            continue
        near = padded[bands[:, None], pad + np.arange(left - 2, right + 2) + shifts[slant][:, None]]
        widths = near.sum(axis=1)
        is_even = np.count_nonzero(np.abs(widths - np.sort(widths)[2]) <= UNEVEN_PX) >= MIN_EVEN
        margin = right - left + 2 * FLANK_PX
        beside = (
            int(running[max(0, left - margin)]),
            int(total - running[min(width, right + margin) - 1]),
        )
        lefts, rights = left + shifts[slant], right + shifts[slant]
        ends = ((first, first + END_PX, 0), (last - END_PX, last, -1))
        is_whole = all(
            is_ink[start:end, max(0, lefts[band] - 1) : max(0, rights[band] + 1)].any()
            for start, end, band in ends
        )
        is_solid = bool(free[slant, column] >= INNER_COVERAGE)
        is_outer = min(beside) <= OUTSIDE_SHARE * total
        found.append(_Line(lefts, rights, is_whole, bool(is_even), is_solid, is_outer, is_band))
    return found


@functools.cache
def _shifts() -> Int[np.ndarray, "slants bands"]:
    """How many columns each band of a slanted line lies aside."""
    bands = np.arange(NUM_BANDS)
    return np.stack([(slant * (2 * bands - NUM_BANDS + 1)) // 4 for slant in SLANTS])


def _may_hold_line(padded: Float[np.ndarray, "bands w"]) -> bool:
    """Whether the best columns within reach of a slant, band by band, cover enough for a line."""
    shifts, width = _shifts(), padded.shape[1] - 2 * len(SLANTS)
    best = np.zeros(width)
    for shares, first, last in zip(padded, shifts.min(axis=0), shifts.max(axis=0), strict=True):
        start = len(SLANTS) + int(first)
        highest = shares[start : start + width]
        for shift in range(1, int(last - first) + 1):
            highest = np.maximum(highest, shares[start + shift : start + shift + width])
        best += np.where(highest >= LEAST_IN_BAND, highest, -NUM_BANDS)
    return bool(best.max() >= RULE_COVERAGE * NUM_BANDS - 1e-9)


def _mark(
    line: _Line,
    is_ink: Bool[np.ndarray, "h w"],
    strokes: Bool[np.ndarray, "h w"] | None,
    pixels: Bool[np.ndarray, "h w"],
) -> None:
    """Sets the pixels of a line with its rim, save where `strokes` show on both sides of it."""
    rows = np.flatnonzero(is_ink.any(axis=1))
    top, bottom, width = int(rows[0]), int(rows[-1]) + 1, is_ink.shape[1]
    bounds = top + (bottom - top) * np.arange(NUM_BANDS + 1) // NUM_BANDS
    for band, (left, right) in enumerate(zip(line.lefts, line.rights, strict=True)):
        rows_of_band = slice(bounds[band], bounds[band + 1])
        left, right = max(0, int(left) - 2), max(0, min(width, int(right) + 2))
        marked = pixels[rows_of_band, left:right]
        if strokes is None or left < 2 or right + 2 > width:
            marked[:] = True
        else:
            is_left = strokes[rows_of_band, left - 2 : left].any(axis=1)
            is_right = strokes[rows_of_band, right : right + 2].any(axis=1)
            marked[~(is_left & is_right)] = True
