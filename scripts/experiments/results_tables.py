"""Tables of docs/RESULTS.md, and how a number stands in them."""

from collections.abc import Sequence
from typing import Any


def as_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_score(score: dict[str, Any] | None) -> str:
    if score is None or score["value"] is None:
        return "–"
    low, high = score["ci95"] or (None, None)
    reach = "" if low is None or high is None else f" ({100 * low:.1f}–{100 * high:.1f})"
    return f"{as_percent(score['value'])}{reach}"


def as_number(score: dict[str, Any]) -> str:
    return f"{score['value']:.3f} ({score['ci95'][0]:.3f}–{score['ci95'][1]:.3f})"


def as_percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def as_span(row: dict[str, Any]) -> str:
    if row["max"] is None:
        return f"{row['min']} and more"
    return str(row["min"]) if row["min"] == row["max"] else f"{row['min']}–{row['max']}"
