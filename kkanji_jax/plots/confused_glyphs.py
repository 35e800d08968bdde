"""The commonest confusions as they were written: the misread images beside both characters."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.metrics import sparse_confusion
from kkanji_jax.plots import glyph_rows
from kkanji_jax.plots.evaluated import Pictures
from kkanji_jax.plots.fonts import Font
from kkanji_jax.plots.top_misclassifications import most_frequent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 15
WIDTHS = (4, 4, 4)


def draw(pictures: Pictures, class_index: ClassIndex, font: Font, subtitle: str) -> "Figure":
    """Fifteen confusions: misread images, then images of each class that were read aright."""
    matrix = sparse_confusion(pictures.labels, pictures.predicted, len(class_index))
    rows = []
    for confusion in most_frequent(matrix, MOST):
        true, read = confusion.true_id, confusion.predicted_id
        misread = np.flatnonzero((pictures.labels == true) & (pictures.predicted == read))
        groups = (misread, right_examples(pictures, true), right_examples(pictures, read))
        rows.append(
            glyph_rows.GlyphRow(
                (class_index.character(true), class_index.character(read)),
                f"{class_index.codepoints[true]} → {class_index.codepoints[read]}\n"
                f"{confusion.count} of {confusion.num_true}",
                tuple(
                    list(pictures.images[ids[:width]])
                    for ids, width in zip(groups, WIDTHS, strict=True)
                ),
            )
        )
    return glyph_rows.draw(
        "The commonest confusions, as written",
        f"{subtitle}\nWritten → read; how often, of the class's images in this split",
        ("misread", "the character written, read aright", "the character it was read as"),
        WIDTHS,
        rows,
        font,
    )


def right_examples(pictures: Pictures, class_id: int) -> Int[np.ndarray, " m"]:
    """Rows of a class that were read aright, in the split's order; else any of its rows."""
    is_class = pictures.labels == class_id
    right = np.flatnonzero(is_class & (pictures.predicted == class_id))
    return right if right.size else np.flatnonzero(is_class)
