"""The confusions that cost most: which character is read as which, and how often."""

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


class Confusion(NamedTuple):
    """`count` of the `num_true` examples of one class were taken for another."""

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
    figure, columns = _columns(
        f"Top {len(confusions)} misclassifications" if confusions else "Misclassifications",
        f"{subtitle}\n{num_errors:,} errors in {num_examples:,} examples, {shown:,} of them below. "
        "Written → read, how often, of the class's examples",
        -(-len(confusions) // _ROWS_OF_COLUMN),
    )
    if not confusions:
        columns[0].axis("off")
        columns[0].text(0.5, 0.5, "no example was misclassified", ha="center", fontsize=13)
        return figure
    longest = confusions[0].count
    for column, axes in enumerate(columns):
        part = confusions[column * _ROWS_OF_COLUMN : (column + 1) * _ROWS_OF_COLUMN]
        _draw_bars(axes, part, longest, class_index, font)
    return figure


def _columns(title: str, subtitle: str, num_columns: int) -> "tuple[Figure, Sequence[Axes]]":
    width, height = (6.6, 8.6) if num_columns < 2 else (11.0, 8.6)
    figure, (axes,) = style.new_figure(title, subtitle, width=width, height=height)
    if num_columns < 2:
        return figure, [axes]
    axes.remove()
    return figure, figure.subplots(1, num_columns, squeeze=False)[0]


def _draw_bars(
    axes: "Axes", part: Sequence[Confusion], longest: int, class_index: ClassIndex, font: Font
) -> None:
    rows = range(len(part))
    axes.barh(rows, [c.count for c in part], height=0.62, color=style.VAL_COLOUR)
    axes.set_ylim(_ROWS_OF_COLUMN - 0.4, -0.6)  # the most frequent on top; rows equally high
    axes.set_xlim(0, longest * 1.3)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.grid(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    for row, confusion in zip(rows, part, strict=True):
        true, predicted = (class_index.codepoints[i] for i in confusion[:2])
        pair = [class_index.character(i) for i in confusion[:2]]
        drawn = [font.text_of(character) for character in pair]
        in_margin = axes.get_yaxis_transform()
        for x, text, character, codepoint in zip(
            (-0.44, -0.195), drawn, pair, (true, predicted), strict=True
        ):
            # A code point in place of a character needs no second naming.
            is_drawn = text == character
            axes.text(x, row, text, fontsize=15 if is_drawn else 8.5, va="center_baseline",
                      transform=in_margin)  # fmt: skip
            axes.text(x + 0.075, row, codepoint if is_drawn else "", fontsize=6.5,
                      color=style.FAINT, va="center_baseline", transform=in_margin)  # fmt: skip
        axes.text(-0.235, row, "→", fontsize=9, color=style.FAINT, ha="center",
                  va="center_baseline", transform=in_margin)  # fmt: skip
        axes.text(
            confusion.count + longest * 0.015,
            row,
            f"{confusion.count} of {confusion.num_true}",
            fontsize=8,
            va="center_baseline",
        )
