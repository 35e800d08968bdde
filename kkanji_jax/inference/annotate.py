"""A page with its boxes and what was read in them, drawn on it."""

import contextlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from kkanji_jax.data.class_index import codepoint_of
from kkanji_jax.files import written_whole
from kkanji_jax.glyphs.image_files import MAX_PAGE_PIXELS, open_image
from kkanji_jax.inference.rows import Row

COLOURS = {
    "accept": (0, 110, 60),
    "ask": (200, 90, 0),
    "unknown": (190, 0, 40),
    "blank": (110, 110, 110),
    "unclear": (110, 110, 110),
    "": (0, 70, 170),
}
_MIN_LABEL_PX = 12
_NO_GLYPH = "\U0010ffff"  # in no font: draws the empty box that a missing character would


class LabelFont:
    """Font files in order of preference, at any size; code points where none has a character."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._fonts: dict[tuple[Path, int], Any] = {}

    def label(self, character: str, size_px: int) -> tuple[str, Any]:
        """What to draw and the font to draw it with: the character, or its code point, smaller."""
        for file in self._files:
            font = self._font(file, size_px)
            if bytes(font.getmask(character)) != bytes(font.getmask(_NO_GLYPH)):
                return character, font
        return codepoint_of(character), ImageFont.load_default(max(_MIN_LABEL_PX, size_px // 3))

    def _font(self, file: Path, size_px: int) -> Any:
        if (file, size_px) not in self._fonts:
            try:
                self._fonts[file, size_px] = ImageFont.truetype(str(file), size_px)
            except OSError as err:
                raise ValueError(f"expected a font file, cannot read {file}: {err}") from err
        return self._fonts[file, size_px]


def annotate_page(
    page: str | io.BytesIO | Image.Image,
    rows: Iterable[Row],
    out: Path,
    font_files: Sequence[Path],
) -> None:
    """Writes `page` as a PNG with the best reading beside each box, coloured by its verdict.

    `rows` are those of this page; the file appears when whole. ValueError if the page cannot be
    read or `out` does not end in .png.
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"expected a file name that ends in .png for --annotate, got {out}")
    if isinstance(page, Image.Image):
        opening = contextlib.nullcontext(page)
    else:
        opening = open_image(page, str(getattr(page, "name", page)), MAX_PAGE_PIXELS)
    with opening as opened:
        upright = ImageOps.exif_transpose(opened)
        canvas = upright.convert("RGB") if not upright.mode.startswith("I") else _deep(upright)
    draw, font = ImageDraw.Draw(canvas), LabelFont(font_files)
    for row in rows:
        if row.box is None or row.rank not in (None, 1):
            continue
        left, top, width, height = row.box
        colour = COLOURS["blank" if row.error else row.verdict]
        line_px = max(1, round(min(canvas.size) / 800))
        right, bottom = left + max(width, 1), top + max(height, 1)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line_px)
        if row.character is None:
            continue
        size_px = max(_MIN_LABEL_PX, min(width, height) // 2)
        text, face = font.label(row.character, size_px)
        reach = draw.textlength(text, font=face)
        # Columns run from right to left: the gap at a box's right is the freer one.
        x = right + 2 * line_px if right + reach + 2 * line_px <= canvas.width else left
        draw.text(
            (x, top),
            text,
            fill=colour,
            font=face,
            stroke_width=2 * line_px,
            stroke_fill=(255, 255, 255),
        )
    with written_whole(out) as unfinished:
        canvas.save(unfinished, format="PNG")


def _deep(image: Image.Image) -> Image.Image:
    """A 16-bit page at 8 bits: Pillow's own conversion clips."""
    return image.point(lambda value: value / 257).convert("L").convert("RGB")
