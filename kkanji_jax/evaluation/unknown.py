"""How well a model's scores tell the characters in its index from others."""

from typing import Any

import numpy as np
from jaxtyping import Float

from kkanji_jax.evaluation import intervals

KEPT = 0.95  # of the known, at the threshold where the unknown are counted

Scores = Float[np.ndarray, " n"]


def auroc(known: Scores, unknown: Float[np.ndarray, " m"]) -> float:
    """The chance that a known example scores higher than an unknown one; a tie counts half."""
    order, ranks = np.unique(np.concatenate([known, unknown]), return_inverse=True)
    of_known = np.bincount(ranks[: len(known)], minlength=len(order))
    of_unknown = np.bincount(ranks[len(known) :], minlength=len(order))
    below = np.cumsum(of_unknown) - of_unknown
    wins = (of_known * (below + 0.5 * of_unknown)).sum()
    return float(wins / (len(known) * len(unknown)))


def false_positive_rate(known: Scores, unknown: Float[np.ndarray, " m"]) -> float:
    """The share of unknown examples above the threshold that 95 % of the known ones pass."""
    threshold = np.sort(known)[::-1][int(np.ceil(KEPT * len(known))) - 1]
    return float((unknown >= threshold).mean())


def detection(
    known: Scores,
    unknown: Float[np.ndarray, " m"],
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """{auroc, fpr95}, each {value, n_known, n_unknown, ci95}; both groups resampled apart."""
    if not len(known) or not len(unknown):
        raise ValueError(
            f"expected known and unknown examples, got {len(known)} and {len(unknown)}"
        )
    rng = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {"auroc": [], "fpr95": []}
    for _ in range(num_bootstrap):
        drawn_known = known[rng.integers(0, len(known), len(known))]
        drawn_unknown = unknown[rng.integers(0, len(unknown), len(unknown))]
        samples["auroc"].append(auroc(drawn_known, drawn_unknown))
        samples["fpr95"].append(false_positive_rate(drawn_known, drawn_unknown))
    values = {"auroc": auroc(known, unknown), "fpr95": false_positive_rate(known, unknown)}
    return {
        name: {
            "value": value,
            "n_known": len(known),
            "n_unknown": len(unknown),
            "ci95": intervals.percentile_interval(samples[name]),
        }
        for name, value in values.items()
    }
