"""Accuracy against stated probability, before and after calibration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kkanji_jax.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(content: dict[str, Any], subtitle: str) -> "Figure":
    """Accuracy over confidence, bin by bin, from the `reliability` of an eval.json.

    Both axes show log distances from 1, because most answers have more than 90 %.
    """
    parts = [("before calibration", content["reliability"]["before"], content["ece"])]
    if content["reliability"]["after"]:
        temperature = content["calibration"]["temperature"]
        parts.append(
            (
                f"after, temperature {temperature:.3f}",
                content["reliability"]["after"],
                content["ece_calibrated"],
            )
        )
    figure, (first,) = style.new_figure(
        "Reliability",
        f"{subtitle}\n{len(parts[0][1])} bins, each of equally many images, by top-1 probability; "
        "bars are 95 % intervals",
        width=4.9 * len(parts) + 0.4,
        height=5.6,
    )
    columns: Sequence[Axes] = [first]
    if len(parts) > 1:
        first.remove()
        columns = figure.subplots(1, len(parts), squeeze=False)[0]
    least = _smallest_error([row for _, rows, _ in parts for row in rows])
    for axes, (name, rows, ece) in zip(columns, parts, strict=True):
        _draw_bins(axes, rows, least)
        low, high = ece["ci95"]
        axes.set_title(
            f"{name}\nECE {100 * ece['value']:.2f} % ({100 * low:.2f}–{100 * high:.2f})",
            fontsize=10,
            loc="left",
        )
        axes.set_xlabel("top-1 probability (log distance from 100 %)")
    columns[0].set_ylabel("share that is right (log distance from 100 %)")
    return figure


def _smallest_error(rows: Sequence[dict[str, Any]]) -> float:
    errors = [1 - row[key] for row in rows for key in ("confidence", "accuracy")]
    return max(min((error for error in errors if error > 0), default=1e-3) * 0.6, 1e-5)


def _draw_bins(axes: "Axes", rows: Sequence[dict[str, Any]], least: float) -> None:
    style.log_distance(axes, least, 1.0)
    # Of 0 % and 50 % only one fits, side by side, where the axis reaches far.
    low = (0.0, 0.5) if least > 2e-4 else (0.0,)
    # The label 100 % at the end needs a seventh of the axis for itself.
    inner = [share for share in (*low, 0.9, 0.99, 0.999, 0.9999) if 1 - share > least ** (6 / 7)]
    labels = [*(f"{100 * share:g} %" for share in inner), "100 %"]
    axes.set_xticks([*inner, 1 - least], labels)
    axes.plot([0, 1 - least], [0, 1 - least], color=style.FAINT, linewidth=1, linestyle="--")
    x = [row["confidence"] for row in rows]
    y = [row["accuracy"] for row in rows]
    below = [max(0.0, row["accuracy"] - row["ci95"][0]) for row in rows]
    above = [max(0.0, row["ci95"][1] - row["accuracy"]) for row in rows]
    axes.errorbar(
        x,
        y,
        yerr=[below, above],
        fmt="o-",
        color=style.VAL_COLOUR,
        markersize=5,
        linewidth=1.2,
        elinewidth=1.2,
        capsize=3,
        clip_on=False,
    )
    axes.text(
        0.97,
        0.05,
        "below the line: too sure",
        transform=axes.transAxes,
        ha="right",
        fontsize=8,
        color=style.FAINT,
    )
    axes.text(
        0.03,
        0.95,
        "above: too modest",
        transform=axes.transAxes,
        va="top",
        fontsize=8,
        color=style.FAINT,
    )
