"""AUROC and FPR95 as scikit-learn and a loop reckon them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.evaluation.unknown import auroc, detection, false_positive_rate

SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=30).map(np.array)


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(known: np.ndarray, unknown: np.ndarray):
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in known for b in unknown]
    assert auroc(known, unknown) == pytest.approx(np.mean(pairs))
    assert auroc(unknown, known) == pytest.approx(1 - np.mean(pairs))


@given(SCORES, SCORES)
def test_fpr95_is_of_the_highest_threshold_that_keeps_95_in_100(known, unknown):
    kept = [t for t in np.unique(known) if (known >= t).mean() >= 0.95]
    assert false_positive_rate(known, unknown) == (unknown >= max(kept)).mean()


def test_both_agree_with_scikit_learn(rng: np.random.Generator):
    sk = pytest.importorskip("sklearn.metrics", reason="the reference implementation")
    known, unknown = rng.normal(1.5, 1, 500).round(1), rng.normal(0, 1, 300).round(1)
    truth = np.repeat([1, 0], [500, 300])
    scores = np.concatenate([known, unknown])
    assert auroc(known, unknown) == pytest.approx(sk.roc_auc_score(truth, scores))
    false_rate, true_rate, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    assert false_positive_rate(known, unknown) == pytest.approx(
        false_rate[np.argmax(true_rate >= 0.95)]
    )


def test_the_interval_holds_the_value_and_narrows_with_n(rng: np.random.Generator):
    widths = []
    for n in (50, 800):
        scores = detection(rng.normal(1, 1, n), rng.normal(0, 1, n), num_bootstrap=200)
        low, high = scores["auroc"]["ci95"]
        assert low < scores["auroc"]["value"] < high
        assert (scores["auroc"]["n_known"], scores["fpr95"]["n_unknown"]) == (n, n)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2  # a quarter is expected


def test_nothing_to_tell_apart_is_refused():
    with pytest.raises(ValueError, match="got 3 and 0"):
        detection(np.ones(3), np.ones(0))
