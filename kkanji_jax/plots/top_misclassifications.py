"""The most frequent confusions: which character is read as which, and how often."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.plots import style
from kkanji_jax.plots.fonts import Font

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 50
_ROWS_OF_COLUMN = 25
# A column: both characters with their code points, then the bar, then room for its number.
_COLUMN_INCHES, _NAMES_INCHES, _BAR_INCHES, _ROW_INCHES = 5.6, 2.4, 2.2, 0.3


class Confusion(NamedTuple):
    """`count` of the `num_true` examples of one class were read as another."""

    true_id: int
    predicted_id: int
    count: int
    num_true: int


def most_frequent(matrix: Sequence[Sequence[int]], most: int = MOST) -> list[Confusion]:
    """The largest off-diagonal cells of a sparse confusion matrix, [true, predicted, count].

    Equal counts are ordered by the share of the class that is lost, then by class ids.
    """
    num_true: dict[int, int] = {}
    for true_id, _, count in matrix:
        num_true[true_id] = num_true.get(true_id, 0) + count
    errors = [Confusion(t, p, n, num_true[t]) for t, p, n in matrix if t != p]
    errors.sort(key=lambda e: (-e.count, e.num_true, e.true_id, e.predicted_id))
    return errors[:most]


def draw(
    matrix: Sequence[Sequence[int]], class_index: ClassIndex, font: Font, subtitle: str
) -> "Figure":
    """The original's top fifty misclassifications, as bars in one or two columns."""
    confusions = most_frequent(matrix)
    num_errors = sum(count for true_id, predicted_id, count in matrix if true_id != predicted_id)
    num_examples = sum(count for *_, count in matrix)
    shown = sum(confusion.count for confusion in confusions)
    num_columns = max(-(-len(confusions) // _ROWS_OF_COLUMN), 1)
    num_rows = min(max(len(confusions), 1), _ROWS_OF_COLUMN)
    width = num_columns * _COLUMN_INCHES
    body = num_rows * _ROW_INCHES + 0.3
    figure, top = style.titled_figure(
        f"Top {MOST} misclassifications" if shown < num_errors else "Misclassifications",
        f"{subtitle}\n{num_errors:,} errors in {num_examples:,} examples, {shown:,} of them below. "
        "Written → read, how often, of the class's examples",
        width=width,
        body=body,
    )
    if not confusions:
        figure.text(
            0.5, 0.3 / (top + body), "no example was misclassified", ha="center", fontsize=13
        )
    longest = confusions[0].count if confusions else 1
    for column in range(num_columns if confusions else 0):
        part = confusions[column * _ROWS_OF_COLUMN : (column + 1) * _ROWS_OF_COLUMN]
        height = len(part) * _ROW_INCHES
        axes = figure.add_axes(
            (
                (column * _COLUMN_INCHES + _NAMES_INCHES) / width,
                (body - 0.1 - height) / (top + body),
                _BAR_INCHES / width,
                height / (top + body),
            )
        )
        _draw_bars(axes, part, longest, class_index, font)
    return figure


def _draw_bars(
    axes: "Axes", part: Sequence[Confusion], longest: int, class_index: ClassIndex, font: Font
) -> None:
    rows = range(len(part))
    axes.barh(rows, [c.count for c in part], height=0.62, color=style.VAL_COLOUR)
    axes.set_ylim(len(part) - 0.5, -0.5)  # the most frequent on top
    axes.set_xlim(0, longest)
    axes.axis("off")
    in_margin = axes.get_yaxis_transform()  # x in shares of the axes, y in rows
    for row, confusion in zip(rows, part, strict=True):
        for class_id, left in ((confusion.true_id, 0.2), (confusion.predicted_id, 1.35)):
            character = class_index.character(class_id)
            text, codepoint = font.text_of(character), class_index.codepoints[class_id]
            # A code point in place of a character needs no second naming.
            is_drawn = text == character
            axes.text(
                (left - _NAMES_INCHES) / _BAR_INCHES,
                row,
                text,
                fontsize=15 if is_drawn else 8.5,
                va="center_baseline",
                transform=in_margin,
            )
            axes.text(
                (left + 0.29 - _NAMES_INCHES) / _BAR_INCHES,
                row,
                codepoint if is_drawn else "",
                fontsize=7,
                color=style.FAINT,
                va="center_baseline",
                transform=in_margin,
            )
        axes.text(
            (1.17 - _NAMES_INCHES) / _BAR_INCHES,
            row,
            "→",
            fontsize=9,
            color=style.FAINT,
            ha="center",
            va="center_baseline",
            transform=in_margin,
        )
        axes.text(
            confusion.count + longest * 0.02,
            row,
            f"{confusion.count} of {confusion.num_true}",
            fontsize=8,
            va="center_baseline",
        )
