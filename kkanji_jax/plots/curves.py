"""The two curves, train and val, that most figures of a run consist of."""

from typing import TYPE_CHECKING

from kkanji_jax.plots import style
from kkanji_jax.plots.run_log import RunLog, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN_NOTE = "train: running mean over augmented images since the evaluation before"


def draw_pair(axes: "Axes", log: RunLog, metric: str) -> list[float]:
    """Draws train and val of a metric over epochs; returns all values drawn."""
    drawn: list[float] = []
    for split, colour in (("train", style.TRAIN_COLOUR), ("val", style.VAL_COLOUR)):
        epochs, values = log.series(f"{split}_{metric}")
        if values:
            style.draw_curve(axes, epochs, values, colour=colour, label=split)
            drawn += values
    return drawn


def subtitle(log: RunLog) -> str:
    """The subtitle of every curve."""
    return f"{describe(log)}\n{TRAIN_NOTE}"


def finish(axes: "Axes") -> None:
    """Names the x axis and places the legend."""
    axes.set_xlabel("epoch")
    axes.legend(loc="best")
    axes.margins(x=0.02)
