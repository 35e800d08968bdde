"""Loss of train and val over the run."""

from typing import TYPE_CHECKING

from kkanji_jax.plots import curves, style
from kkanji_jax.plots.run_log import LOSS, RunLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_loss(axes: "Axes", log: RunLog) -> None:
    """Both losses, on a log axis if they span more than a factor of twenty."""
    values = [value for value in curves.draw_pair(axes, log, LOSS) if value > 0]
    if values and max(values) > 20 * min(values):
        style.log_ticks(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("cross-entropy, nats")


def draw(log: RunLog) -> "Figure":
    """The original's loss curve."""
    figure, (axes,) = style.new_figure("Loss", curves.subtitle(log))
    draw_loss(axes, log)
    curves.finish(axes)
    return figure
