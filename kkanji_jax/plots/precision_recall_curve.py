"""Precision and recall of train and val over the run."""

from typing import TYPE_CHECKING

from kkanji_jax.plots import curves, style
from kkanji_jax.plots.run_log import PRECISION, RECALL, RunLog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "Means over classes weighted by their examples; recall so weighted equals accuracy"


def draw(log: RunLog) -> "Figure":
    """The original's precision and recall, one above the other."""
    figure, rows = style.new_figure(
        "Precision and recall", f"{curves.subtitle(log)}\n{NOTE}", rows=2, height=8.0
    )
    for axes, metric in zip(rows, (PRECISION, RECALL), strict=True):
        values = curves.draw_pair(axes, log, metric)
        style.as_shares(axes, values, metric)
        curves.finish(axes)
    rows[0].set_xlabel("")
    return figure
