"""Calibration error, risk and coverage, held to loops and to known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kkanji_jax.evaluation import reliability as rel


def drawn(rng: np.random.Generator, n: int, shift: float = 0.0):
    """Confidences, rounded so that some are equal, right as often as they say less `shift`."""
    confidences = rng.uniform(0.5, 1, n).round(2)
    return confidences, rng.random(n) < confidences - shift


def test_calibrated_confidence_has_hardly_an_error_and_a_shift_is_the_error(rng):
    assert rel.reliability(*drawn(rng, 20_000), num_bootstrap=20)["ece"]["value"] < 0.02
    shifted = rel.reliability(*drawn(rng, 20_000, 0.2), num_bootstrap=20)
    assert shifted["ece"]["value"] == pytest.approx(0.2, abs=0.02)
    low, high = shifted["ece"]["ci95"]
    assert low < shifted["ece"]["value"] < high


def test_the_error_follows_from_the_bins_that_are_drawn(rng: np.random.Generator):
    found = rel.reliability(*drawn(rng, 1000, 0.1), num_bootstrap=5)
    rows = found["bins"]
    assert len(rows) == rel.NUM_BINS and sum(row["n"] for row in rows) == 1000
    assert all(50 <= row["n"] <= 84 for row in rows)  # equal mass, but for equal confidences
    error = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / 1000
    assert found["ece"]["value"] == pytest.approx(error)


def test_the_interval_of_a_small_error_holds_it():
    # Of few examples, whose resamples all have a larger error than they have.
    for seed in range(5):
        found = rel.reliability(*drawn(np.random.default_rng(seed), 200))["ece"]
        low, high = found["ci95"]
        assert 0 <= low <= found["value"] <= high


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_no_order_of_the_examples_changes_a_thing(seed: int, n: int):
    rng = np.random.default_rng(seed)
    confidences, hits = drawn(rng, n)
    order = rng.permutation(n)
    first = rel.reliability(confidences, hits, num_bootstrap=1)
    second = rel.reliability(confidences[order], hits[order], num_bootstrap=1)
    assert first["ece"]["value"] == pytest.approx(second["ece"]["value"])
    for one, other in zip(
        rel.risks(confidences, hits), rel.risks(confidences[order], hits[order]), strict=True
    ):
        np.testing.assert_allclose(one, other)


def test_risk_is_the_share_of_errors_among_the_surest(rng: np.random.Generator):
    confidences = rng.permutation(np.linspace(0.1, 0.9, 50))  # no two equal
    hits = rng.random(50) < confidences
    coverage, risk = rel.risks(confidences, hits)
    order = sorted(range(50), key=lambda i: -confidences[i])
    for m in range(1, 51):
        assert coverage[m - 1] == pytest.approx(m / 50)
        assert risk[m - 1] == pytest.approx(np.mean([not hits[i] for i in order[:m]]))
    assert rel.area_under_risk(confidences, hits) == pytest.approx(np.mean(risk))


def test_equal_confidences_share_their_errors():
    hits = np.array([True, False, True, True])
    _, risk = rel.risks(np.full(4, 0.7), hits)
    np.testing.assert_allclose(risk, 0.25)


def test_counting_an_example_twice_is_having_it_twice(rng: np.random.Generator):
    confidences, hits = drawn(rng, 40)
    times = rng.integers(0, 3, 40)
    doubled = rel.area_under_risk(np.repeat(confidences, times), np.repeat(hits, times))
    weighted = rel.area_under_risk(confidences, hits, times.astype(float))
    # A doubled example is one step of the curve in one reckoning and two in the other.
    assert weighted == pytest.approx(doubled, abs=0.02)


def test_risk_coverage_tells_how_much_can_be_answered():
    confidences = np.linspace(1, 0, 100)
    hits = np.arange(100) < 90  # the ten least sure are wrong
    found = rel.risk_coverage(confidences, hits, num_bootstrap=20)
    at = {row["accuracy"]: row["coverage"] for row in found["coverage_at"]}
    assert at[0.95] == 0.94 and at[0.99] == 0.90 and at[0.98] == 0.91
    assert found["curve"][-1] == [1.0, pytest.approx(0.1)] and len(found["curve"]) == 100
    none = rel.risk_coverage(confidences, np.zeros(100, bool), num_bootstrap=5)
    assert {row["coverage"] for row in none["coverage_at"]} == {0.0}
    assert none["aurc"]["value"] == 1.0
    # Nothing wrong in 100 is no proof of it: Wilson's bound for 0 of 100.
    every = rel.risk_coverage(confidences, np.ones(100, bool), num_bootstrap=5)["aurc"]
    assert every["value"] == 0.0 and every["ci95"] == pytest.approx([0.0, 0.037], abs=1e-4)
