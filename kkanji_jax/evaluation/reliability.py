"""How well probabilities are calibrated, and how accuracy rises as coverage falls."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from kkanji_jax.evaluation import intervals

NUM_BINS = 15
BINNING = "equal mass, by top-1 probability"
COVERAGES = tuple(step / 100 for step in range(1, 101))
ACCURACIES = (0.95, 0.98, 0.99, 0.995)

Confidences = Float[np.ndarray, " n"]
Hits = Bool[np.ndarray, " n"]


def bins_of(confidences: Confidences) -> Int[np.ndarray, " n"]:
    """The bin of each example: NUM_BINS bins of equal size, in order of confidence.

    Equal confidences share one bin, the one of the middle of them, so the order of the examples
    does not matter.
    """
    _, groups, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts + (counts - 1) // 2
    return (middle * NUM_BINS // len(confidences))[groups]


def calibration_error(
    confidences: Confidences,
    hits: Hits,
    bins: Int[np.ndarray, " n"],
    times: Float[np.ndarray, " n"],
) -> float:
    """Expected calibration error: the sum over bins of |gap|; example i counts times[i] times."""
    gaps = np.bincount(bins, times * (confidences - hits), minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / times.sum())


def reliability(
    confidences: Confidences,
    hits: Hits,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """{ece: {value, n, ci95, bins, binning}, bins: [{n, confidence, accuracy, ci95}]}."""
    confidences, n = confidences.astype(np.float64), len(confidences)
    bins = bins_of(confidences)
    samples = intervals.bootstrap(
        lambda times: {"ece": calibration_error(confidences, hits, bins, times.astype(float))},
        n,
        np.random.default_rng(seed),
        num_bootstrap,
    )
    rows = []
    for number in np.unique(bins):
        inside = bins == number
        right = intervals.share(int(hits[inside].sum()), int(inside.sum()))
        rows.append(
            {
                "n": right["n"],
                "confidence": float(confidences[inside].mean()),
                "accuracy": right["value"],
                "ci95": right["ci95"],
            }
        )
    value = calibration_error(confidences, hits, bins, np.ones(n))
    ece = {
        "value": value,
        "n": n,
        "ci95": intervals.percentile_interval(intervals.recentred(samples["ece"], value)),
        "bins": NUM_BINS,
        "binning": BINNING,
    }
    return {"ece": ece, "bins": rows}


def risks(
    confidences: Confidences, hits: Hits, times: Float[np.ndarray, " n"] | None = None
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """(coverage, share of errors among the covered), from the most certain example to all.

    Equal confidences share their errors evenly, so the order of the examples does not matter. With
    `times`, example i counts that often; examples with count 0 are left out.
    """
    order = np.argsort(-confidences, kind="stable")
    weights = np.ones(len(order)) if times is None else np.asarray(times, np.float64)[order]
    sorted_confidences = confidences[order]
    starts = np.append(True, sorted_confidences[1:] != sorted_confidences[:-1])
    group = np.cumsum(starts) - 1
    wrong = np.bincount(group, weights * ~hits[order])
    total = np.bincount(group, weights)
    mean_wrong = np.divide(wrong, total, out=np.zeros_like(wrong), where=total > 0)
    errors = np.cumsum(weights * mean_wrong[group])
    covered = np.cumsum(weights)
    is_counted = weights > 0
    return covered[is_counted] / covered[-1], errors[is_counted] / covered[is_counted]


def area_under_risk(
    confidences: Confidences, hits: Hits, times: Float[np.ndarray, " n"] | None = None
) -> float:
    """AURC: the share of errors among the covered, averaged over every coverage; 0 is best."""
    coverage, risk = risks(confidences, hits, times)
    steps = np.diff(coverage, prepend=0.0)
    return float((risk * steps).sum())


def risk_coverage(
    confidences: Confidences,
    hits: Hits,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """{aurc: {value, n, ci95}, curve: [[coverage, risk]], coverage_at: [{accuracy, coverage}]}.

    `coverage_at` is the largest share of the split that can be answered, most certain first, such
    that `accuracy` of the answers are right. The threshold is chosen on this same split, so it is a
    little better than with a threshold from val.
    """
    confidences, n = confidences.astype(np.float64), len(confidences)
    order = np.argsort(-confidences, kind="stable")  # sorted once: resampling only changes weights
    confidences, hits = confidences[order], hits[order]
    samples = intervals.bootstrap(
        lambda times: {"aurc": area_under_risk(confidences, hits, times.astype(float))},
        n,
        np.random.default_rng(seed),
        num_bootstrap,
    )
    coverage, risk = risks(confidences, hits)
    area = area_under_risk(confidences, hits)
    rows = np.unique(np.maximum(np.ceil(np.array(COVERAGES) * n - 1e-9).astype(int), 1)) - 1
    kept = [coverage[1 - risk >= accuracy] for accuracy in ACCURACIES]
    return {
        "aurc": {
            "value": area,
            "n": n,
            # Resampling cannot vary an area without an error.
            "ci95": intervals.percentile_interval(samples["aurc"])
            if area
            else intervals.share_interval(0, n),
        },
        "curve": [[float(coverage[row]), float(risk[row])] for row in rows],
        "coverage_at": [
            {"accuracy": accuracy, "coverage": float(reached.max(initial=0.0)), "n": n}
            for accuracy, reached in zip(ACCURACIES, kept, strict=True)
        ],
    }
