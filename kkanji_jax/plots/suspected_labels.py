"""Images whose label the model contradicts with high probability, beside images of both classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.plots import glyph_rows
from kkanji_jax.plots.confused_glyphs import examples
from kkanji_jax.plots.evaluated import Pictures
from kkanji_jax.plots.fonts import Font

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 20
WIDTHS = (1, 4, 4)


def draw(
    suspects: Sequence[dict[str, str]],
    pictures: Pictures,
    class_index: ClassIndex,
    font: Font,
    subtitle: str,
) -> "Figure":
    """The first twenty rows of a suspects.csv. The reader judges: the model may be wrong."""
    rows = []
    for suspect in suspects[:MOST]:
        label, read = class_index.id_of(suspect["label"]), class_index.id_of(suspect["read_as"])
        own = [pictures.row_of[suspect["sample_id"]]]
        ids = (own, examples(pictures, label, own), examples(pictures, read))
        name = suspect["sample_id"].rsplit("/", 1)[-1]
        rows.append(
            glyph_rows.GlyphRow(
                (class_index.character(label), class_index.character(read)),
                f"{name}\nlabel {float(suspect['label_probability']):.1g}, "
                f"read {float(suspect['read_as_probability']):.2f}",
                tuple(
                    [pictures.images[row] for row in group[:width]]
                    for group, width in zip(ids, WIDTHS, strict=True)
                ),
            )
        )
    return glyph_rows.draw(
        "Suspected label errors",
        f"{subtitle}\nLabel → what the model reads with more than usual certainty; "
        f"{len(rows)} of {len(suspects)} listed in suspects.csv",
        ("image", "other images of that label", "the character it was read as"),
        WIDTHS,
        rows,
        font,
    )
