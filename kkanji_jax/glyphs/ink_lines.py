"""What is straight in a picture of a character and no part of it: edges of another tone, rules.

`foreign_edges` finds mats, frames, letterboxes, corners of a turned scan, strips of a background,
before anything is known of ink and paper. `ruled_lines` finds ruled lines and bands in the ink.
"""

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
    low, high = (int(value) for value in ranked(grey, (2, 98)))
    tone = max(MIN_TONE, TONE_SHARE * (high - low))
    found = []
    for side in range(4):
        view = _from_side(grey, side)
        for is_mirrored in (False, True):
            edge = _edge_along(view[:, ::-1] if is_mirrored else view, tone)
            if edge is None:
                continue
            depths, reference = edge
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


def _edge_along(
    view: UInt8[np.ndarray, "h w"], tone: float
) -> tuple[Float[np.ndarray, " w"], int] | None:
    """How deep, at each column, the first row's left end goes on in one tone, and that tone.

    None if it does not end in a straight line with a sharp edge.
    """
    height, width = view.shape
    reach = int(EDGE_REACH * height)
    columns = np.arange(0, width, EDGE_STEP)
    if reach < 4 or len(columns) < 8:
        return None
    reference = int(np.sort(view[0, :5])[2])
    seen = view[: reach + 4, ::EDGE_STEP].astype(np.int16) - reference
    is_same = np.abs(seen[:reach]) <= tone
    depths = np.where(is_same.all(axis=0), reach, is_same.argmin(axis=0))
    meets = depths > 0
    num_met = len(columns)
    if np.count_nonzero(meets) < 0.9 * len(columns):
        ends = np.flatnonzero(~(meets[:-1] | meets[1:]))
        num_met = int(ends[0]) if ends.size else num_met
    places = np.flatnonzero(meets[:num_met] & (depths[:num_met] < reach))
    if len(places) < max(4, 0.15 * len(columns), 0.3 * num_met):
        return None
    line = _line_through(places, depths)
    if line is None:
        return None
    start, slope = line
    on_line = places[np.abs(depths[places] - (start + slope * places)) <= EDGE_FIT_PX]
    beyond = seen[np.minimum(depths[on_line] + 3, len(seen) - 1), on_line]
    sign = 1 if 2 * np.count_nonzero(beyond > 0) > len(beyond) else -1
    if np.count_nonzero(sign * beyond >= 2 * tone) < 0.75 * len(beyond):
        return None
    line_depths = start + slope * (np.arange(width) / EDGE_STEP)
    line_depths = np.where(line_depths > 0, line_depths + EDGE_RIM_PX, 0.0)
    if num_met < len(columns):
        line_depths[num_met * EDGE_STEP :] = 0.0
    return line_depths, reference


def _line_through(
    places: Int[np.ndarray, " n"], depths: Int[np.ndarray, " m"]
) -> tuple[float, float] | None:
    """Start and slope of the line on which most places lie; None if less than EDGE_SHARE do."""
    last = len(places) - 1
    anchors = places[(np.arange(NUM_ANCHORS) * last + NUM_ANCHORS // 2) // (NUM_ANCHORS - 1)]
    near = np.clip(anchors[:, None] + np.arange(-1, 2), 0, len(depths) - 1)
    at = np.sort(depths[near], axis=1)[:, 1]
    first, second = np.triu_indices(NUM_ANCHORS, 1)
    run = anchors[second] - anchors[first]
    rise = at[second] - at[first]
    is_fit = (run > 0) & (np.abs(rise) <= EDGE_SLOPE * EDGE_STEP * run)
    if not is_fit.any():
        return None
    slopes = rise[is_fit] / run[is_fit]
    starts = at[first][is_fit] - slopes * anchors[first][is_fit]
    misses = np.abs(depths[places] - (starts[:, None] + slopes[:, None] * places))
    num_on = np.count_nonzero(misses <= EDGE_FIT_PX, axis=1)
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
    inner_width = INNER_WIDTH * stroke_width(is_ink)
    kept, spare = [], []
    for is_level in (False, True):
        ink, beyond = is_ink, outside
        if is_level:
            ink, beyond = is_ink.T, None if outside is None else outside.T
        for line in _upright_lines(ink, beyond):
            width = float(np.median(line.rights - line.lefts))
            if line.is_band:
                is_kept = line.is_whole and line.is_even
            elif line.is_outer:
                is_kept = line.is_whole and line.is_even
                if line.is_even and not line.is_whole:
                    spare.append((is_level, line))
            else:
                is_kept = line.is_whole and line.is_solid and width <= inner_width
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
    bounds = top + (bottom - top) * np.arange(NUM_BANDS + 1) // NUM_BANDS
    sums = np.add.reduceat(is_ink[:bottom], bounds[:-1], axis=0, dtype=np.int32)
    shares = sums / np.diff(bounds)[:, None]
    if shares.mean(axis=0).max() < 0.3:
        return []
    pad, bands = len(SLANTS), np.arange(NUM_BANDS)
    padded = np.pad(shares, ((0, 0), (pad, pad)))
    shifts = [(slant * (2 * bands - NUM_BANDS + 1)) // 4 for slant in SLANTS]
    coverage = np.zeros((len(shifts), width))
    for along, shift in zip(coverage, shifts, strict=True):
        slanted = padded[bands[:, None], pad + np.arange(width) + shift[:, None]]
        along[:] = np.where(slanted.min(axis=0) >= LEAST_IN_BAND, slanted.mean(axis=0), 0.0)
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
