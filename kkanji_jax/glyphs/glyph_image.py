"""Any image of one character -> the 64x64 white-on-black look that the network knows.

`glyph_image` goes from a picture to the glyph, `glyph_steps` shows what each step of it made and
what is remarkable, `normalise_glyph` starts from grey and `is_blank` says that there is no ink.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from kkanji_jax.array_types import Bool, UInt8
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
from kkanji_jax.glyphs.paper_and_ink import (
    BLANK,
    as_image,
    coarse_of,
    find_ink,
    is_paper_dark,
    resized,
    stretched,
)
from kkanji_jax.glyphs.published_form import GLYPH_PX, published_in

MIN_INK_PX = 16  # of 64x64; the sparsest of CODH's images that is not black has 34
WORK_PX = 192  # long side on which paper and threshold are estimated
FEW_PX = 24  # a picture up to this long has too few pixels for its strokes
MIN_GRAIN_PX = 2.0  # of the picture: the grains of noise are a pixel wide
# Half the pixels and more differ so much from their neighbours, in shares of the greys' range:
# noise or dither, and blurred by so much. Not where strokes may be a pixel wide.
ROUGH_SHARE, ROUGH, ROUGH_BLUR_PX, ROUGH_FROM_PX, ROUGH_TO_PX = 0.4, 0.055, 1.0, 40, 512
LOST_INK = 0.0025  # share of ink that may lie outside the box at each of its sides: specks
MIN_BOX_SHARE = 0.25  # of the long side: a speck is not blown up into a character
MARGIN_PX = 2
# Photographs' strokes are 2.8 px wide, published ones 3.5. Thicker by up to half a pixel a side:
# 7 of 1,493 photographed kanji gained, on tuning and reporting halves and both sources alike.
THIN_PX, THICKEN_PX = 3.4, 0.5

SEVERAL, CUT_OFF, BAND = "several characters", "cut off at the side", "a dark band"
FEW_PIXELS, RED_INK = "few pixels", "red ink only"
BAND_DEPTH = 0.12  # of the picture: an edge as dark as ink, and as deep, may hide strokes
# So may a band across the picture that is broader than strokes: the paper is estimated by it. None
# of 661 sure readings of the tuning half has one; under a black band, all 10 that had no
# remark have.
BAND_DARK, BAND_COVER = 0.35, 0.9  # of the paper; of the rows or columns that it crosses
MIN_BAND_PX = 7  # of the coarse picture


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
    published = published_in(grey, is_ink_bright)
    if published is not None:
        glyph = published if len(grey) == GLYPH_PX else _enlarge(published)
        trouble = BLANK if is_blank(glyph) else ""
        return Steps(grey, None, None, None, glyph, published is grey, trouble)
    small = resized(_without_roughness(grey), WORK_PX, Image.Resampling.LANCZOS)
    edges = foreign_edges(small)
    coarse = coarse_of(small)
    is_bright = is_ink_bright
    if is_bright is None:
        is_bright = is_paper_dark(coarse if edges is None else coarse_of(_filled(small, edges)))
    has_few = max(grey.shape) <= FEW_PX
    remarks = [FEW_PIXELS] if has_few else []
    grain_px = 0.0 if has_few else MIN_GRAIN_PX * WORK_PX / max(grey.shape)
    dark = small
    if is_bright:
        dark, coarse = 255 - small, coarse_of(255 - small)
    inked = find_ink(dark, coarse, edges, grain_px)
    if isinstance(inked, str):
        nothing = np.zeros((GLYPH_PX, GLYPH_PX), np.uint8)
        return Steps(grey, None, None, None, nothing, is_bright, inked, tuple(remarks))
    strokes = stretched(inked)
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


def is_blank(glyph: UInt8[np.ndarray, "64 64"]) -> bool:
    """Whether a glyph in the published look has no ink worth naming."""
    return int(np.count_nonzero(glyph >= 128)) < MIN_INK_PX


def is_worth_naming(soft: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether what is left of the ink at the size of work can be a character."""
    return int(np.count_nonzero(soft >= 128)) >= MIN_INK_PX * (max(soft.shape) / GLYPH_PX) ** 2 / 4


def _enlarge(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    return np.asarray(Image.fromarray(grey).resize((GLYPH_PX, GLYPH_PX), Image.Resampling.BICUBIC))


def _filled(
    grey: UInt8[np.ndarray, "h w"], edges: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "y x"]:
    """What is inside edges; their corners that are left in it have the tone of most of the rest."""
    inside = _inner_box(edges)
    middle = np.sort(grey[~edges])[np.count_nonzero(~edges) // 2]
    return np.where(edges[inside], middle, grey[inside])


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
    return np.asarray(as_image(grey).filter(ImageFilter.GaussianBlur(ROUGH_BLUR_PX)))


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
    small = resized(soft, GLYPH_PX - 2 * MARGIN_PX, Image.Resampling.LANCZOS)
    height, width = small.shape
    glyph = np.zeros((GLYPH_PX, GLYPH_PX), np.uint8)
    top, left = (GLYPH_PX - height) // 2, (GLYPH_PX - width) // 2
    glyph[top : top + height, left : left + width] = small
    return glyph
