"""Loss above, accuracy below: how the run learnt."""

from typing import TYPE_CHECKING

from kkanji_jax.plots import curves, style
from kkanji_jax.plots.accuracy_curve import draw_accuracy
from kkanji_jax.plots.loss_curve import draw_loss
from kkanji_jax.plots.run_log import RunLog

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(log: RunLog) -> "Figure":
    """The original's learning curves."""
    figure, (above, below) = style.new_figure(
        "Learning curves", curves.subtitle(log), rows=2, height=8.0
    )
    draw_loss(above, log)
    draw_accuracy(below, log)
    curves.finish(above)
    curves.finish(below)
    above.set_xlabel("")
    return figure
