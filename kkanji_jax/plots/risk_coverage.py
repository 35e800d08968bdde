"""The share of errors that remain when the least certain answers are left to a reader."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kkanji_jax.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(content: dict[str, Any], subtitle: str) -> "Figure":
    """Share of errors over share answered, from an eval.json, with the verdicts as points."""
    from matplotlib.ticker import PercentFormatter

    found = content["risk_coverage"]
    aurc = found["aurc"]
    span = "–".join(f"{100 * end:.2f}" for end in aurc["ci95"])
    figure, (axes,) = style.new_figure(
        "Risk and coverage",
        f"{subtitle}\nSurest answers first, by {found['ordered_by']}. "
        f"Area under the curve {100 * aurc['value']:.2f} % ({span})",
        width=8.6,
    )
    coverage, risk = zip(*found["curve"], strict=True)
    axes.plot(coverage, risk, color=style.VAL_COLOUR, clip_on=False)
    _zero_and_log(axes, risk)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("share of the images that is answered")
    axes.set_ylabel("errors among the answered")
    axes.annotate(
        f"all: {100 * risk[-1]:.1f} %",
        (1, risk[-1]),
        xytext=(-8, 8),
        textcoords="offset points",
        ha="right",
        fontsize=9,
    )
    for row in content["verdicts"] or ():
        if row["verdict"] == "accept" and row["accuracy"]["value"] is not None:
            x, error = row["coverage"]["value"], 1 - row["accuracy"]["value"]
            axes.plot([x], [error], "o", color=style.TRAIN_COLOUR, markersize=8, clip_on=False)
            _name_accept(axes, x, error, row["stated_accuracy"])
    return figure


def _name_accept(axes: "Axes", x: float, error: float, stated_accuracy: float) -> None:
    """Places the label off the curve: under it, or above a point at the very bottom."""
    is_left, is_bottom = x < 0.5, error <= 0
    offset = ((30, 8) if is_left else (-10, 8)) if is_bottom else (10, -8)
    axes.annotate(
        f"accept: {100 * x:.1f} % of the images,\n{100 * error:.2f} % errors "
        f"(val said {100 * (1 - stated_accuracy):.2f} %)",
        (x, error),
        xytext=offset,
        textcoords="offset points",
        ha="left" if is_left else "right",
        va="bottom" if is_bottom else "top",
        fontsize=9,
        color=style.TRAIN_COLOUR,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 1.5},  # over the curve
    )


def _zero_and_log(axes: "Axes", risk: Sequence[float]) -> None:
    """0 % at the bottom, then a log axis from the smallest share of errors that occurs."""
    from matplotlib.ticker import NullLocator

    least = min((value for value in risk if value > 0), default=0.01)
    highest = min(1.0, 1.9 * max(*risk, 2 * least))
    axes.set_yscale("symlog", linthresh=least, linscale=0.6)
    axes.set_ylim(0, highest)
    digits = [digit * 10.0**-power for power in range(1, 8) for digit in (1, 2, 5)]
    ticks = [0.0, *sorted(tick for tick in digits if least <= tick <= highest)]
    labels = [f"{100 * tick:.4f}".rstrip("0").rstrip(".") + " %" for tick in ticks]
    axes.set_yticks(ticks, labels)
    axes.yaxis.set_minor_locator(NullLocator())
