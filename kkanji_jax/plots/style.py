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
    from matplotlib.text import Text

TRAIN_COLOUR, VAL_COLOUR, THIRD_COLOUR = "#c2512f", "#24496e", "#7a8b5c"  # vermilion, indigo, moss
INK, FAINT, PAPER, GRID = "#222222", "#6f6f6f", "#ffffff", "#e4e2dc"
DPI = 160
# What a file would tell of its making, by format: no date and no version.
_NO_DATE: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
FORMATS = tuple(_NO_DATE)
CLOSE_TO_ONE = 0.9  # above it an accuracy is drawn by its distance from 1
CLEAR_OF_ONE = 1.4  # the last tick's error over that of the axis' end, which is labelled 100 %


@contextmanager
def house_style(font: Font) -> Iterator[None]:
    """Settings for everything that is drawn inside the context."""
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
        "svg.hashsalt": "kkanji_jax",  # names inside a file that are the same each time
        "pdf.fonttype": 42,
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(
    title: str, subtitle: str, *, rows: int = 1, width: float = 8.0, height: float = 5.0
) -> "tuple[Figure, list[Axes]]":
    """A figure of `rows` axes above each other, titled on the left; inches."""
    figure, top = titled_figure(title, subtitle, width=width)
    figure.set_size_inches(width, height)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    figure.get_layout_engine().set(rect=(0.01, 0.01, 0.98, 1 - top / height - 0.02))  # pyright: ignore
    return figure, list(axes)


def titled_figure(
    title: str, subtitle: str, *, width: float, body: float = 1.0
) -> "tuple[Figure, float]":
    """A figure without axes, and how far its titles reach from the top, in inches.

    Lines of the subtitle that are too long for the width are broken at spaces, and `body` inches
    stay free below them.
    """
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    figure = Figure(figsize=(width, body))
    # Inches from the left and, downwards negative, from the top, whatever the height becomes.
    from_top = ScaledTranslation(0, 1, figure.transFigure)  # pyright: ignore[reportArgumentType]
    inches = figure.dpi_scale_trans + from_top
    figure.text(
        0.2,
        -0.14,
        title,
        transform=inches,
        fontsize=15,
        fontweight="bold",
        va="top",
        family=LATIN_FAMILY,
    )
    lines = figure.text(
        0.2, -0.46, subtitle, transform=inches, fontsize=9, color=FAINT, va="top", linespacing=1.4
    )
    lines.set_text(_broken(lines, width - 0.4))
    top = 0.5 + 0.19 * (lines.get_text().count("\n") + 1)
    figure.set_size_inches(width, top + body)
    return figure, top


def _broken(text: "Text", width: float) -> str:
    """The text with line breaks where it would be wider than `width` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = text.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()

    def fits(line: str) -> bool:
        text.set_text(line)
        return bool(text.get_window_extent(renderer).width <= width * figure.dpi)

    lines: list[str] = []
    for paragraph in text.get_text().split("\n"):
        line = ""
        for word in paragraph.split(" ") if not fits(paragraph) else [paragraph]:
            if line and not fits(f"{line} {word}"):
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return "\n".join(lines)


def save(figure: "Figure", path: Path) -> Path:
    """Writes the file in the format of its suffix. The bytes depend only on what was drawn.

    The suffix is one of FORMATS.
    """
    file_format = path.suffix.removeprefix(".")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        figure.savefig(
            unfinished, format=file_format, dpi=DPI, metadata=dict(_NO_DATE[file_format])
        )
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
    """A line through the evaluations, with points if there are few, so that one is visible."""
    marker = "o" if len(x) <= 20 else None
    axes.plot(x, y, color=colour, label=label, linestyle=dashes, marker=marker, markersize=4.5)


def log_ticks(axes: "Axes") -> None:
    """A log axis with the labels 0.2, 0.5, 1, 2, 5 rather than powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def as_shares(axes: "Axes", values: Sequence[float], name: str) -> None:
    """An axis in per cent. If the values are near 1, its scale separates .99 from .999.

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
    smallest = min(least_error, 0.1) * 0.6
    largest = min(1.0, max(1 - min(values), 0.02) * 1.25)

    log_distance(axes, smallest, largest, "y")
    axes.set_ylabel(f"{name} (log distance from 100 %)")


def log_distance(axes: "Axes", smallest: float, largest: float, which: str = "xy") -> None:
    """Axes of shares on which .9, .99 and .999 stand equally far apart; `which` of x and y.

    They reach from 1 - largest to 1 - smallest. That end stands for 100 % and is labelled so: a
    value nearer to 1 is drawn there, since no log distance reaches it.
    """

    def forward(share):  # noqa: ANN001, ANN202  (matplotlib hands over arrays of any shape)
        import numpy as np

        return -np.log10(np.maximum(1 - np.asarray(share, float), smallest))

    def inverse(scaled):  # noqa: ANN001, ANN202
        import numpy as np

        return 1 - 10.0 ** (-np.asarray(scaled, float))

    ticks = _error_ticks(smallest * CLEAR_OF_ONE, largest)
    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        (axes.set_xscale if name == "x" else axes.set_yscale)(
            "function", functions=(forward, inverse)
        )
        axis.set_ticks(
            [*(1 - tick for tick in ticks), 1 - smallest],
            [*(_per_cent(1 - tick) for tick in ticks), "100 %"],
        )
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
