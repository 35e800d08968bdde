"""Rows of glyphs beside their characters: the label, and what was read instead."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import UInt8

from kkanji_jax.plots import style
from kkanji_jax.plots.fonts import Font

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Glyphs = Sequence[UInt8[np.ndarray, "h w"]]

_ROW_INCHES, _GLYPH_INCHES, _GAP_INCHES = 0.72, 0.6, 0.16
_TEXT_INCHES = 2.75
_HEAD_INCHES = 0.36


class GlyphRow(NamedTuple):
    """Two characters, a line under them, and groups of glyphs, the first of which is framed."""

    characters: tuple[str, str]
    caption: str
    groups: tuple[Glyphs, ...]


def draw(
    title: str,
    subtitle: str,
    heads: Sequence[str],
    widths: Sequence[int],
    rows: Sequence[GlyphRow],
    font: Font,
) -> "Figure":
    """One row below the other; group g has room for `widths[g]` glyphs and is headed `heads[g]`."""
    strip = sum(widths) * _GLYPH_INCHES + len(widths) * _GAP_INCHES
    width = _TEXT_INCHES + strip + 0.3
    body = _HEAD_INCHES + _ROW_INCHES * max(len(rows), 1) + 0.15
    figure, top = style.titled_figure(title, subtitle, width=width, body=body)
    height, top = top + body, top + _HEAD_INCHES
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)  # inches from the top left
    axes.axis("off")
    starts = [
        _TEXT_INCHES + sum(widths[:g]) * _GLYPH_INCHES + g * _GAP_INCHES for g in range(len(widths))
    ]
    for start, head in zip(starts, heads, strict=True):
        axes.text(start, top - 0.1, head, fontsize=8, color=style.FAINT)
    if not rows:
        axes.text(0.3, top + 0.4, "nothing to show", fontsize=12)
    for number, row in enumerate(rows):
        y = top + number * _ROW_INCHES
        written, read = map(font.text_of, row.characters)
        size = 20 if max(len(written), len(read)) == 1 else 9
        axes.text(0.2, y + 0.3, f"{written} → {read}", fontsize=size, va="center")
        axes.text(1.3, y + 0.3, row.caption, fontsize=7.5, va="center", color=style.FAINT)
        for g, glyphs in enumerate(row.groups):
            if not len(glyphs):
                axes.text(starts[g], y + 0.3, "none", fontsize=8, va="center", color=style.FAINT)
            for place, glyph in enumerate(glyphs[: widths[g]]):
                left = starts[g] + place * _GLYPH_INCHES
                axes.imshow(
                    255 - glyph,
                    cmap="gray",
                    vmin=0,
                    vmax=255,
                    extent=(left, left + _GLYPH_INCHES * 0.93, y + _GLYPH_INCHES * 0.93, y),
                    aspect="auto",
                )
                colour = style.TRAIN_COLOUR if g == 0 else style.GRID
                axes.add_patch(_frame(left, y, _GLYPH_INCHES * 0.93, colour, 1.6 - 0.8 * (g > 0)))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure


def _frame(left: float, top: float, side: float, colour: str, linewidth: float):  # noqa: ANN202
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), side, side, fill=False, edgecolor=colour, linewidth=linewidth)
