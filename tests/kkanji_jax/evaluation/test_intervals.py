"""An interval holds its value, whatever the shape of the classes."""

import numpy as np
import pytest

from kkanji_jax.evaluation import intervals
from kkanji_jax.evaluation.groups import macro_recall


def test_the_mean_over_many_rare_and_hard_classes_lies_in_its_interval(
    rng: np.random.Generator,
) -> None:
    sizes = [1] * 150 + [2] * 60 + [200] * 20
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    chance = np.repeat([0.3] * 150 + [0.4] * 60 + [0.9] * 20, sizes)
    hits = rng.random(len(labels)) < chance
    score = macro_recall(labels, hits, len(sizes), np.random.default_rng(1), 300)
    low, high = score["ci95"]
    assert low < score["value"] < high < 0.6
    assert 0.02 < high - low < 0.2


def test_recentring_keeps_the_spread_and_stays_a_share() -> None:
    samples = np.array([0.4, 0.5, 0.6])
    np.testing.assert_allclose(intervals.recentred(samples, 0.3), [0.2, 0.3, 0.4])
    assert intervals.recentred(samples, 0.98).max() == 1.0


def test_a_better_share_never_has_a_worse_interval() -> None:
    for n in (1, 5, 20, 300):
        bounds = [intervals.share_interval(right, n) for right in range(n + 1)]
        for (low, high), (next_low, next_high) in zip(bounds, bounds[1:], strict=False):
            assert low < next_low and high < next_high
        for right, (low, high) in enumerate(bounds):
            assert 0 <= low <= right / n <= high <= 1
        assert bounds[0][0] == 0 and bounds[-1][1] == 1


def test_intervals_of_shares_are_wilsons() -> None:
    # Wilson 1927, by hand: (p + z2/2n -+ z sqrt(pq/n + z2/4n2)) / (1 + z2/n), z = 1.959964.
    assert intervals.share_interval(19, 20) == pytest.approx([0.76387, 0.99112], abs=1e-5)
    assert intervals.share_interval(20, 20) == pytest.approx([0.83887, 1.0], abs=1e-5)


def test_a_mean_that_no_resample_can_vary_is_no_certainty() -> None:
    ones = np.ones(100)
    assert intervals.mean_interval(ones, 1.0, 12) == intervals.share_interval(12, 12)
    assert intervals.mean_interval(ones * 0, 0.0, 12) == intervals.share_interval(0, 12)


def test_of_nothing_there_is_no_share() -> None:
    assert intervals.share(0, 0) == {"value": None, "n": 0, "ci95": None}
