"""Any image of one character -> the 64x64 white-on-black look that the network knows.

Three steps, each usable alone: `load_image` (file, PIL image or array -> grey), `normalise_glyph`
(grey -> 64x64 glyph) and `is_blank`. `glyph_image` is the first two together.
"""

import io
import os
import struct
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from kkanji_jax.data.shapes import Bool, Float, Shaped, UInt8

GLYPH_PX, SMALL_PX = 64, 28  # Kuzushiji-Kanji's side; Kuzushiji-49's and Kuzushiji-MNIST's
MAX_PIXELS = 4096 * 4096  # refused above, before anything is decoded
# Raster formats only: EPS and its like would run an interpreter.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    ".png .jpg .jpeg .tif .tiff .bmp .gif .webp .ppm .pgm .pbm .jp2 .avif".split(),
)

ImageSource = str | os.PathLike | io.BytesIO | Image.Image | np.ndarray

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
SOFTNESS = 0.5  # the ramp reaches half-way from the threshold to either class mean
LOST_INK = 0.0025  # share of ink that may lie outside the box at each of its sides: specks
MIN_BOX_SHARE = 0.25  # of the long side: a speck is not blown up into a character
MARGIN_PX = 1


class Inked(NamedTuple):
    """Ink strength in 0..255, paper 0, and where Otsu's threshold separates the two."""

    ink: UInt8[np.ndarray, "h w"]
    threshold: float
    paper_mean: float
    ink_mean: float


def glyph_image(source: ImageSource) -> UInt8[np.ndarray, "64 64"]:
    """Ink 255 on 0. A blank image gives zeros; what cannot be read raises ValueError."""
    return normalise_glyph(load_image(source))


def load_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w"]:
    """8-bit luminance, upright (EXIF), transparency over white paper.

    Where what shows over white is flat (white ink on nothing) the paper is black instead.
    16-bit grey is divided by 257, palettes and CMYK go through RGB, 1-bit is 0 and 255. Refused
    with ValueError: more than `max_pixels`, several frames, float images in files, no pixels.
    Arrays are uint8 or bool [h w], [h w 1|3|4], uint16 [h w], or floats in [0, 1].
    """
    if isinstance(source, np.ndarray):
        return _to_grey(_image_of_array(source), "array")
    if isinstance(source, Image.Image):
        return _read(source, f"{source.mode} image", max_pixels)
    is_path = isinstance(source, str | os.PathLike)
    name = os.fspath(source) if is_path else str(getattr(source, "name", "this stream"))
    with open_image(source, name, max_pixels) as opened:
        return _read(opened, name, max_pixels)


def open_image(
    source: str | os.PathLike | io.BytesIO, name: str, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """A file or a stream as an image that is not decoded yet; ValueError as `load_image` says."""
    try:
        with warnings.catch_warnings():
            # `max_pixels` is the guard, here and in `_read`.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(source, formats=FORMATS)
    except Image.DecompressionBombError as err:
        raise ValueError(f"wanted at most {max_pixels} pixels, {name} declares far more") from err
    except Image.UnidentifiedImageError as err:
        raise ValueError(f"wanted an image ({', '.join(FORMATS)}), cannot read {name}") from err
    except (SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error) as err:
        raise ValueError(f"wanted an image, {name} is damaged: {err}") from err


def normalise_glyph(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    """The published look: white ink on black, soft edges, the long side filling the frame.

    A white-on-black near-binary image as CODH publishes them is returned unchanged at 64x64, and
    only enlarged from 28x28, as datasets have it; its negative is only turned. Anything else has
    its polarity found (the border is paper), its paper subtracted, a soft Otsu threshold, a crop
    to the ink, and is padded to a square, never squashed. Without ink: zeros.
    """
    if is_published_form(grey):
        return grey if len(grey) == GLYPH_PX else _enlarge(grey)
    if np.median(_border(grey)) >= 255 - BLACK_TO and is_published_form(255 - grey):
        return normalise_glyph(255 - grey)
    inked = _find_ink(_to_work_size(_dark_on_bright(grey)))
    if inked is None:
        return np.zeros((GLYPH_PX, GLYPH_PX), np.uint8)
    soft = _soften(inked)
    rows, columns = _ink_box(soft)
    return _fit_square(soft[rows, columns])


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


def _read(image: Image.Image, name: str, max_pixels: int) -> UInt8[np.ndarray, "h w"]:
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"wanted at most {max_pixels} pixels, {name} has {width} x {height}")
    num_frames = getattr(image, "n_frames", 1)
    # MPO is a phone's JPEG with a preview behind it; its first frame is the photograph.
    if num_frames > 1 and image.format != "MPO":
        raise ValueError(f"wanted one image, {name} holds {num_frames} frames: save them apart")
    try:
        image.load()
        return _to_grey(ImageOps.exif_transpose(image), name)
    except (OSError, SyntaxError, TypeError, LookupError, EOFError, struct.error) as err:
        raise ValueError(f"wanted an image, {name} is damaged: {err}") from err


def _to_grey(image: Image.Image, name: str) -> UInt8[np.ndarray, "h w"]:
    if min(image.size) == 0:
        raise ValueError(f"wanted pixels, {name} is {image.width} x {image.height}")
    if image.mode.startswith("I;16") or image.mode == "I":
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 0xFFFF:
            raise ValueError(f"wanted 8 or 16 bits, {name} has values {deep.min()}..{deep.max()}")
        return ((deep + 128) // 257).astype(np.uint8)
    if image.mode == "F":
        raise ValueError(f"wanted 8 or 16 bits, {name} holds floats: save it as 8-bit grey")
    if image.mode.lower() in ("la", "pa", "rgba") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        over_white = _over(rgba, 255)
        is_flat = over_white.min() == over_white.max()
        is_see_through = rgba.getchannel("A").getextrema() != (255, 255)
        return _over(rgba, 0) if is_flat and is_see_through else over_white
    if image.mode == "L":
        return np.asarray(image)
    return np.asarray((image if image.mode in ("1", "RGB") else image.convert("RGB")).convert("L"))


def _over(rgba: Image.Image, paper: int) -> UInt8[np.ndarray, "h w"]:
    sheet = Image.new("RGBA", rgba.size, (paper, paper, paper, 255))
    return np.asarray(Image.alpha_composite(sheet, rgba).convert("RGB").convert("L"))


def _image_of_array(array: Shaped[np.ndarray, "..."]) -> Image.Image:
    wanted = "wanted an array uint8, uint16, bool or float in [0, 1], [h w] or [h w 1|3|4]"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"{wanted}, got shape {array.shape}")
    if array.size == 0 or array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(f"wanted 1 to {MAX_PIXELS} pixels, got shape {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{wanted}, got floats outside [0, 1]")
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8 and not (array.dtype == np.uint16 and array.ndim == 2):
        raise ValueError(f"{wanted}, got {array.dtype} of shape {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def _enlarge(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "64 64"]:
    return np.asarray(Image.fromarray(grey).resize((GLYPH_PX, GLYPH_PX), Image.Resampling.BICUBIC))


def _border(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, " n"]:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _dark_on_bright(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The border is paper more often than ink: paper brighter than the mean needs no turning."""
    return grey if np.median(_border(grey)) >= grey.mean() else 255 - grey


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
    return Inked(ink, float(splits[best]) + 0.5, paper_mean, ink_mean)


def _soften(inked: Inked) -> UInt8[np.ndarray, "h w"]:
    low = inked.threshold - SOFTNESS * (inked.threshold - inked.paper_mean)
    high = inked.threshold + SOFTNESS * (inked.ink_mean - inked.threshold)
    return np.round(np.clip((inked.ink - low) / (high - low), 0, 1) * 255).astype(np.uint8)


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
