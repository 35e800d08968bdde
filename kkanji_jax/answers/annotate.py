"""A page with its boxes and what was read in them, drawn on it."""

import io
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from kkanji_jax.answers.drawing import Drawing
from kkanji_jax.answers.rows import Row
from kkanji_jax.data.class_index import codepoint_of
from kkanji_jax.files import written_whole
from kkanji_jax.glyphs.image_files import MAX_PAGE_PIXELS, load_picture
from kkanji_jax.inputs.image_input import ImageInput

COLOURS = {
    "accept": (0, 110, 60),
    "ask": (200, 90, 0),
    "unknown": (190, 0, 40),
    "blank": (110, 110, 110),
    "unclear": (110, 110, 110),
    "": (0, 70, 170),
}
_MIN_LABEL_PX = 12
_OF_BOX, _OF_USUAL_BOX = 0.5, 0.4  # a label's size beside its box's long side, and the least of all
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


class AnnotatedPage(Drawing):
    """Collects the rows of a page, and draws them on it with `annotate_page`."""

    def __init__(self, page: ImageInput, out: Path, font_files: Sequence[Path]) -> None:
        self._page, self._out, self._font_files = page, out, font_files
        self._rows: list[Row] = []

    def add_row(self, row: Row) -> None:
        """Takes the first row of each box."""
        if row.is_first:
            self._rows.append(row)

    def save(self) -> None:
        """Writes the page as PNG."""
        annotate_page(self._page.source(), self._rows, self._out, self._font_files)


def annotate_page(
    page: str | io.BytesIO | Image.Image,
    rows: Iterable[Row],
    out: Path,
    font_files: Sequence[Path],
) -> None:
    """Writes `page` as a PNG with the best reading beside each box, coloured by its verdict.

    `rows` are those of this page, which is drawn as it was read: upright, transparency over paper,
    in 8 bits. The file appears when whole. ValueError if the page cannot be read or `out` does not
    end in .png.
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"--annotate must end in .png, not {out}")
    picture = load_picture(page, max_pixels=MAX_PAGE_PIXELS)
    canvas = Image.fromarray(picture).convert("RGB")
    draw, font = ImageDraw.Draw(canvas), LabelFont(font_files)
    line_px = max(1, round(min(canvas.size) / 800))
    boxed = [row for row in rows if row.box is not None and row.is_first]
    for row in boxed:
        left, top, right, bottom = _corners(row)
        draw.rectangle((left, top, right, bottom), outline=_colour(row), width=line_px)
    # Labels come last: the line of a neighbour would strike them out.
    sides = [max(right - left, bottom - top) for left, top, right, bottom in map(_corners, boxed)]
    least_px = max(_MIN_LABEL_PX, round(_OF_USUAL_BOX * statistics.median(sides or [0])))
    for row, side in zip(boxed, sides, strict=True):
        if row.character is None:
            continue
        left, top, right, bottom = _corners(row)
        size_px = max(least_px, min(round(_OF_BOX * side), bottom - top))
        text, face = font.label(row.character, size_px)
        reach, halo_px = math.ceil(draw.textlength(text, font=face)), 2 * line_px
        x = _beside(left, right, reach, halo_px, canvas.width)
        y = top - max(0, size_px - (bottom - top)) // 2
        y = max(halo_px, min(y, canvas.height - size_px - halo_px))
        draw.text(
            (x, y),
            text,
            fill=_colour(row),
            font=face,
            stroke_width=halo_px,
            stroke_fill=(255, 255, 255),
        )
    with written_whole(out) as unfinished:
        canvas.save(unfinished, format="PNG")


def _corners(row: Row) -> tuple[int, int, int, int]:
    left, top, width, height = row.box or (0, 0, 0, 0)
    return left, top, left + max(width, 1), top + max(height, 1)


def _colour(row: Row) -> tuple[int, int, int]:
    return COLOURS["blank" if row.error else row.verdict]


def _beside(left: int, right: int, reach: int, gap_px: int, page_px: int) -> int:
    """Where a label begins: columns run from right to left, so a box's right is the freer side."""
    if right + gap_px + reach <= page_px:
        return max(0, right + gap_px)
    return max(0, min(left - gap_px - reach, page_px - reach))
