"""An interval holds its value, whatever the shape of the classes."""

import numpy as np

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
