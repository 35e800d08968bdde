"""Any image of one character -> the 64x64 white-on-black look that the network knows.

`glyph_image` goes from a picture to the glyph, `glyph_steps` shows what each step of it made,
`normalise_glyph` starts from grey and `is_blank` says that there is no ink.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from kkanji_jax.array_types import Bool, Float, UInt8
from kkanji_jax.glyphs.image_files import ImageSource, load_image
from kkanji_jax.glyphs.ink_parts import without_strays

GLYPH_PX, SMALL_PX = 64, 28  # Kuzushiji-Kanji's side; Kuzushiji-49's and Kuzushiji-MNIST's
# A published glyph is near-binary: 99.99 % of CODH's images have more than .72 of their pixels
# outside [DARK_BELOW, BRIGHT_FROM), and none has paper at its border.
DARK_BELOW, BRIGHT_FROM, MIN_EXTREME_SHARE = 64, 192, 0.7
BLACK_TO = 16  # paper of a negative is white to within this
MIN_INK_PX = 16  # of 64x64; the sparsest of CODH's images that is not black has 34
WORK_PX = 192  # long side on which paper and threshold are estimated
MIN_CONTRAST, MIN_SEPARATION = (
    12.0,
    4.0,
)  # grey levels; within-class deviations. Noise splits at 3.3
LOST_INK = 0.0025  # share of ink that may lie outside the box at each of its sides: specks
MIN_BOX_SHARE = 0.25  # of the long side: a speck is not blown up into a character
MARGIN_PX = 2


class Inked(NamedTuple):
    """Ink strength in 0..255, paper 0, and the mean strengths of paper and ink by Otsu's split."""

    ink: UInt8[np.ndarray, "h w"]
    paper_mean: float
    ink_mean: float


class Steps(NamedTuple):
    """What each step made of a picture, in order; None for a step that it did not need.

    A published glyph needs none but the last, and a picture without ink has none to show.
    """

    grey: UInt8[np.ndarray, "h w"]
    ink: UInt8[np.ndarray, "y x"] | None  # the paper subtracted
    strokes: UInt8[np.ndarray, "y x"] | None  # stretched from paper to ink
    own_strokes: UInt8[np.ndarray, "y x"] | None  # without other characters' at the border
    glyph: UInt8[np.ndarray, "64 64"]
    is_ink_bright: bool  # as found, or as told


def glyph_image(source: ImageSource) -> UInt8[np.ndarray, "64 64"]:
    """Ink 255 on 0. A blank image gives zeros; what cannot be read raises ValueError."""
    return normalise_glyph(load_image(source))


def normalise_glyph(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    """The published look: white ink on black, soft edges, the long side filling the frame.

    A white-on-black near-binary image as CODH publishes them is returned unchanged at 64x64, and
    only enlarged from 28x28, as datasets have it; its negative is only turned. Anything else has
    its polarity found (the border is paper), its paper subtracted, its greys stretched between
    paper and ink, other characters' strokes removed from its border, a crop to the ink, and is
    padded to a square, never squashed. Without ink: zeros.
    """
    return glyph_steps(grey).glyph


def glyph_steps(grey: UInt8[np.ndarray, "h w"], is_ink_bright: bool | None = None) -> Steps:
    """`normalise_glyph` step by step; `is_ink_bright` says what it would else find out."""
    published = _published(grey, is_ink_bright)
    if published is not None:
        glyph = published if len(grey) == GLYPH_PX else _enlarge(published)
        return Steps(grey, None, None, None, glyph, published is grey)
    is_bright = _is_ink_bright(grey) if is_ink_bright is None else is_ink_bright
    inked = _find_ink(_to_work_size(255 - grey if is_bright else grey))
    if inked is None:
        nothing = np.zeros((GLYPH_PX, GLYPH_PX), np.uint8)
        return Steps(grey, None, None, None, nothing, is_bright)
    strokes = _stretch(inked)
    own = without_strays(strokes)
    rows, columns = _ink_box(own)
    return Steps(grey, inked.ink, strokes, own, _fit_square(own[rows, columns]), is_bright)


def _published(
    grey: UInt8[np.ndarray, "h w"], is_ink_bright: bool | None
) -> UInt8[np.ndarray, "h w"] | None:
    """The picture, or its negative, if that is a published glyph already."""
    if is_ink_bright is not False and is_published_form(grey):
        return grey
    is_negative = np.median(_border(grey)) >= 255 - BLACK_TO and is_published_form(255 - grey)
    return 255 - grey if is_negative and not is_ink_bright else None


def is_published_form(grey: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether this already is a white-on-black near-binary glyph of 64x64 or 28x28."""
    if grey.shape not in ((GLYPH_PX, GLYPH_PX), (SMALL_PX, SMALL_PX)):
        return False
    if np.median(_border(grey)) >= 128:
        return False
    return bool(np.mean((grey < DARK_BELOW) | (grey >= BRIGHT_FROM)) >= MIN_EXTREME_SHARE)


def is_blank(glyph: UInt8[np.ndarray, "64 64"]) -> bool:
    """Whether a glyph in the published look has no ink worth naming."""
    return int(np.count_nonzero(glyph >= 128)) < MIN_INK_PX


def _enlarge(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    return np.asarray(Image.fromarray(grey).resize((GLYPH_PX, GLYPH_PX), Image.Resampling.BICUBIC))


def _border(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, " n"]:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _is_ink_bright(grey: UInt8[np.ndarray, "h w"]) -> bool:
    """The border is paper more often than ink: paper brighter than the mean holds dark ink."""
    return bool(np.median(_border(grey)) < grey.mean())


def _to_work_size(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "y x"]:
    scale = WORK_PX / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.LANCZOS))


def _paper_of(grey: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The paper's brightness at each pixel: the 80th percentile of half a picture, smoothed."""
    reach, coarse_px = 8, 32
    height, width = grey.shape
    scale = coarse_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    coarse = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))
    padded = Image.fromarray(np.pad(coarse, reach, mode="symmetric"))
    window = 2 * reach + 1
    paper = padded.filter(ImageFilter.RankFilter(window, int(0.8 * window * window)))
    paper = paper.filter(ImageFilter.GaussianBlur(3))
    paper = paper.crop((reach, reach, reach + size[0], reach + size[1]))
    return np.asarray(paper.resize((width, height), Image.Resampling.BICUBIC), np.float64)


def _find_ink(grey: UInt8[np.ndarray, "h w"]) -> Inked | None:
    """Otsu's two classes on paper minus grey, or None where they are no two classes."""
    ink = np.clip(np.round(_paper_of(grey) - grey), 0, 255).astype(np.uint8)
    share = np.bincount(ink.ravel(), minlength=256) / ink.size
    levels = np.arange(256.0)
    below, mass = np.cumsum(share), np.cumsum(share * levels)
    splits = np.flatnonzero((below > 0) & (below < 1 - 1e-12))
    if not splits.size:
        return None
    below, mass_below, mass_all = below[splits], mass[splits], mass[-1]
    between = (mass_all * below - mass_below) ** 2 / (below * (1 - below))
    best = int(np.argmax(between))
    paper_mean = float(mass_below[best] / below[best])
    ink_mean = float((mass_all - mass_below[best]) / (1 - below[best]))
    variance = float(np.sum(share * (levels - mass_all) ** 2))
    within = max(variance - float(between[best]), 1e-9) ** 0.5
    contrast = ink_mean - paper_mean
    if contrast < MIN_CONTRAST or contrast / within < MIN_SEPARATION:
        return None
    return Inked(ink, paper_mean, ink_mean)


def _stretch(inked: Inked) -> UInt8[np.ndarray, "h w"]:
    """0 at the paper's mean and 255 at the ink's, straight between: edges stay soft."""
    share = (inked.ink - inked.paper_mean) / (inked.ink_mean - inked.paper_mean)
    return np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)


def _ink_box(soft: UInt8[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """The box of all ink but LOST_INK at each side, and no smaller than MIN_BOX_SHARE."""
    is_ink: Bool[np.ndarray, "h w"] = soft >= 128
    least = MIN_BOX_SHARE * max(soft.shape)
    sides = []
    for axis, length in ((1, soft.shape[0]), (0, soft.shape[1])):
        running = np.cumsum(is_ink.sum(axis=axis))
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
    small = Image.fromarray(np.ascontiguousarray(soft)).resize(
        (width, height), Image.Resampling.LANCZOS
    )
    sheet = Image.new("L", (GLYPH_PX, GLYPH_PX), 0)
    sheet.paste(small, ((GLYPH_PX - width) // 2, (GLYPH_PX - height) // 2))
    return np.asarray(sheet)
