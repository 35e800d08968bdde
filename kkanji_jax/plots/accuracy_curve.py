"""Accuracy of train and val over the run."""

from typing import TYPE_CHECKING

from kkanji_jax.plots import curves, style
from kkanji_jax.plots.run_log import ACCURACY, RunLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_accuracy(axes: "Axes", log: RunLog) -> None:
    """Top-1 of both splits, and the mean over classes if the run has it."""
    values = curves.draw_pair(axes, log, ACCURACY)
    epochs, macro = log.series("val_macro_accuracy")
    if macro:
        style.draw_curve(
            axes,
            epochs,
            macro,
            colour=style.VAL_COLOUR,
            label="val, mean over classes",
            dashes="--",
        )
    style.as_shares(axes, values + macro, "accuracy")


def draw(log: RunLog) -> "Figure":
    """The original's accuracy curve, with the mean over classes beside it."""
    figure, (axes,) = style.new_figure("Accuracy", curves.subtitle(log))
    draw_accuracy(axes, log)
    curves.finish(axes)
    return figure
