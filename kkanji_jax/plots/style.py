"""What all figures share: paper, inks, titles, axes, and how a file is written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kkanji_jax.files import written_whole
from kkanji_jax.plots.fonts import LATIN_FAMILY, Font

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN_COLOUR, VAL_COLOUR, THIRD_COLOUR = "#c2512f", "#24496e", "#7a8b5c"  # vermilion, indigo, moss
INK, FAINT, PAPER, GRID = "#222222", "#6f6f6f", "#ffffff", "#e4e2dc"
DPI = 160
CLOSE_TO_ONE = 0.9  # above it an accuracy is drawn by its distance from 1


@contextmanager
def house_style(font: Font) -> Iterator[None]:
    """Settings for everything drawn inside, and none outside."""
    import matplotlib

    settings: dict[Any, Any] = {
        "font.family": list(font.families),
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "lines.linewidth": 1.8,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(
    title: str, subtitle: str, *, rows: int = 1, width: float = 8.0, height: float = 5.0
) -> "tuple[Figure, list[Axes]]":
    """A figure of `rows` axes above each other, titled on the left; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    num_lines = subtitle.count("\n") + 1
    top = 1 - (0.5 + 0.19 * num_lines) / height
    figure.get_layout_engine().set(rect=(0.01, 0.01, 0.98, top - 0.01))  # pyright: ignore
    figure.text(0.02, 1 - 0.14 / height, title, fontsize=15, fontweight="bold", va="top",
                family=LATIN_FAMILY)  # fmt: skip

    figure.text(
        0.02, 1 - 0.46 / height, subtitle, fontsize=9, color=FAINT, va="top", linespacing=1.4
    )
    return figure, list(axes)


def save(figure: "Figure", path: Path) -> Path:
    """Writes a PNG that is a function of what was drawn: no date, no version in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=DPI, metadata={"Software": None})
    return path


def draw_curve(
    axes: "Axes",
    x: Sequence[float],
    y: Sequence[float],
    *,
    colour: str,
    label: str,
    dashes: str = "-",
) -> None:
    """A line through the evaluations; points where they are few, so that one is seen too."""
    marker = "o" if len(x) <= 20 else None
    axes.plot(x, y, color=colour, label=label, linestyle=dashes, marker=marker, markersize=4.5)


def log_ticks(axes: "Axes") -> None:
    """A log axis labelled 0.2, 0.5, 1, 2, 5 rather than in powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def as_shares(axes: "Axes", values: Sequence[float], name: str) -> None:
    """A per-cent axis; where all goes on near 1, one on which .99 and .999 stand well apart.

    Near 1 means that the highest value is over CLOSE_TO_ONE. Values of 1 are drawn at the top.
    """
    from matplotlib.ticker import PercentFormatter

    highest = max(values, default=0.0)
    if highest <= CLOSE_TO_ONE:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.set_ylim(max(0.0, min(values, default=0.0) - 0.03), min(1.0, highest * 1.06 + 0.01))
        axes.set_ylabel(name)
        return
    least_error = min((1 - value for value in values if value < 1), default=1e-3)
    smallest = min(least_error, 0.1) * 0.7
    largest = min(1.0, max(1 - min(values), 0.02) * 1.25)

    log_distance(axes, smallest, largest, "y")
    axes.set_ylabel(f"{name} (log distance from 100 %)")


def log_distance(axes: "Axes", smallest: float, largest: float, which: str = "xy") -> None:
    """Axes of shares on which .9, .99 and .999 stand equally far apart; `which` of x and y.

    They reach from 1 - largest to 1 - smallest, and values nearer to 1 are drawn there.
    """

    def forward(share):  # noqa: ANN001, ANN202  (matplotlib hands over arrays of any shape)
        import numpy as np

        return -np.log10(np.maximum(1 - np.asarray(share, float), smallest))

    def inverse(scaled):  # noqa: ANN001, ANN202
        import numpy as np

        return 1 - 10.0 ** (-np.asarray(scaled, float))

    ticks = _error_ticks(smallest, largest)
    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        (axes.set_xscale if name == "x" else axes.set_yscale)(
            "function", functions=(forward, inverse)
        )
        axis.set_ticks([1 - t for t in ticks], [_per_cent(1 - t) for t in ticks])
        axis.set_ticks([], minor=True)
        (axes.set_xlim if name == "x" else axes.set_ylim)(1 - largest, 1 - smallest)


def _error_ticks(smallest: float, largest: float) -> list[float]:
    """Round errors in between: as many as stay legible."""
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 5), (1,)):
        all_ticks = sorted(digit * 10.0**-power for power in range(7) for digit in digits)
        ticks = [tick for tick in all_ticks if smallest <= tick <= min(1.0, largest) * (1 + 1e-9)]
        if len(ticks) <= 8:
            break
    return ticks


def _per_cent(share: float) -> str:
    return f"{100 * share:.4f}".rstrip("0").rstrip(".") + " %"
