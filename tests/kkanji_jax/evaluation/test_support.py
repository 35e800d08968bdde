"""The support of a reading is what all its features say, and is fitted as it says."""

import numpy as np
import pytest

from kkanji_jax.evaluation import support as support_lib
from kkanji_jax.evaluation.support import Support


def test_the_evidence_of_a_class_adds_up_to_its_logit(rng: np.random.Generator):
    features, kernel = rng.normal(size=(5, 7)), rng.normal(size=(7, 3))
    best = np.array([2, 0, 1, 1, 2])
    parts = support_lib.evidence(features, best, kernel)
    logits = features @ kernel
    np.testing.assert_allclose(parts.sum(axis=1), logits[np.arange(5), best], rtol=1e-5)
    assert parts[3, 4] == pytest.approx(features[3, 4] * kernel[4, 1], rel=1e-6)


def test_support_is_the_sum_of_weighted_evidence_however_many_rows(rng: np.random.Generator):
    n = support_lib._ROWS + 3
    features, kernel = rng.normal(size=(n, 4)), rng.normal(size=(4, 3))
    best = rng.integers(0, 3, n)
    support = Support(rng.normal(size=4).astype(np.float32), 0.5)
    for row in (0, n - 1):
        terms = [features[row, i] * kernel[i, best[row]] * support.weights[i] for i in range(4)]
        found = support.of(features, best, kernel)[row]
        assert found == pytest.approx(sum(terms) + 0.5, rel=1e-5)


def test_no_weights_nearby_have_a_smaller_penalised_loss(rng: np.random.Generator):
    examples = rng.normal(size=(400, 3)) * (1, 2, 0.5)
    is_positive = rng.random(400) < 1 / (1 + np.exp(1 - examples @ (2.0, -1.0, 0.0)))
    importance = rng.uniform(0.5, 2, 400)
    best = support_lib.logistic(examples, is_positive, importance, 0.01)

    def loss(weights: np.ndarray) -> float:
        total = 0.0
        for row, positive, share in zip(examples, is_positive, importance, strict=True):
            odds = weights[0] + row @ weights[1:]
            total += share * np.log1p(np.exp(-odds if positive else odds))
        return total + 0.01 * importance.sum() * (weights[1:] ** 2).sum() / 2

    for place in range(4):
        for change in (-0.01, 0.01):
            assert loss(best) < loss(best + change * np.eye(4)[place])


def test_examples_that_a_line_parts_give_finite_weights():
    examples = np.arange(-10.0, 11)[:, None]
    found = support_lib.logistic(examples, examples[:, 0] > 0, np.ones(21), 0.1)
    assert np.isfinite(found).all() and found[1] > 0


def test_a_support_tells_evidence_of_all_features_from_that_of_few(rng: np.random.Generator):
    whole = rng.normal(1, 0.3, (600, 20)).astype(np.float32)
    odd = np.zeros((400, 20), np.float32)
    odd[:, :5] = rng.normal(5, 0.6, (400, 5))  # as much in all
    support = support_lib.fit_support(whole[:300], odd[:200], np.ones(300))
    scores = [part @ support.weights + support.bias for part in (whole[300:], odd[200:])]
    assert (scores[0] > 0).mean() > 0.99 and (scores[1] < 0).mean() > 0.99


def test_a_feature_that_says_nothing_weighs_nothing(rng: np.random.Generator):
    whole, odd = (rng.normal(m, 1, (100, 3)).astype(np.float32) for m in (1, 0))
    whole[:, 1] = odd[:, 1] = 4
    support = support_lib.fit_support(whole, odd, np.ones(100))
    assert support.weights[1] == 0 and (support.weights[[0, 2]] > 0).all()


def test_both_sides_weigh_alike_and_examples_as_they_are_told(rng: np.random.Generator):
    whole, odd = (rng.normal(m, 1, (200, 2)).astype(np.float32) for m in (1, 0))
    once = support_lib.fit_support(whole, odd, np.ones(200))
    again = support_lib.fit_support(whole, odd, np.full(200, 7.0))
    np.testing.assert_allclose(once.weights, again.weights, rtol=1e-4)
    importance = np.where(np.arange(200) < 100, 3.0, 1.0)
    twice = support_lib.fit_support(whole, odd, importance)
    other = support_lib.fit_support(whole, odd, importance[::-1])
    assert np.abs(twice.weights - other.weights).max() > 0.01


def test_weights_survive_their_json(rng: np.random.Generator):
    support = Support(rng.normal(size=50).astype(np.float32), -0.25)
    told = support.to_json()
    np.testing.assert_array_equal(np.array(told["weights"], np.float32), support.weights)
    assert told["bias"] == -0.25
