"""The commonest confusions: the misread images beside other images of both characters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.counts import sparse_confusion
from kkanji_jax.plots import glyph_rows
from kkanji_jax.plots.evaluated import Pictures
from kkanji_jax.plots.fonts import Font
from kkanji_jax.plots.top_misclassifications import most_frequent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 15
WIDTHS = (4, 4, 4)


def draw(pictures: Pictures, class_index: ClassIndex, font: Font, subtitle: str) -> "Figure":
    """Fifteen confusions: misread images, then other images of each of the two classes."""
    matrix = sparse_confusion(pictures.labels, pictures.predicted, len(class_index))
    rows = []
    for confusion in most_frequent(matrix, MOST):
        true, read = confusion.true_id, confusion.predicted_id
        misread = np.flatnonzero((pictures.labels == true) & (pictures.predicted == read))
        groups = (misread, examples(pictures, true, misread), examples(pictures, read))
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
        ("misread", "other images of what was written", "the character it was read as"),
        WIDTHS,
        rows,
        font,
    )


def examples(
    pictures: Pictures, class_id: int, besides: Int[np.ndarray, " k"] | Sequence[int] = ()
) -> Int[np.ndarray, " m"]:
    """Rows of a class except `besides`: first those read right, each in the split's order."""
    rows = np.flatnonzero(pictures.labels == class_id)
    rows = rows[~np.isin(rows, besides)]
    return rows[np.argsort(pictures.predicted[rows] != class_id, kind="stable")]
