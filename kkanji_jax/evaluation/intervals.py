"""Scores as a value with its n and a 95 % interval."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binomtest

LEVEL = 0.95
NUM_BOOTSTRAP = 1000
METHOD = (
    "Wilson's score interval for shares; percentile bootstrap over examples for the rest, "
    "recentred for means over classes and for calibration errors"
)
_TAIL = (1 - LEVEL) / 2

Interval = list[float] | None


def percentile_interval(samples: Sequence[float] | Float[np.ndarray, " s"]) -> Interval:
    """The middle 95 % of resampled values; None if none is finite."""
    values = np.asarray(samples, np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = np.quantile(finite, [_TAIL, 1 - _TAIL])
    return [float(low), float(high)]


def recentred(
    samples: Sequence[float] | Float[np.ndarray, " s"], value: float
) -> Float[np.ndarray, " s"]:
    """Resampled values, shifted so that their own mean is `value`; within [0, 1].

    For scores that resampling biases. A mean over classes rises, because a resample loses classes
    with few examples, which are the hard ones. A calibration error rises too, because the resample
    adds noise of its own. Without the shift, the interval need not contain `value`.
    """
    values = np.asarray(samples, np.float64)
    finite = values[np.isfinite(values)]
    return np.clip(finite - finite.mean() + value, 0.0, 1.0) if finite.size else finite


def mean_interval(
    samples: Sequence[float] | Float[np.ndarray, " s"], value: float, n: int
) -> Interval:
    """The interval of a mean of shares, from its resampled values and n examples.

    Resampling cannot vary a mean of 0 or 1; it gets the interval of 0 or n right of n.
    """
    if value in (0.0, 1.0):
        return share_interval(n if value else 0, n)
    return percentile_interval(recentred(samples, value))


def share_interval(right: int, n: int) -> list[float]:
    """Wilson's score interval of `right` of n examples, n at least 1.

    Unlike the bootstrap's it grows with `right` throughout, up to n of n (Brown, Cai and DasGupta
    2001, "Interval estimation for a binomial proportion").
    """
    found = binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return [float(found.low), float(found.high)]


def share(right: int, n: int) -> dict[str, Any]:
    """{value, n, ci95} of `right` of n examples; value and ci95 are None if n is 0."""
    if not n:
        return {"value": None, "n": 0, "ci95": None}
    return {"value": right / n, "n": n, "ci95": share_interval(right, n)}


def bootstrap(
    score: Callable[[Int[np.ndarray, " n"]], dict[str, float]],
    n: int,
    rng: np.random.Generator,
    num_bootstrap: int = NUM_BOOTSTRAP,
) -> dict[str, Float[np.ndarray, " s"]]:
    """Each value of `score` under resampling; `score` is called with the count of each example.

    One resample at a time: memory stays O(n).
    """
    resampled = [
        score(np.bincount(rng.integers(0, n, n), minlength=n)) for _ in range(num_bootstrap)
    ]
    names = score(np.ones(n, np.int64))
    return {name: np.array([sample[name] for sample in resampled]) for name in names}
