"""How many errors remain when the unsure are left to a reader."""

from typing import TYPE_CHECKING, Any

from kkanji_jax.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(content: dict[str, Any], subtitle: str) -> "Figure":
    """Share of errors over share answered, surest first, from an eval.json; verdicts as points."""
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
    coverage = [row[0] for row in found["curve"]]
    risk = [row[1] for row in found["curve"]]
    least = 0.5 / content["num_examples"]  # half an error: where none has been made yet
    drawn = [max(value, least) for value in risk]
    axes.plot(coverage, drawn, color=style.VAL_COLOUR)
    style.log_ticks(axes)
    low, high = 0.6 * min(drawn), min(1.0, 1.9 * max(*drawn, 2 * least))
    axes.set_ylim(low, high)
    _percent_ticks(axes, low, high)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("share of the images that is answered")
    axes.set_ylabel("errors among the answered")
    axes.annotate(f"all: {100 * risk[-1]:.1f} %", (1, risk[-1]), xytext=(-8, 8),
                  textcoords="offset points", ha="right", fontsize=9)  # fmt: skip
    for row in content["verdicts"] or ():
        if row["verdict"] == "accept" and row["accuracy"]["value"] is not None:
            x, error = row["coverage"]["value"], 1 - row["accuracy"]["value"]
            axes.plot([x], [max(error, least)], "o", color=style.TRAIN_COLOUR, markersize=8)
            axes.annotate(
                f"accept: {100 * x:.1f} % of the images,\n{100 * error:.2f} % errors "
                f"(val said {100 * (1 - row['stated_accuracy']):.2f} %)",
                (x, max(error, least)), xytext=(-14, 10), textcoords="offset points",
                ha="right", fontsize=9, color=style.TRAIN_COLOUR,
            )  # fmt: skip
    return figure


def _percent_ticks(axes, low: float, high: float) -> None:  # noqa: ANN001
    ticks = [digit * 10.0**-power for power in range(1, 8) for digit in (1, 2, 5)]
    shown = sorted(tick for tick in ticks if low <= tick <= high)
    axes.set_yticks(shown, [f"{100 * tick:.4f}".rstrip("0").rstrip(".") + " %" for tick in shown])
