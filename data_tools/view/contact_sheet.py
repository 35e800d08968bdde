"""Contact sheets: labelled images in rows."""

import importlib.resources
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from data_tools.write.host_augment import HostAugmenter
from kkanji_jax.augment.policy import Policy
from kkanji_jax.data.class_index import codepoint_of
from kkanji_jax.data.records import address_of

PAGE, INK, SOFT_INK, FRAME = "#f6f3ec", "#2b2a28", "#77736b", "#b9b2a3"
MARGIN_PX, GAP_PX, CAPTION_PX, TITLE_PX = 28, 14, 14, 20
LINE_PX = CAPTION_PX + 4
NUM_COPIES = 9


def draw_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _"]],  # of any sizes
    captions: Sequence[str],
    columns: int,
    title: str | None = None,
    scale: int = 2,
) -> Image.Image:
    """The images row by row, `scale` screen pixels to a pixel, each above its caption.

    A caption may have several lines. Characters that the font lacks appear as U+XXXX. ValueError
    without images, or if the numbers of images and captions differ.
    """
    if not images or len(images) != len(captions):
        raise ValueError(
            f"a sheet needs images and a caption for each, not {len(images)} and {len(captions)}"
        )
    if columns < 1 or scale < 1:
        raise ValueError(f"columns and scale must be 1 or more, not {columns} and {scale}")
    columns = min(columns, len(images))
    num_rows = -(-len(images) // columns)
    cell_w = max(image.shape[1] for image in images) * scale + 2
    cell_h = max(image.shape[0] for image in images) * scale + 2
    num_lines = max(caption.count("\n") + 1 if caption else 0 for caption in captions)
    step_w, step_h = cell_w + GAP_PX, cell_h + num_lines * LINE_PX + GAP_PX
    head = TITLE_PX + 22 if title else 0
    width = 2 * MARGIN_PX + columns * step_w - GAP_PX
    sheet = Image.new("RGB", (width, 2 * MARGIN_PX + head + num_rows * step_h - GAP_PX), PAGE)
    draw = ImageDraw.Draw(sheet)
    if title:
        font = find_font(TITLE_PX)
        text = _shorten(drawable(title), font, width - 2 * MARGIN_PX)
        draw.text((MARGIN_PX, MARGIN_PX - 6), text, INK, font)
    font = find_font(CAPTION_PX)
    for position, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(position, columns)
        left, top = MARGIN_PX + column * step_w, MARGIN_PX + head + row * step_h
        pixels = Image.fromarray(np.ascontiguousarray(image))
        pixels = pixels.resize((image.shape[1] * scale, image.shape[0] * scale), 0)
        at = left + (cell_w - pixels.width) // 2, top + (cell_h - pixels.height) // 2
        sheet.paste(pixels, at)
        edge = (at[0] - 1, at[1] - 1, at[0] + pixels.width, at[1] + pixels.height)
        draw.rectangle(edge, outline=FRAME)
        for number, line in enumerate(caption.split("\n")):
            text = _shorten(drawable(line), font, cell_w + GAP_PX - 4)
            middle = left + cell_w // 2, top + cell_h + 3 + number * LINE_PX
            draw.text(middle, text, SOFT_INK if number else INK, font, anchor="ma")
    return sheet


def draw_augmented_sheet(
    images: Sequence[UInt8[np.ndarray, "h w"]], parent_ids: Sequence[str], policy: Policy, seed: int
) -> Image.Image:
    """Two rows for each image: itself with copies by the device engine, then by the host's."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a few images do not need an accelerator
    import jax
    import jax.numpy as jnp

    from kkanji_jax.augment.engine import augment, sample_keys

    copies = jnp.arange(NUM_COPIES + 1, dtype=jnp.int32)
    on_host = HostAugmenter(policy, seed)
    on_device = jax.jit(partial(augment, policy=policy))
    cells, captions = [], []
    for image, parent_id in zip(images, parent_ids, strict=True):
        addresses = np.repeat(address_of([parent_id]), len(copies), axis=0)
        keys = sample_keys(seed, jnp.asarray(addresses), copies)
        originals = jnp.asarray(np.repeat(image[None], len(copies), axis=0))
        cells += list(np.asarray(on_device(originals, keys, copies)))
        cells += [on_host(image, parent_id, copy) for copy in range(len(copies))]
        for engine in ("device", "host"):
            captions += ["original", *(f"{engine} {copy}" for copy in range(1, len(copies)))]
    title = f"policy {policy.name}, seed {seed}: upper rows by JAX, lower rows by albumentations"
    return draw_sheet(cells, captions, len(copies), title)


def drawable(text: str) -> str:
    """`text` with every character that the sheet's font lacks replaced by its code point."""
    has = _coverage()
    parts = []
    for character in text:
        codepoint = codepoint_of(character)
        if has(character):
            parts.append(character)
        elif codepoint not in text:  # "X U+XXXX" already says it
            parts.append(codepoint)
    return "".join(parts).strip()


@cache
def _font_path() -> Path | None:
    """A font file with kanji, if one is installed with the package's dependencies."""
    try:
        path = Path(str(importlib.resources.files("matplotlib_fontja"))) / "fonts" / "ipaexg.ttf"
    except ModuleNotFoundError:
        return None
    return path if path.is_file() else None


@cache
def find_font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    path = _font_path()
    return ImageFont.truetype(str(path), size_px) if path else ImageFont.load_default(size_px)


@cache
def _coverage() -> Callable[[str], bool]:
    """Whether the sheet's font has a glyph for a character."""
    path = _font_path()
    if path is None:
        return lambda character: character.isascii() and character.isprintable()
    from matplotlib.ft2font import FT2Font

    known = frozenset(FT2Font(str(path)).get_charmap())
    return lambda character: ord(character) in known


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "...") > width_px:
        text = text[:-1]
    return text + "..."
