"""What is straight in a picture of a character and no part of it: edges of another tone, rules.

`foreign_edges` finds mats, frames, letterboxes, corners of a turned scan, strips of a background,
before anything is known of ink and paper. `ruled_lines` finds ruled lines and bands in the ink.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from kkanji_jax.array_types import Bool, Float, Int, UInt8
from kkanji_jax.glyphs.ink_parts import stroke_width, sum_type

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
    for side, is_mirrored, edge in _straight_edges(grey, tone):
        view = _from_side(grey, side)
        depths = _depths_of(edge, view.shape[1])
        depths = depths[::-1] if is_mirrored else depths
        pixels = np.arange(len(view))[:, None] < depths[None]
        found.append((_from_side_back(pixels, side), edge.reference))
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
    running = 100 * np.bincount(grey.ravel(), minlength=256).cumsum()
    return running.searchsorted([share * grey.size for share in per_cent]).tolist()


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
    reference: int  # the tone that ends there


class _Profiles(NamedTuple):
    """Columns of the picture from each side inwards, once from each end of the side.

    All are padded to one shape; `num_columns` and `reach` tell how much of it counts.
    """

    pixels: UInt8[np.ndarray, "n w h"]
    num_columns: Int[np.ndarray, " n"]
    reach: Int[np.ndarray, " n"]  # of these pixels and up to 4 beyond, `depth` in all
    depth: Int[np.ndarray, " n"]
    references: Int[np.ndarray, " n"]  # the tone of the corner where each begins
    sides: list[tuple[int, bool]]  # and whether it is seen from the far end


def _profiles_of(grey: UInt8[np.ndarray, "h w"]) -> _Profiles | None:
    columns, references, sides = [], [], []
    for side in range(4):
        view = _from_side(grey, side)
        reach = int(EDGE_REACH * len(view))
        if reach < 4 or -(-view.shape[1] // EDGE_STEP) < 8:
            continue
        for is_mirrored in (False, True):
            seen = view[: reach + 4, ::-1] if is_mirrored else view[: reach + 4]
            columns.append((seen[:, ::EDGE_STEP].T, reach))
            references.append(sorted(seen[0, :5].tolist())[2])
            sides.append((side, is_mirrored))
    if not columns:
        return None
    shapes = np.array([seen.shape for seen, _ in columns])
    pixels = np.zeros((len(columns), *shapes.max(axis=0).tolist()), np.uint8)
    for row, (seen, _) in enumerate(columns):
        pixels[row, : seen.shape[0], : seen.shape[1]] = seen
    reach = np.array([reach for _, reach in columns])
    return _Profiles(pixels, shapes[:, 0], reach, shapes[:, 1], np.array(references), sides)


def _straight_edges(grey: UInt8[np.ndarray, "h w"], tone: float) -> list[tuple[int, bool, _Edge]]:
    """The lines in which the tones of corners end: the side, whether seen from its far end, where.

    Only where most of the line is a sharp edge.
    """
    profiles = _profiles_of(grey)
    if profiles is None:
        return []
    pixels, num_columns, reach, depth, references, sides = profiles
    depths = _depths_in_tone(profiles, int(tone))
    is_met = depths > 0
    num_met = num_columns.copy()
    for row in (is_met.sum(axis=1) < 0.9 * num_columns).nonzero()[0].tolist():
        meets = is_met[row, : num_columns[row]]
        ends = (~(meets[:-1] | meets[1:])).nonzero()[0]
        if ends.size:
            num_met[row] = ends[0]
            is_met[row, ends[0] :] = False
    is_open = is_met & (depths < reach[:, None])
    num_open = is_open.sum(axis=1)
    beyond = np.minimum(depths + 3, depth[:, None] - 1)
    beyond += np.arange(beyond.size).reshape(beyond.shape) * pixels.shape[2]
    step = pixels.take(beyond).astype(np.int16)
    step -= references[:, None].astype(np.int16)
    is_lighter, is_darker = step >= 2 * tone, step <= -2 * tone
    # So many must be sharp for 0.75 of those on a line, which EDGE_SHARE of all are, to be.
    num_sharp = np.maximum((is_lighter & is_open).sum(axis=1), (is_darker & is_open).sum(axis=1))
    least = np.maximum(np.maximum(0.15 * num_columns, 4), 0.3 * num_met)
    is_hopeful = (num_open >= least) & (num_sharp >= 0.75 * EDGE_SHARE * num_open - 1e-9)
    hopeful = is_hopeful.nonzero()[0]
    if not hopeful.size:
        return []
    lines = _lines_through(
        is_open[hopeful], num_open[hopeful], depths[hopeful], num_columns[hopeful]
    )
    found = []
    for row, line in zip(hopeful.tolist(), lines, strict=True):
        if line is None:
            continue
        start, slope = line
        places = is_open[row].nonzero()[0]
        is_on = np.abs(depths[row, places] - (start + slope * places)) <= EDGE_FIT_PX
        on_line = step[row, places[is_on]]
        sign = 1 if 2 * np.count_nonzero(on_line > 0) > len(on_line) else -1
        if np.count_nonzero(sign * on_line >= 2 * tone) >= 0.75 * len(on_line):
            end = int(num_met[row]) if num_met[row] < num_columns[row] else None
            found.append((*sides[row], _Edge(start, slope, end, int(references[row]))))
    return found


def _depths_in_tone(profiles: _Profiles, tone: int) -> Int[np.ndarray, "n w"]:
    """How many pixels from the side, up to its reach, are within `tone` of the reference.

    0 in columns that are none.
    """
    low = np.maximum(profiles.references - tone, 0).astype(np.uint8)
    high = np.minimum(profiles.references + tone, 255).astype(np.uint8)
    # What is darker than `low` wraps round to the bright end.
    ends = (profiles.pixels - low[:, None, None]) > (high - low)[:, None, None]
    sizes = zip(ends, profiles.num_columns.tolist(), profiles.reach.tolist(), strict=True)
    for own, num_columns, reach in sizes:
        own[num_columns:, 0] = True
        own[:, reach] = True
    return ends.argmax(axis=2)


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


def _lines_through(
    is_open: Bool[np.ndarray, "n w"],
    num_open: Int[np.ndarray, " n"],
    depths: Int[np.ndarray, "n w"],
    num_columns: Int[np.ndarray, " n"],
) -> list[tuple[float, float] | None]:
    """For each row start and slope of the line on which most of its open places lie.

    None where less than EDGE_SHARE of them do.
    """
    rows = np.arange(len(depths))[:, None]
    # The open places of each row come first.
    places = np.argsort(~is_open, axis=1, kind="stable")
    last = num_open[:, None] - 1
    numbers = (np.arange(NUM_ANCHORS) * last + NUM_ANCHORS // 2) // (NUM_ANCHORS - 1)
    anchors = places[rows, numbers]
    here, before = depths[rows, anchors], depths[rows, np.maximum(anchors - 1, 0)]
    after = depths[rows, np.minimum(anchors + 1, num_columns[:, None] - 1)]
    # The middle of three.
    at = np.maximum(np.minimum(before, after), np.minimum(np.maximum(before, after), here))
    first, second = _pairs()
    run, rise = anchors[:, second] - anchors[:, first], at[:, second] - at[:, first]
    is_fit = (run > 0) & (np.abs(rise) <= EDGE_SLOPE * EDGE_STEP * run)
    slopes = rise / np.maximum(run, 1)
    starts = at[:, first] - slopes * anchors[:, first]
    of_row, pairs = is_fit.nonzero()
    lines = slopes[of_row, pairs][:, None] * np.arange(depths.shape[1])
    lines += starts[of_row, pairs][:, None]
    lines -= depths[of_row]
    np.abs(lines, out=lines)
    is_on = lines <= EDGE_FIT_PX
    is_on &= is_open[of_row]
    num_on = np.full(is_fit.shape, -1)
    num_on[of_row, pairs] = np.count_nonzero(is_on, axis=1)
    best = num_on.argmax(axis=1)
    return [
        (float(starts[row, pair]), float(slopes[row, pair]))
        if num_on[row, pair] >= EDGE_SHARE * num_open[row]
        else None
        for row, pair in enumerate(best.tolist())
    ]


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
                    line.is_whole and line.is_solid and width <= INNER_WIDTH * stroke_width(is_ink)
                )
            if is_kept:
                kept.append((is_level, line))
    if len(spare) + sum(not line.is_band for _, line in kept) >= FRAME_LINES:
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
    sums, lengths = np.empty((NUM_BANDS, width), np.int64), np.empty((NUM_BANDS, 1))
    for band, (start, end) in enumerate(itertools.pairwise(bounds)):
        ones, held = is_ink[start:end].view(np.uint8), sum_type(end - start)
        sums[band] = np.add.reduce(ones, axis=0, dtype=held)
        lengths[band] = end - start
    shares = sums / lengths
    # In each band a line covers no more than the best of the columns.
    best = shares.max(axis=1)
    if best.min() < LEAST_IN_BAND or best.sum() < RULE_COVERAGE * NUM_BANDS - 1e-9:
        return []
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
        is_whole = all(
            _reaches(
                is_ink[::direction],
                None if outside is None else outside[::direction],
                slice(max(0, lefts[band] - 1), max(0, rights[band] + 1)),
            )
            for band, direction in ((0, 1), (-1, -1))
        )
        is_solid = bool(free[slant, column] >= INNER_COVERAGE)
        is_outer = min(beside) <= OUTSIDE_SHARE * total
        found.append(_Line(lefts, rights, is_whole, bool(is_even), is_solid, is_outer, is_band))
    return found


def _reaches(
    is_ink: Bool[np.ndarray, "h w"], outside: Bool[np.ndarray, "h w"] | None, columns: slice
) -> bool:
    """Whether ink in these columns reaches the first row, or the end of what is outside there."""
    first = 0
    if outside is not None:
        inner = np.flatnonzero(~outside[:, columns].all(axis=1))
        first = int(inner[0]) if inner.size else 0
    return bool(is_ink[first : first + END_PX, columns].any())


@functools.cache
def _shifts() -> Int[np.ndarray, "slants bands"]:
    """How many columns each band of a slanted line lies aside."""
    bands = np.arange(NUM_BANDS)
    return np.stack([(slant * (2 * bands - NUM_BANDS + 1)) // 4 for slant in SLANTS])


def _may_hold_line(padded: Float[np.ndarray, "bands w"]) -> bool:
    """Whether the best columns within reach of a slant, band by band, cover enough for a line."""
    # Bands in the middle shift by 1 column at most, the next by 3, the outer ones by 5.
    best = np.zeros(padded.shape[1] - 2 * len(SLANTS))
    highest, margin = padded, len(SLANTS)
    for band, step in zip(range(NUM_BANDS // 2 - 1, -1, -1), (1, 2, 2), strict=True):
        around = np.maximum(highest[:, : -2 * step], highest[:, 2 * step :])
        highest, margin = np.maximum(around, highest[:, step:-step]), margin - step
        pair = highest[[band, NUM_BANDS - 1 - band], margin:-margin]
        best += np.where(pair >= LEAST_IN_BAND, pair, -NUM_BANDS).sum(axis=0)
        if best.max() + 2 * band < RULE_COVERAGE * NUM_BANDS - 1e-9:
            return False
    return True


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
