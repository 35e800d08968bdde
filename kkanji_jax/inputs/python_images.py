"""Images as a caller of the recogniser gives them, made into glyphs, or why they cannot be."""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kkanji_jax.array_types import Shaped, UInt8
from kkanji_jax.glyphs.glyph_image import glyph_steps
from kkanji_jax.glyphs.image_files import load_picture
from kkanji_jax.glyphs.published_form import GLYPH_PX
from kkanji_jax.inputs.note import Note

# Can be iterated over, and are no images in a row.
_SINGLE = (str, bytes, bytearray, memoryview, io.IOBase, Mapping)


class ImageError(ValueError):
    """An image that cannot be read: which one of those given, and why.

    `number` counts the images of one call from 0, and `image` is what was given.
    """

    def __init__(self, message: str, number: int, image: Any) -> None:
        super().__init__(message, number, image)
        self.number, self.image = number, image

    def __str__(self) -> str:
        return str(self.args[0])


class NotedGlyph(NamedTuple):
    """An image's glyph, and what is known of the image."""

    glyph: Any  # UInt8 [64 64]
    note: Note


def noted_glyphs(images: Any) -> list[NotedGlyph | ImageError]:
    """What was made of each image, in order, or why it cannot be read.

    `images` are one or several of what `Recogniser` takes; anything else is an ImageError.
    """
    sources: Iterable[Any]
    if isinstance(images, np.ndarray):
        sources = list(images) if _is_stack(images) else [images]
    elif isinstance(images, Iterable) and not isinstance(images, _SINGLE):
        sources = images
    else:
        sources = [images]
    return [_noted_glyph(image, number) for number, image in enumerate(sources)]


def stacked_glyphs(noted: Sequence[NotedGlyph]) -> UInt8[np.ndarray, "n 64 64"]:
    """The glyphs in one array, which is empty if there are none."""
    if not noted:
        return np.zeros((0, GLYPH_PX, GLYPH_PX), np.uint8)
    return np.stack([item.glyph for item in noted])


def _noted_glyph(image: Any, number: int) -> NotedGlyph | ImageError:
    expected = "expected the path of an image, io.BytesIO, a PIL image or an array"
    if not isinstance(image, str | os.PathLike | io.BytesIO | Image.Image | np.ndarray):
        return ImageError(f"{expected}, got {type(image).__name__} (image {number})", number, image)
    try:
        if isinstance(image, str | os.PathLike) and os.path.isdir(image):
            raise ValueError(f"{expected}, {os.fsdecode(image)} is a folder: name the files in it")
        steps = glyph_steps(load_picture(image))
    except (ValueError, OSError) as err:
        told = str(err)
        if isinstance(err, OSError) and err.strerror:
            where = f": {os.fsdecode(image)}" if isinstance(image, str | os.PathLike) else ""
            told = f"{err.strerror}{where}"
        error = ImageError(f"{told} (image {number})", number, image)
        error.__cause__ = err
        return error
    return NotedGlyph(steps.glyph, Note(steps.trouble, steps.remarks))


def _is_stack(array: Shaped[np.ndarray, "..."]) -> bool:
    return array.ndim == 4 or (array.ndim == 3 and array.shape[2] > 4)
