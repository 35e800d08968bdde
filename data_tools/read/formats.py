"""Checked arrays from bytes of CODH's formats: PNG, other images, labels, class maps."""

import csv
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_tools.read import archives
from kkanji_jax.data.class_index import character_of, parse_codepoint
from kkanji_jax.data.records import IMAGE_PX
from kkanji_jax.glyphs.glyph_image import normalise_glyph
from kkanji_jax.glyphs.image_files import load_image

SMALL_PX = 28
MAX_FILE_BYTES = 2**26  # of one image: an uncompressed one of the most pixels that are read
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PLAIN_GREY = bytes([8, 0, 0, 0, 0])  # bits, colour type, compression, filters, interlacing


class WrongSizeError(ValueError):
    """An undamaged image that is not IMAGE_PX x IMAGE_PX."""


class Png(NamedTuple):
    """A PNG whose chunks are all there and undamaged; its pixels are not decoded."""

    size: tuple[int, int]  # width and height
    is_plain: bool  # nothing but 8-bit grey, row after row
    bodies: list[memoryview]  # the compressed pixels


def check_png(data: bytes) -> Png:
    """The header of a PNG whose chunks are all there and undamaged; ValueError otherwise."""
    if not data:
        raise ValueError("is empty")
    if not data.startswith(_PNG_SIGNATURE):
        raise ValueError(f"is no PNG: it starts with {data[:8]!r}")
    at, kind, size = 8, b"", (0, 0)
    is_plain, bodies, view = True, [], memoryview(data)
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("is cut short")
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise ValueError("is cut short")
        body_ends = at + 8 + length
        if zlib.crc32(data[at + 4 : body_ends]) != struct.unpack_from(">I", data, body_ends)[0]:
            raise ValueError(f"is damaged: its {kind!r} chunk has the wrong checksum")
        if at == 8:
            if kind != b"IHDR" or length != 13:
                raise ValueError("is damaged: it has no header")
            size = struct.unpack_from(">II", data, 16)
            is_plain = data[24:29] == _PLAIN_GREY
        elif kind == b"IDAT":
            bodies.append(view[at + 8 : body_ends])
        elif kind == b"acTL":
            raise ValueError("is an animation")
        elif kind != b"IEND":
            is_plain = False  # such as tRNS, which makes a grey transparent
        at = body_ends + 4
    return Png(size, is_plain, bodies)


def _decode_plain(png: Png) -> bytes | None:
    """The pixels of an 8-bit grey PNG, by Pillow's decoder without opening the file; or None."""
    if not png.is_plain:
        return None
    try:
        return Image.frombytes("L", png.size, b"".join(png.bodies), "zip", "L").tobytes()
    except ValueError:
        return None  # opening the file will say what is wrong


def decode_png(data: bytes) -> tuple[bytes, str | None]:
    """The pixels of a 64x64 PNG, row by row, and its mode if it was not 8-bit grey.

    8-bit grey is used unchanged. Other modes are converted to a white-on-black glyph by
    `kkanji_jax.glyphs.glyph_image`, like every image that is not CODH's. WrongSizeError for another
    size, before any pixel is decoded; ValueError for a damaged file.
    """
    png = check_png(data)
    if png.size != (IMAGE_PX, IMAGE_PX):
        width, height = png.size
        raise WrongSizeError(f"is {width}x{height}, not {IMAGE_PX}x{IMAGE_PX}")
    if (pixels := _decode_plain(png)) is not None:
        return pixels, None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as err:
        raise ValueError(f"cannot be decoded: {err}") from err
    if image.mode == "L" and "transparency" not in image.info:
        return image.tobytes(), None
    return normalise_glyph(load_image(image)).tobytes(), image.mode


def read_glyph(path: Path) -> tuple[bytes, bool]:
    """The 64x64 pixels of an image file of any raster format, and whether they are unchanged.

    White-on-black images of 64x64 are used unchanged, all others go through
    `kkanji_jax.glyphs.glyph_image`, as in `predict`. ValueError for a file that is damaged, over
    4096 x 4096 pixels (before they are decoded), or of several frames.
    """
    num_bytes = path.stat().st_size
    if not num_bytes:
        raise ValueError(f"{path} is empty")
    if num_bytes > MAX_FILE_BYTES:
        raise ValueError(f"{path} has {num_bytes:,} bytes, over {MAX_FILE_BYTES:,}")
    with open(path, "rb") as file:
        if file.read(len(_PNG_SIGNATURE)) == _PNG_SIGNATURE:
            file.seek(0)
            try:
                check_png(file.read())  # Pillow accepts a PNG that is truncated after its pixels
            except ValueError as err:
                raise ValueError(f"{path} {err}") from err
    grey = load_image(path)
    glyph = normalise_glyph(grey)
    return glyph.tobytes(), glyph is grey


def glyph_of_crop(png: bytes) -> tuple[bytes, bool]:
    """As `read_glyph`, for a crop that this project has cut out of a page."""
    grey = load_image(io.BytesIO(png))
    glyph = normalise_glyph(grey)
    return glyph.tobytes(), glyph is grey


def count_images(path: Path) -> int:
    """How many images the header of an npz or idx file states; ValueError if not 28x28."""
    shape, dtype = archives.peek_array(path)
    if dtype != np.uint8 or len(shape) != 3 or shape[1:] != (SMALL_PX, SMALL_PX):
        raise ValueError(f"{path} must hold images uint8 [n, 28, 28], not {dtype} {list(shape)}")
    return shape[0]


def iterate_images(path: Path) -> Iterator[UInt8[np.ndarray, "n 28 28"]]:
    """The images of an npz or idx file, some thousands at a time."""
    count_images(path)
    yield from archives.iterate_rows(path)


def read_labels(path: Path, num_classes: int, classmap: Path) -> list[int]:
    """The labels of an npz or idx file, each in [0, num_classes)."""
    labels = archives.read_array(path)
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise ValueError(f"{path} must hold integers [n], not {labels.dtype} {list(labels.shape)}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"{path} has labels {labels.min()} to {labels.max()}, "
            f"but {classmap.name} lists {num_classes} classes"
        )
    return labels.tolist()


def read_classmap(path: Path) -> list[str]:
    """The code point of each label, from the columns `index` and `codepoint`."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        codepoints = []
        for number, row in enumerate(rows):
            if row.get("index") != str(number):
                raise ValueError(
                    f"row {number + 1} must have index {number}, not {row.get('index')!r}"
                )
            codepoints.append(parse_codepoint(row.get("codepoint") or ""))
            if row.get("char", character_of(codepoints[-1])) != character_of(codepoints[-1]):
                raise ValueError(f"row {number + 1}: {codepoints[-1]} is not {row['char']!r}")
    except (ValueError, csv.Error) as err:
        raise ValueError(f"{path}: {err}") from err
    if not codepoints or len(set(codepoints)) != len(codepoints):
        raise ValueError(f"{path} must have each class once in its {len(codepoints)} rows")
    return codepoints
