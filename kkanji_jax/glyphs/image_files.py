"""Pictures of any kind -> upright 8-bit grey, by one stated rule for each kind."""

import io
import os
import struct
import warnings

import numpy as np
from PIL import Image, ImageOps

from kkanji_jax.array_types import Shaped, UInt8

MAX_PIXELS = 4096 * 4096  # refused above, before anything is decoded
# Raster formats only: EPS and its like would run an interpreter.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    (
        ".png .jpg .jpeg .jfif .jpe .mpo .tif .tiff .bmp .gif .webp .ppm .pgm .pbm .pnm .jp2 .j2k "
        ".avif"
    ).split(),
)

ImageSource = str | os.PathLike | io.BytesIO | Image.Image | np.ndarray


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
