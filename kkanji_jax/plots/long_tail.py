"""Accuracy by the number of training images of a class, which a mean over examples hides."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kkanji_jax.data.class_sizes import class_size_label
from kkanji_jax.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(by_class_size: Sequence[dict[str, Any]], subtitle: str) -> "Figure":
    """Top-1 with its 95 % interval for every row of `by_class_size` in an eval.json."""
    from matplotlib.ticker import PercentFormatter

    figure, (axes,) = style.new_figure(
        "The long tail",
        f"{subtitle}\nTop-1 by class size, with 95 % intervals",
        width=9.0,
    )
    rows = [row for row in by_class_size if row["n"]]
    positions = range(len(rows))
    shares = [row["top1"] for row in rows]
    below = [max(0.0, row["top1"] - row["ci95"][0]) for row in rows]
    above = [max(0.0, row["ci95"][1] - row["top1"]) for row in rows]
    axes.plot(positions, shares, color=style.VAL_COLOUR, alpha=0.35, linewidth=1.2)
    axes.errorbar(
        positions,
        shares,
        yerr=[below, above],
        fmt="o",
        color=style.VAL_COLOUR,
        markersize=6,
        capsize=4,
        elinewidth=1.4,
    )
    for position, row in zip(positions, rows, strict=True):
        axes.annotate(
            f"{100 * row['top1']:.1f}",
            (position, row["top1"]),
            xytext=(7, -12),
            textcoords="offset points",
            fontsize=9,
        )
    labels = [
        f"{class_size_label(row['min'], row['max'])}\n{row['classes']:,} classes\nn = {row['n']:,}"
        for row in rows
    ]
    axes.set_xticks(positions, labels, fontsize=8)
    axes.grid(False, axis="x")
    axes.set_xlim(-0.5, len(rows) - 0.3)
    lowest = min((row["ci95"][0] for row in rows), default=0.0)
    axes.set_ylim(max(0.0, lowest - 0.06), 1.02)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1.0 + 1e-9])
    axes.set_ylim(max(0.0, lowest - 0.06), 1.02)  # setting ticks widens to them
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_ylabel("top-1")
    axes.set_xlabel("training images of a class, before augmentation")
    return figure
