"""Any image of one character -> the 64x64 white-on-black look that the network knows.

`glyph_image` goes from a picture to the glyph, `glyph_steps` shows what each step of it made and
what is remarkable, `normalise_glyph` starts from grey and `is_blank` says that there is no ink.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from kkanji_jax.array_types import Bool, Float, Int, Shaped, UInt8
from kkanji_jax.glyphs.image_files import ImageSource, Picture, grey_of, load_picture
from kkanji_jax.glyphs.ink_lines import foreign_edges, ranked, ruled_lines
from kkanji_jax.glyphs.ink_parts import (
    cleared,
    counts_of,
    holds_several,
    is_cut_by_side,
    stroke_width,
    without_neighbours,
    without_strays,
)

GLYPH_PX, SMALL_PX = 64, 28  # Kuzushiji-Kanji's side; Kuzushiji-49's and Kuzushiji-MNIST's
# A published glyph is near-binary: 99.99 % of CODH's images have more than .72 of their pixels
# outside [DARK_BELOW, BRIGHT_FROM), and none has paper at its border. It fills its frame: all of
# 42,000 that are not black have ink of 240 or more, all but one are 40 of 64 pixels long or more.
DARK_BELOW, BRIGHT_FROM, MIN_EXTREME_SHARE = 64, 192, 0.7
MIN_PUBLISHED_LENGTH = 0.6  # of the frame
BLACK_TO = 16  # paper of a negative is white to within this
MIN_INK_PX = 16  # of 64x64; the sparsest of CODH's images that is not black has 34
WORK_PX = 192  # long side on which paper and threshold are estimated
FEW_PX = 24  # a picture up to this long has too few pixels for its strokes
PAPER_PX, PAPER_REACH_PX = 48, 6  # where the paper is estimated; strokes are narrower than twice
NUM_RINGS = 6  # of the same size: how far in from the border paper is looked for
MIN_PAPER = 32  # grey: darker paper is not divided by
# Shares of the paper's light; within-class deviations. Noise splits at 3.3, and few pixels blur.
MIN_CONTRAST, MIN_SEPARATION = 0.06, 4.0
# Less separation will do for strokes that are soft, not for noise, whose grains are a pixel wide.
MIN_SOFT_CONTRAST, MIN_SOFT_SEPARATION, MIN_GRAIN_PX = 0.2, 2.4, 2.0
MAX_STROKE_PX = 60  # of WORK_PX: what is broader is no stroke, but light
# Half the pixels and more differ so much from their neighbours, in shares of the greys' range:
# noise or dither, and blurred by so much. Not where strokes may be a pixel wide.
ROUGH_SHARE, ROUGH, ROUGH_BLUR_PX, ROUGH_FROM_PX, ROUGH_TO_PX = 0.4, 0.055, 1.0, 40, 512
LOST_INK = 0.0025  # share of ink that may lie outside the box at each of its sides: specks
MIN_BOX_SHARE = 0.25  # of the long side: a speck is not blown up into a character
MARGIN_PX = 2
# Photographs' strokes are 2.8 px wide, published ones 3.5. Thicker by up to half a pixel a side:
# 7 of 1,493 photographed kanji gained, on tuning and reporting halves and both sources alike.
THIN_PX, THICKEN_PX = 3.4, 0.5

BLANK, UNCLEAR = "blank", "unclear"  # no ink; ink and paper cannot be told apart
SEVERAL, CUT_OFF, BAND = "several characters", "cut off at the side", "a dark band"
FEW_PIXELS, RED_INK = "few pixels", "red ink only"
BAND_DEPTH = 0.12  # of the picture: an edge as dark as ink, and as deep, may hide strokes
# So may a band across the picture that is broader than strokes: the paper is estimated by it. None
# of 661 sure readings of the tuning half has one; under a black band, all 10 that had no
# remark have.
BAND_DARK, BAND_COVER = 0.35, 0.9  # of the paper; of the rows or columns that it crosses
MIN_BAND_PX = 7  # of PAPER_PX


class Inked(NamedTuple):
    """Ink strength in 0..255, paper 0, and the mean strengths of paper and ink by Otsu's split."""

    ink: UInt8[np.ndarray, "h w"]
    paper_mean: float
    ink_mean: float


class Steps(NamedTuple):
    """What each step made of a picture, in order; None for a step that it did not need.

    A published glyph needs none but the last, and a picture without ink has none to show.
    `trouble` is BLANK, UNCLEAR, or empty where there is ink; a glyph in trouble is black.
    """

    grey: UInt8[np.ndarray, "h w"]
    ink: UInt8[np.ndarray, "y x"] | None  # the paper divided out
    strokes: UInt8[np.ndarray, "y x"] | None  # stretched from paper to ink
    own_strokes: UInt8[np.ndarray, "y x"] | None  # without lines and other characters' strokes
    glyph: UInt8[np.ndarray, "64 64"]
    is_ink_bright: bool  # as found, or as told
    trouble: str = ""
    remarks: tuple[str, ...] = ()


def glyph_image(source: ImageSource) -> UInt8[np.ndarray, "64 64"]:
    """Ink 255 on 0. A blank image gives zeros; what cannot be read raises ValueError."""
    return glyph_steps(load_picture(source)).glyph


def normalise_glyph(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    """The published look: white ink on black, soft edges, the long side filling the frame.

    A white-on-black near-binary image as CODH publishes them is returned unchanged at 64x64, and
    only enlarged from 28x28, as datasets have it; its negative is only turned. Anything else loses
    edges of another tone (mats, frames, corners of a turned scan), has its polarity found (the
    border is paper), its paper divided out, its greys stretched between paper and ink, ruled lines
    and other characters' strokes removed, a crop to the ink, and is padded to a square, never
    squashed. Without ink, or where ink and paper cannot be told apart: zeros.
    """
    return glyph_steps(grey).glyph


def glyph_steps(picture: Picture, is_ink_bright: bool | None = None) -> Steps:
    """`normalise_glyph` step by step; `is_ink_bright` says what it would else find out.

    In colour, red ink is not ink (`image_files.grey_of`), unless there is no other.
    """
    grey = grey_of(picture)
    steps = _steps_of(grey, is_ink_bright)
    if steps.trouble and picture.ndim == 3:
        luma = np.asarray(Image.fromarray(picture).convert("L"))
        if (luma != grey).any():
            red = _steps_of(luma, is_ink_bright)
            if not red.trouble:
                return red._replace(remarks=(RED_INK, *red.remarks))
    return steps


def _steps_of(grey: UInt8[np.ndarray, "h w"], is_ink_bright: bool | None) -> Steps:
    published = _published(grey, is_ink_bright)
    if published is not None:
        glyph = published if len(grey) == GLYPH_PX else _enlarge(published)
        trouble = BLANK if is_blank(glyph) else ""
        return Steps(grey, None, None, None, glyph, published is grey, trouble)
    small = _to_work_size(_without_roughness(grey))
    edges = foreign_edges(small)
    coarse = _coarse(small)
    is_bright = is_ink_bright
    if is_bright is None:
        is_bright = _is_ink_bright(coarse if edges is None else _coarse(_filled(small, edges)))
    has_few = max(grey.shape) <= FEW_PX
    remarks = [FEW_PIXELS] if has_few else []
    grain_px = 0.0 if has_few else MIN_GRAIN_PX * WORK_PX / max(grey.shape)
    dark = small
    if is_bright:
        dark, coarse = 255 - small, _coarse(255 - small)
    inked = _find_ink(dark, coarse, edges, grain_px)
    if isinstance(inked, str):
        nothing = np.zeros((GLYPH_PX, GLYPH_PX), np.uint8)
        return Steps(grey, None, None, None, nothing, is_bright, inked, tuple(remarks))
    strokes = _stretch(inked)
    lines = ruled_lines(strokes >= 128, edges)
    unruled = strokes if lines is None else cleared(strokes, lines.pixels)
    own = without_neighbours(without_strays(unruled))
    if not is_worth_naming(own):
        nothing = np.zeros((GLYPH_PX, GLYPH_PX), np.uint8)
        return Steps(grey, inked.ink, strokes, own, nothing, is_bright, BLANK, tuple(remarks))
    has_band = lines is not None and lines.has_band
    if has_band or _covers(edges, small, is_bright) or _is_banded(coarse):
        remarks.append(BAND)
    if holds_several(own):
        remarks.append(SEVERAL)
    inner = own if edges is None else own[_inner_box(edges)]
    if is_cut_by_side(inner):
        remarks.append(CUT_OFF)
    rows, columns = _ink_box(own)
    glyph = _thickened(_fit_square(own[rows, columns]))
    return Steps(grey, inked.ink, strokes, own, glyph, is_bright, "", tuple(remarks))


def _inner_box(edges: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Rows and columns between those that are an edge from end to end."""
    rows, columns = (np.flatnonzero(~edges.all(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _covers(
    edges: Bool[np.ndarray, "h w"] | None, grey: UInt8[np.ndarray, "h w"], is_ink_bright: bool
) -> bool:
    """Whether an edge of the ink's tone lies so deep at one side alone that it may hide strokes."""
    if edges is None:
        return False
    for inner, length in zip(_inner_box(edges), edges.shape, strict=True):
        before, after = inner.start, length - inner.stop
        if (
            max(before, after) >= BAND_DEPTH * length
            and min(before, after) < max(before, after) / 4
        ):
            is_dark = ranked(grey[edges], (50,)) < ranked(grey[~edges], (50,))
            return is_dark != is_ink_bright
    return False


def _is_banded(coarse: UInt8[np.ndarray, "y x"]) -> bool:
    """Whether a dark band that is broader than strokes crosses the picture, or covers one side.

    Bands at opposite sides are no such band, unless one is 4 times as deep as the other: they are
    a frame, or a letterbox.
    """
    is_dark = coarse < BAND_DARK * ranked(coarse, (75,))[0]
    for counts, breadth in zip(counts_of(is_dark), reversed(coarse.shape), strict=True):
        length = len(counts)
        is_covered = counts >= BAND_COVER * breadth
        if not is_covered.any():
            continue
        is_crossed = np.zeros(length + 2, np.int8)
        is_crossed[1:-1] = is_covered
        steps = np.diff(is_crossed)
        starts, ends = (np.flatnonzero(steps == step).tolist() for step in (1, -1))
        if (starts[0], ends[0]) == (0, length):
            continue
        at_first = ends[0] if starts[0] == 0 else 0
        at_last = length - starts[-1] if ends[-1] == length else 0
        for start, end in zip(starts, ends, strict=True):
            opposite = at_last if start == 0 else at_first if end == length else 0
            if end - start >= MIN_BAND_PX and 4 * opposite < end - start:
                return True
    return False


def _thickened(glyph: UInt8[np.ndarray, "64 64"]) -> UInt8[np.ndarray, "64 64"]:
    """Strokes that are thinner than the published ones, by up to half a pixel a side thicker."""
    share = min(max(THIN_PX - stroke_width(glyph >= 128), 0.0), 1.0) * THICKEN_PX
    if share == 0:
        return glyph
    highest = glyph.copy()
    np.maximum(highest[1:], glyph[:-1], out=highest[1:])
    np.maximum(highest[:-1], glyph[1:], out=highest[:-1])
    np.maximum(highest[:, 1:], glyph[:, :-1], out=highest[:, 1:])
    np.maximum(highest[:, :-1], glyph[:, 1:], out=highest[:, :-1])
    weight = round(256 * share)
    # At most 256 * 255 + 128: within 16 bits.
    mixed = glyph.astype(np.uint16) * np.uint16(256 - weight) + np.uint16(128)
    mixed += highest.astype(np.uint16) * np.uint16(weight)
    return (mixed >> 8).astype(np.uint8)


def _published(
    grey: UInt8[np.ndarray, "h w"], is_ink_bright: bool | None
) -> UInt8[np.ndarray, "h w"] | None:
    """The picture, or its negative, if that is a published glyph already."""
    if grey.shape not in ((GLYPH_PX, GLYPH_PX), (SMALL_PX, SMALL_PX)):
        return None
    if is_ink_bright is not False and is_published_form(grey):
        return grey
    is_negative = _median(_border(grey)) >= 255 - BLACK_TO and is_published_form(255 - grey)
    return 255 - grey if is_negative and not is_ink_bright else None


def is_published_form(grey: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether this already is a white-on-black near-binary glyph that fills 64x64 or 28x28."""
    if grey.shape not in ((GLYPH_PX, GLYPH_PX), (SMALL_PX, SMALL_PX)):
        return False
    if _median(_border(grey)) >= 128:
        return False
    # What is darker wraps round to the bright end.
    num_between = np.count_nonzero(grey - np.uint8(DARK_BELOW) < BRIGHT_FROM - DARK_BELOW)
    if (grey.size - num_between) / grey.size < MIN_EXTREME_SHARE:
        return False
    if not grey.any():
        return True
    is_ink = grey >= 128
    rows, columns = (np.flatnonzero(is_ink.any(axis=axis)) for axis in (1, 0))
    if not rows.size or grey.max() < BRIGHT_FROM:
        return False
    length = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    return bool(length >= MIN_PUBLISHED_LENGTH * len(grey))


def is_blank(glyph: UInt8[np.ndarray, "64 64"]) -> bool:
    """Whether a glyph in the published look has no ink worth naming."""
    return int(np.count_nonzero(glyph >= 128)) < MIN_INK_PX


def is_worth_naming(soft: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether what is left of the ink at the size of work can be a character."""
    return int(np.count_nonzero(soft >= 128)) >= MIN_INK_PX * (max(soft.shape) / GLYPH_PX) ** 2 / 4


def _enlarge(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    return np.asarray(Image.fromarray(grey).resize((GLYPH_PX, GLYPH_PX), Image.Resampling.BICUBIC))


def _border(grey: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, " n"]:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _coarse(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "y x"]:
    """The picture at the size at which its paper is looked for."""
    return np.asarray(_image(grey).resize(_scaled(grey.shape, PAPER_PX), Image.Resampling.BOX))


def _image(grey: UInt8[np.ndarray, "h w"]) -> Image.Image:
    """The same pixels as Pillow has them, not copied where that can be."""
    height, width = grey.shape
    pixels = np.ascontiguousarray(grey)
    return Image.frombuffer("L", (width, height), pixels, "raw", "L", 0, 1)


def _filled(
    grey: UInt8[np.ndarray, "h w"], edges: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "y x"]:
    """What is inside edges; their corners that are left in it have the tone of most of the rest."""
    inside = _inner_box(edges)
    middle = np.sort(grey[~edges])[np.count_nonzero(~edges) // 2]
    return np.where(edges[inside], middle, grey[inside])


def _is_ink_bright(coarse: UInt8[np.ndarray, "y x"]) -> bool:
    """Whether paper, which most of the border is, is darker than what is near it.

    Near it, lest a shadow over most of the border be ink; within the border too, lest a ruled line
    be paper. What is flat, and what lies on a frame, is compared with all of the picture.
    """
    height, width = coarse.shape
    # Sums of whole numbers, exact in float64.
    around = _near(height) @ coarse.astype(np.float64) @ _near(width).T
    higher = coarse - around / (2 * (PAPER_PX // 4) + 1) ** 2
    values = higher.ravel()
    rings = [_median(values[places]) for places in _rings(height, width)]
    mean = float(coarse.mean())
    of_all = _median(coarse.ravel()[_rings(height, width)[0]].astype(np.float64)) - mean
    skew = _median(values) - float(higher.mean())
    return sum(rings) + 2 * max(rings[0], 0.0) + 0.3 * of_all + 3 * skew < 0


@functools.cache
def _near(length: int) -> Float[np.ndarray, "h h"]:
    """How often each place counts in the square round each, where the picture is mirrored."""
    reach = PAPER_PX // 4
    near = np.zeros((length, length))
    for place in range(length):
        for at in range(place - reach, place + reach + 1):
            turn = at % (2 * length)
            near[place, turn if turn < length else 2 * length - 1 - turn] += 1
    return near


@functools.cache
def _rings(height: int, width: int) -> list[Int[np.ndarray, " n"]]:
    """Places of the border and of the borders of what is inside it; each corner twice."""
    places = np.arange(height * width).reshape(height, width)
    return [
        _border(places[inset : height - inset, inset : width - inset])
        for inset in range(NUM_RINGS)
        if 2 * inset < min(height, width) - 1 or inset == 0
    ]


def _median(values: Shaped[np.ndarray, " n"]) -> float:
    """`np.median` without its checks, which cost more than the sorting."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    below, above = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1].tolist()
    return (below + above) / 2


def _scaled(shape: tuple[int, ...], long_px: int) -> tuple[int, int]:
    """Width and height of a picture of `shape` whose long side is `long_px`."""
    scale = long_px / max(shape)
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _without_roughness(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The picture, or where noise or dither roughens it, a blurred one."""
    if min(grey.shape) < ROUGH_FROM_PX or max(grey.shape) > ROUGH_TO_PX:
        return grey
    wide = grey.astype(np.int16)
    around = wide[1:-1, :-2] + wide[1:-1, 2:]
    around += wide[:-2, 1:-1]
    around += wide[2:, 1:-1]
    rough = np.abs(4 * wide[1:-1, 1:-1] - around)
    low, high = ranked(grey, (2, 98))
    least = math.ceil(4 * ROUGH * max(high - low, 1))
    if np.count_nonzero(rough < least) > int(ROUGH_SHARE * rough.size):
        return grey
    return np.asarray(_image(grey).filter(ImageFilter.GaussianBlur(ROUGH_BLUR_PX)))


def _to_work_size(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "y x"]:
    size = _scaled(grey.shape, WORK_PX)
    return np.asarray(_image(grey).resize(size, Image.Resampling.LANCZOS))


def _paper_of(coarse: UInt8[np.ndarray, "y x"], shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    """The paper's brightness: what is darker and narrower than strokes may be is filled up.

    A closing by a square, which keeps the edges of shadows where they are.
    """
    closed = 255 - _highest_near(255 - _highest_near(coarse))
    paper = _image(closed).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(paper.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _highest_near(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The highest value within PAPER_REACH_PX rows and columns."""
    size = 2 * PAPER_REACH_PX + 1
    for _ in range(2):
        highest = np.zeros((len(grey) + size - 1, grey.shape[1]), np.uint8)
        highest[PAPER_REACH_PX : PAPER_REACH_PX + len(grey)] = grey
        # Each value is the highest of `reached` rows; twice as many, and then `size`.
        reached = 1
        while reached < size:
            step = min(reached, size - reached)
            highest = np.maximum(highest[:-step], highest[step:])
            reached += step
        grey = highest.T
    return np.ascontiguousarray(grey)


def _find_ink(
    grey: UInt8[np.ndarray, "h w"],
    coarse: UInt8[np.ndarray, "y x"],
    edges: Bool[np.ndarray, "h w"] | None,
    grain_px: float,
) -> Inked | str:
    """Otsu's two classes on the light that the paper's share lacks; or BLANK, or UNCLEAR.

    Strokes that are wider than `grain_px` may be soft; at 0, with few pixels, faint as well.
    """
    ink = _ink_strength(grey, np.maximum(_paper_of(coarse, grey.shape), MIN_PAPER))
    counted = ink
    if edges is not None:
        ink[edges] = 0
        counted = ink[~edges]
    share = np.bincount(counted.ravel(), minlength=256) / counted.size
    levels = np.arange(256.0)
    below, mass = np.cumsum(share), np.cumsum(share * levels)
    splits = np.flatnonzero((below > 0) & (below < 1 - 1e-12))
    if not splits.size:
        return BLANK
    below, mass_below, mass_all = below[splits], mass[splits], mass[-1]
    between = (mass_all * below - mass_below) ** 2 / (below * (1 - below))
    best = int(np.argmax(between))
    paper_mean = float(mass_below[best] / below[best])
    ink_mean = float((mass_all - mass_below[best]) / (1 - below[best]))
    variance = float(np.sum(share * (levels - mass_all) ** 2))
    within = max(variance - float(between[best]), 1e-9) ** 0.5
    contrast = ink_mean - paper_mean
    if contrast < 255 * MIN_CONTRAST:
        return BLANK
    is_soft = contrast / within < MIN_SEPARATION
    if is_soft and grain_px and contrast < 255 * MIN_SOFT_CONTRAST:
        return BLANK
    stroke_px = stroke_width(ink > int((paper_mean + ink_mean) / 2))
    if stroke_px > MAX_STROKE_PX:
        return UNCLEAR
    if is_soft and (contrast / within < MIN_SOFT_SEPARATION or stroke_px < grain_px):
        return UNCLEAR
    return Inked(ink, paper_mean, ink_mean)


def _ink_strength(
    grey: UInt8[np.ndarray, "h w"], paper: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """255 times the share of the paper's light that is missing, rounded; none is 0.

    A quotient of whole numbers so small is never rounded up to the next one in float32.
    """
    strength = paper.astype(np.float32)
    missing = strength - grey
    missing *= 255
    missing += paper >> 1
    np.maximum(missing, 0, out=missing)
    missing /= strength
    return missing.astype(np.uint8)


def _stretch(inked: Inked) -> UInt8[np.ndarray, "h w"]:
    """0 at the paper's mean and 255 at the ink's, straight between: edges stay soft."""
    share = (np.arange(256.0) - inked.paper_mean) / (inked.ink_mean - inked.paper_mean)
    table = np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)
    stretched = inked.ink.tobytes().translate(table.tobytes())
    return np.frombuffer(stretched, np.uint8).reshape(inked.ink.shape)


def _ink_box(soft: UInt8[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """The box of all ink but LOST_INK at each side, and no smaller than MIN_BOX_SHARE."""
    least = MIN_BOX_SHARE * max(soft.shape)
    sides = []
    for counts, length in zip(counts_of(soft >= 128), soft.shape, strict=True):
        running = np.cumsum(counts)
        first = int(np.searchsorted(running, LOST_INK * running[-1], side="right"))
        last = int(np.searchsorted(running, (1 - LOST_INK) * running[-1], side="left"))
        sides.append((first, last + 1, length))
    if max(end - start for start, end, _ in sides) < least:
        sides = [_widen(start, end, length, least) for start, end, length in sides]
    return slice(*sides[0][:2]), slice(*sides[1][:2])


def _widen(start: int, end: int, length: int, least: float) -> tuple[int, int, int]:
    missing = max(0, round((least - (end - start)) / 2))
    return max(0, start - missing), min(length, end + missing), length


def _fit_square(soft: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    room = GLYPH_PX - 2 * MARGIN_PX
    scale = room / max(soft.shape)
    width, height = max(1, round(soft.shape[1] * scale)), max(1, round(soft.shape[0] * scale))
    small = _image(soft).resize((width, height), Image.Resampling.LANCZOS)
    glyph = np.zeros((GLYPH_PX, GLYPH_PX), np.uint8)
    top, left = (GLYPH_PX - height) // 2, (GLYPH_PX - width) // 2
    glyph[top : top + height, left : left + width] = np.asarray(small)
    return glyph
