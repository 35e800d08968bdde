"""Pictures of any kind -> upright 8-bit colour or grey, by one stated rule for each kind."""

import contextlib
import io
import os
import struct

import numpy as np
from PIL import Image, ImageOps

from kkanji_jax.array_types import Int, Shaped, UInt8

DEPTHS = (0xFF, 0x3FF, 0xFFF, 0xFFFF)  # the greatest value of 8, 10, 12 and 16 bits
SHOWN = 64  # grey levels between ink and white paper: enough to be ink on it
MAX_PIXELS = 4096 * 4096  # refused above, before anything is decoded
MAX_PAGE_PIXELS = 100_000_000  # a scan of a double page at 600 dpi has a third of that
# What Pillow raises for damaged files beside OSError and ValueError; RuntimeError is AVIF's.
DAMAGES = (SyntaxError, TypeError, LookupError, EOFError, struct.error, RuntimeError)
ORIENTATION = 0x0112  # the tag of EXIF; 1 is upright
HEAD_BYTES = 16  # by which a format is known
SMALL_FILE_BYTES = 1 << 16  # up to this, a file is opened and read once
# Raster formats only: EPS and its like would run an interpreter.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
SUFFIXES = frozenset(
    (
        ".png .jpg .jpeg .jfif .jpe .mpo .tif .tiff .bmp .gif .webp .ppm .pgm .pbm .pnm .jp2 .j2k "
        ".avif"
    ).split(),
)

# Redness is in grey levels: vermilion on paper has 100 and more, sepia ink and a JPEG's losses
# less than RED_FROM. Vermilion takes from red a fifth of what it takes from green.
RED_FROM, RED_STEP, LIFT, PAPER_SAMPLE_PX = 24, 24, 3, 64
_GREY_PIXELS = 1 << 20  # of a page looked at together: 20 MB

Picture = UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]
ImageSource = str | os.PathLike | io.BytesIO | Image.Image | np.ndarray


def load_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w"]:
    """`load_picture` in grey: luminance, where red ink is as light as its paper (`grey_of`)."""
    return grey_of(load_picture(source, max_pixels=max_pixels))


def load_picture(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """8 bits, upright (EXIF), transparency over white paper; grey [h w] or colour [h w 3].

    Where little shows over white (white ink on nothing) the paper is black instead. Grey of more
    than 8 bits is brought down from the least of 8, 10, 12 and 16 bits that hold all its values.
    Palettes and CMYK go through RGB, 1-bit is 0 and 255. Refused with ValueError: more than
    `max_pixels`, several frames, float images in files, no pixels. Arrays are uint8 or bool [h w],
    [h w 1|3|4], uint16 [h w], or floats in [0, 1].
    """
    if isinstance(source, np.ndarray):
        return _pixels_of(_image_of_array(source), "array")
    if isinstance(source, Image.Image):
        return _read(source, f"{source.mode} image", max_pixels)
    is_path = isinstance(source, str | os.PathLike)
    name = os.fspath(source) if is_path else str(getattr(source, "name", "this stream"))
    with open_image(source, name, max_pixels) as opened:
        return _read(opened, name, max_pixels)


def grey_of(picture: Picture) -> UInt8[np.ndarray, "h w"]:
    """Luminance; what is redder than the paper is lightened as far as it is red.

    Vermilion, which reflects red as paper does, becomes paper, and black ink under it stays. A
    pixel is red by its green beside its red, each in the measure of the paper's: a picture in
    grey, sepia or yellow is its luminance, bit for bit.
    """
    if picture.ndim == 2:
        return picture
    luma = np.asarray(Image.fromarray(picture).convert("L"))
    paper_red, paper_green, paper = _paper_colour(picture, luma)
    grey = luma
    rows = max(1, _GREY_PIXELS // picture.shape[1])
    for start in range(0, len(picture), rows):
        part = picture[start : start + rows]
        # At most 255 * 255 + 127: within 16 bits.
        balanced = part[..., 0].astype(np.uint16)
        balanced *= np.uint16(paper_green)
        balanced += np.uint16(paper_red // 2)
        balanced //= np.uint16(paper_red)
        is_red = balanced > part[..., 1].astype(np.uint16) + np.uint16(RED_FROM)
        if not is_red.any():
            continue
        places = np.nonzero(is_red)
        if grey is luma:
            grey = luma.copy()
        red, green = (part[..., channel][places].astype(np.int32) for channel in (0, 1))
        redness = balanced[places] - green
        own = luma[start : start + rows][places].astype(np.int32)
        lighter = np.maximum(np.minimum(red + redness * LIFT // 16, paper) - own, 0)
        weight = np.minimum(redness - RED_FROM, RED_STEP)
        grey[start : start + rows][places] = own + weight * lighter // RED_STEP
    return grey


def _paper_colour(
    picture: UInt8[np.ndarray, "h w 3"], luma: UInt8[np.ndarray, "h w"]
) -> tuple[int, int, int]:
    """Red, green and luminance of the paper: the middles of the brighter half of a sample."""
    step = max(1, max(luma.shape) // PAPER_SAMPLE_PX)
    seen = luma[::step, ::step].ravel()
    running = _running(seen)
    middle = _nth(running, len(seen) // 2)
    is_bright = seen >= middle
    num_dark = int(running[middle - 1]) if middle else 0
    place = (len(seen) - num_dark) // 2
    red, green = (
        _nth(_running(picture[::step, ::step, channel].ravel()[is_bright]), place)
        for channel in (0, 1)
    )
    return max(1, red), max(1, green), _nth(running, num_dark + place)


def _running(values: UInt8[np.ndarray, " n"]) -> Int[np.ndarray, "256"]:
    """How many values are at or below each of 0..255."""
    return np.bincount(values, minlength=256).cumsum()


def _nth(running: Int[np.ndarray, "256"], place: int) -> int:
    """The value that stands at `place` when all are sorted."""
    return int(running.searchsorted(place, side="right"))


def open_image(
    source: str | os.PathLike | io.BytesIO, name: str, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """A file or a stream as an image that is not decoded yet; ValueError as `load_image` says."""
    try:
        image = _opened(source)
    except (*DAMAGES, ValueError) as err:
        raise ValueError(f"expected an image, {name} is damaged: {err}") from err
    except OSError as err:
        if err.errno is not None:  # of the file system, with the file's name
            raise
        raise ValueError(f"expected an image, {name} is damaged: {err}") from err
    if image is None:
        raise ValueError(f"expected an image ({', '.join(FORMATS)}), cannot read {name}")
    try:
        _check_size(image, name, max_pixels)
    except ValueError:
        image.close()
        raise
    return image


def _opened(source: str | os.PathLike | io.BytesIO) -> Image.Image | None:
    """`Image.open` by the FORMATS, without its own check of the size; None for other contents.

    That check warns, and a warning can only be kept silent by filters that all threads share.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            content = file.read(SMALL_FILE_BYTES + 1)
            head = content[:HEAD_BYTES]
            if not content:
                raise ValueError("it is empty")
            if not file.seekable():
                source = io.BytesIO(content + file.read())
            elif len(content) <= SMALL_FILE_BYTES:
                source = io.BytesIO(content)
    else:
        source.seek(0)
        head = source.read(HEAD_BYTES)
        if not head:
            raise ValueError("it is empty")
    for register_formats in (Image.preinit, Image.init):
        register_formats()
        for name in FORMATS:
            factory, accepts = Image.OPEN.get(name, (None, None))
            is_accepted = factory is not None and (accepts is None or accepts(head))
            # A string says why this Pillow cannot read what it knows.
            if not is_accepted or isinstance(is_accepted, str):
                continue
            if not isinstance(source, str | os.PathLike):
                source.seek(0)
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                return factory(source, "")  # pyright: ignore[reportOptionalCall, reportArgumentType]
    return None


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"expected at most {max_pixels} pixels, {name} has {width} x {height}")


def _read(image: Image.Image, name: str, max_pixels: int) -> Picture:
    _check_size(image, name, max_pixels)
    try:
        num_frames = getattr(image, "n_frames", 1)  # a TIFF's and a GIF's are counted now
        # MPO is a phone's JPEG with a preview behind it; its first frame is the photograph.
        if num_frames > 1 and image.format != "MPO":
            raise ValueError(
                f"expected one image, {name} holds {num_frames} frames: save them apart"
            )
        image.load()
        if image.getexif().get(ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return _pixels_of(image, name)
    except (*DAMAGES, OSError) as err:
        raise ValueError(f"expected an image, {name} is damaged: {err}") from err


def _pixels_of(image: Image.Image, name: str) -> Picture:
    if min(image.size) == 0:
        raise ValueError(f"expected pixels, {name} is {image.width} x {image.height}")
    if image.mode.startswith("I;16") or image.mode == "I":
        return _eight_bits(np.asarray(image).astype(np.int64), name)
    if image.mode == "F":
        raise ValueError(f"expected 8 or 16 bits, {name} holds floats: save it as 8-bit grey")
    if image.mode.lower() in ("la", "pa", "rgba") or "transparency" in image.info:
        return _flattened(image.convert("RGBA"))
    mode = "L" if image.mode in ("L", "1") else "RGB"
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _eight_bits(deep: Int[np.ndarray, "h w"], name: str) -> UInt8[np.ndarray, "h w"]:
    least, most = int(deep.min()), int(deep.max())
    if least < 0 or most > 0xFFFF:
        raise ValueError(f"expected 8 or 16 bits, {name} has values {least}..{most}")
    full = next(full for full in DEPTHS if most <= full)
    return ((deep * 255 + full // 2) // full).astype(np.uint8)


def _flattened(rgba: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """Over white, or over black where that shows more and white next to nothing."""
    over_white = _over(rgba, 255)
    if rgba.getchannel("A").getextrema() == (255, 255) or _contrast(over_white) >= SHOWN:
        return over_white
    over_black = _over(rgba, 0)
    return over_black if _contrast(over_black) > _contrast(over_white) else over_white


def _contrast(picture: UInt8[np.ndarray, "h w 3"]) -> int:
    least, most = Image.fromarray(picture).convert("L").getextrema()
    return int(most) - int(least)  # pyright: ignore[reportArgumentType]


def _over(rgba: Image.Image, paper: int) -> UInt8[np.ndarray, "h w 3"]:
    sheet = Image.new("RGBA", rgba.size, (paper, paper, paper, 255))
    return np.asarray(Image.alpha_composite(sheet, rgba).convert("RGB"))


def _image_of_array(array: Shaped[np.ndarray, "..."]) -> Image.Image:
    expected = "expected an array uint8, uint16, bool or float in [0, 1], [h w] or [h w 1|3|4]"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"{expected}, got shape {array.shape}")
    if array.size == 0 or array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(f"expected 1 to {MAX_PIXELS} pixels, got shape {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{expected}, got floats outside [0, 1]")
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8 and not (array.dtype == np.uint16 and array.ndim == 2):
        raise ValueError(f"{expected}, got {array.dtype} of shape {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))
