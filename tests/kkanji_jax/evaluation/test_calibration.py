"""A calibration keeps its word on examples it has not seen, and refuses what is none."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kkanji_jax.evaluation import calibration as calibrate
from kkanji_jax.evaluation import calibration_fit
from kkanji_jax.evaluation.calibration import (
    ACCEPT,
    ASK,
    CALIBRATED_VERDICTS,
    UNKNOWN,
    Calibration,
)
from kkanji_jax.evaluation.calibration_fit import Aims, Evidence
from kkanji_jax.evaluation.support import Copies, Outputs


def sampled(rng: np.random.Generator, n: int, k: int = 12, spread: float = 6.0, scale: float = 1.0):
    """Float32 logits whose softmax at temperature `scale` is the truth, and labels of it."""
    truth = rng.gumbel(0, 1, (n, k)) * rng.uniform(0.3, 1, (n, 1)) * spread
    labels = (truth + rng.gumbel(0, 1, (n, k))).argmax(axis=1)
    return (truth * scale).astype(np.float32), labels


def fitted(rng: np.random.Generator, n: int = 4000, **more) -> Calibration:
    logits, labels = sampled(rng, n)
    return calibration_fit.fit(logits, labels, weights="ema", fitted_on={"split": "val"}, **more)


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_the_temperature_of_the_truth_is_found(scale: float, rng: np.random.Generator):
    logits, labels = sampled(rng, 20_000, scale=scale)
    assert calibration_fit.fit_temperature(logits, labels) == pytest.approx(scale, rel=0.03)


def test_no_temperature_nearby_has_a_smaller_loss(rng: np.random.Generator):
    logits, labels = sampled(rng, 700, scale=1.7)
    best = calibration_fit.fit_temperature(logits, labels)
    losses = [calibrate.mean_loss(logits, labels, best * factor) for factor in (0.97, 1, 1.03)]
    assert losses[1] == min(losses)
    probabilities = calibrate.softmax(logits, best)
    loop = [-np.log(row[label]) for row, label in zip(probabilities, labels, strict=True)]
    assert losses[1] == pytest.approx(np.mean(loop))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(-50, 50))
def test_a_shift_of_a_row_changes_nothing_that_is_said(seed: int, shift: float):
    logits, labels = sampled(np.random.default_rng(seed), 60)
    moved = logits.astype(np.float64) + shift
    same = logits.astype(np.float64)
    assert calibration_fit.fit_temperature(moved, labels) == pytest.approx(
        calibration_fit.fit_temperature(same, labels), rel=1e-6
    )
    for function in (calibrate.top_probability, calibrate.standardised_logit):
        np.testing.assert_allclose(function(moved), function(same), rtol=1e-9)


def test_a_val_read_without_an_error_ends_at_the_bound_and_is_finite():
    labels = np.arange(40) % 4
    logits = (10 * np.eye(4)[labels]).astype(np.float32)
    assert calibration_fit.fit_temperature(logits, labels) == pytest.approx(0.2, rel=1e-6)
    wrong = calibration_fit.fit_temperature(logits, (labels + 1) % 4)
    assert wrong == pytest.approx(20, rel=1e-6)
    assert np.isfinite(calibrate.softmax(logits, 0.2)).all()


def test_stated_accuracy_holds_on_examples_that_were_not_fitted_on():
    gaps = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        calibration = fitted(rng)
        logits, labels = sampled(rng, 20_000)
        given_verdicts = np.array(calibration.verdicts(logits))
        accepted = given_verdicts == ACCEPT
        accuracy = (logits.argmax(axis=1) == labels)[accepted].mean()
        gaps.append(accuracy - calibration.stated[ACCEPT]["accuracy"])
        coverage = calibration.stated[ACCEPT]["coverage"]
        assert abs(accepted.mean() - coverage) < 0.04 and coverage > 0.2
        assert (given_verdicts == UNKNOWN).mean() == pytest.approx(0.03, abs=0.01)
    assert max(map(abs, gaps)) < 0.01  # within a point


def test_verdicts_are_what_was_stated_on_the_examples_fitted_on(rng: np.random.Generator):
    logits, labels = sampled(rng, 900)
    calibration = calibration_fit.fit(logits, labels, weights="raw", fitted_on={})
    verdicts = np.array(calibration.verdicts(logits))
    right = logits.argmax(axis=1) == labels
    for name in CALIBRATED_VERDICTS:
        stated, inside = calibration.stated[name], verdicts == name
        assert stated["n"] == inside.sum() and stated["coverage"] == pytest.approx(inside.mean())
        assert calibration.accuracy_of(name) == pytest.approx(right[inside].mean())
    assert (calibration.accuracy_of(ACCEPT) or 0.0) >= 0.99
    assert sum(calibration.stated[name]["n"] for name in CALIBRATED_VERDICTS) == 900
    assert calibration.fitted_on == {"num_examples": 900} and calibration.weights == "raw"
    with pytest.raises(ValueError, match="accept, ask, unknown"):
        calibration.accuracy_of("blank")


def test_no_lower_threshold_would_keep_the_accuracy():
    confidences = np.array([0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5])
    right = np.array([True, True, True, False, True, True, False])
    assert calibration_fit.accept_threshold(confidences, right, 0.75) == 0.6  # 5 of 6; then 5 of 7
    assert calibration_fit.accept_threshold(confidences, right, 0.9) == 0.8
    assert calibration_fit.accept_threshold(confidences, ~right, 0.9) is None
    # Half of the equals at 0.9 are wrong: they are not accepted by their order.
    equals = np.array([True, False, True, True])
    assert calibration_fit.accept_threshold(np.full(4, 0.9), equals, 1.0) is None


def test_a_small_part_is_accepted_only_where_it_is_right_often_enough():
    confidences = np.array([0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5])
    right = np.array([True, True, True, True, True, False, True])
    small = np.array([False, False, False, True, False, True, False])
    assert calibration_fit.accept_threshold(confidences, right, 0.75) == 0.5
    assert calibration_fit.accept_threshold(confidences, right, 0.75, [(small, 0.5)]) == 0.5
    assert calibration_fit.accept_threshold(confidences, right, 0.75, [(small, 0.6)]) == 0.7
    assert calibration_fit.accept_threshold(confidences, right, 0.75, [(~right, 0.5)]) == 0.7
    assert calibration_fit.accept_threshold(confidences, right, 1.0, [(small, 0.0)]) == 0.7


def test_a_large_group_does_not_pay_for_a_small_one(rng: np.random.Generator):
    logits, labels = sampled(rng, 4000)
    groups = np.array(["published"] * 3800 + ["photographed"] * 190 + ["few"] * 10)
    # One photograph in ten is not what it surely looks like.
    labels[3800:3990:10] = logits[3800:3990:10].argmin(axis=1)
    alone = calibration_fit.fit(logits, labels, weights="ema", fitted_on={})
    together = calibration_fit.fit(
        logits, labels, weights="ema", fitted_on={}, groups=groups.tolist()
    )
    assert together.fitted_on["num_examples_by_group"] == {
        "few": 10,
        "photographed": 190,
        "published": 3800,
    }
    accept, lower = (c.stated[ACCEPT]["threshold"] for c in (together, alone))
    assert accept is None or accept > lower
    confidences = calibrate.top_probability(logits, together.temperature)
    right = logits.argmax(axis=1) == labels
    least = calibration_fit.GROUP_ACCEPT_ACCURACY
    for name in ("photographed", "published"):
        inside = (groups == name) & (confidences >= (np.inf if accept is None else accept))
        assert not inside.any() or right[inside].mean() >= least
    inside = (groups == "photographed") & (confidences >= lower)
    assert inside.any() and right[inside].mean() < least  # what the old threshold would accept


def test_an_accuracy_that_is_just_reached_is_reached():
    confidences = np.array([0.9, 0.8, 0.7, 0.6])
    right = np.array([True, False, True, True])
    assert calibration_fit.accept_threshold(confidences, right, 0.75) == 0.6  # 3 of 4
    assert calibration_fit.accept_threshold(confidences, right, 0.7501) == 0.9


def test_a_confidence_at_a_threshold_is_above_it(rng: np.random.Generator):
    calibration = fitted(rng)
    stated = {
        ACCEPT: calibration.stated[ACCEPT] | {"threshold": 0.75},
        ASK: calibration.stated[ASK],
        UNKNOWN: calibration.stated[UNKNOWN] | {"threshold": 0.25},
    }
    for version in (1, 2):
        new = calibration._replace(stated=stated, version=version)
        below = [np.nextafter(0.75, 0), np.nextafter(0.25, 0)]
        confidences = np.array([0.75, below[0], 0.25, below[1]])
        verdicts = new.verdicts_at(confidences, confidences)
        assert verdicts == [ACCEPT, ASK, ASK, UNKNOWN]
    # Logits of two classes at the threshold: exp(0) / (exp(0) + exp(-log 3)) = 3 / 4.
    logits = np.array([[0.0, -np.log(3)]])
    sure = calibrate.top_probability(logits)[0]
    stated[ACCEPT] |= {"threshold": float(sure)}
    assert calibration._replace(stated=stated, temperature=1.0).verdicts(logits) == [ACCEPT]


def test_twenty_examples_are_enough(rng: np.random.Generator):
    calibration = calibration_fit.fit(*sampled(rng, 20), weights="ema", fitted_on={})
    assert calibration.fitted_on["num_examples"] == calibration_fit.LEAST_EXAMPLES == 20


def test_half_of_what_is_unknown_on_val_is_half_of_val(rng: np.random.Generator):
    logits, labels = sampled(rng, 400)
    calibration = calibration_fit.fit(
        logits,
        labels,
        weights="ema",
        fitted_on={},
        aims=Aims(unknown_share=0.5, accept_accuracy=0.5),
    )
    assert calibration.stated[UNKNOWN]["n"] == 200
    assert (calibration.accuracy_of(ACCEPT) or 0) >= 0.5


def test_a_model_that_is_never_right_accepts_nothing(rng: np.random.Generator):
    logits, _ = sampled(rng, 50)
    calibration = calibration_fit.fit(
        logits, logits.argmin(axis=1), weights="ema", fitted_on={}, aims=Aims(unknown_share=0.0)
    )
    assert calibration.stated[ACCEPT]["threshold"] is None
    assert set(calibration.verdicts(logits)) == {ASK} and calibration.accuracy_of(ACCEPT) is None


def test_equal_logits_are_no_known_character():
    logits = np.zeros((2, 5), np.float32)
    logits[1, 2] = 3
    np.testing.assert_allclose(calibrate.standardised_logit(logits), [0, 2])  # sqrt(k - 1)
    assert calibrate.standardised_logit(np.ones((1, 1), np.float32)) == [0]


def test_unknown_is_what_has_the_lowest_probability(rng: np.random.Generator):
    logits, _ = sampled(rng, 4000)
    calibration = fitted(rng)
    confidences = calibrate.top_probability(logits, calibration.temperature)
    is_unknown = np.array(calibration.verdicts(logits)) == UNKNOWN
    assert confidences[is_unknown].max() < calibration.stated[UNKNOWN]["threshold"]
    assert confidences[~is_unknown].min() >= calibration.stated[UNKNOWN]["threshold"]


def test_version_1_goes_by_the_standardised_logit(rng: np.random.Generator):
    logits, _ = sampled(rng, 300)
    content = fitted(rng).to_json()
    content["verdicts"][UNKNOWN]["threshold"] = threshold = 2.0
    old, new = (Calibration.from_json(content | {"version": version}) for version in (1, 2))
    is_unknown = np.array(old.verdicts(logits)) == UNKNOWN
    assert 0 < is_unknown.sum() < 300
    np.testing.assert_array_equal(is_unknown, calibrate.standardised_logit(logits) < threshold)
    assert set(new.verdicts(logits)) == {UNKNOWN}  # no probability reaches 2
    assert old.to_json()["version"] == 1


def test_a_calibration_survives_its_file(tmp_path: Path, rng: np.random.Generator):
    calibration = fitted(rng, 300)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(calibration.to_json()))
    again = Calibration.load(path)
    assert again == calibration
    logits, _ = sampled(rng, 50)
    assert again.verdicts(logits) == calibration.verdicts(logits)
    np.testing.assert_allclose(again.probabilities(logits).sum(axis=1), 1)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        ({"version": 4}, "version 1 to 3, got 4"),
        ({"temperature": 0}, "positive temperature, got 0"),
        ({"temperature": "warm"}, "positive temperature, got 'warm'"),
        ({"verdicts": {}}, "of accept"),
        (
            {"verdicts": dict.fromkeys(CALIBRATED_VERDICTS, {"threshold": 1})},
            "lacks accuracy, coverage",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_remedy(harm, expected, tmp_path: Path, rng):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(fitted(rng, 100).to_json() | harm))
    with pytest.raises(ValueError, match=expected) as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value) and "--of val" in str(caught.value)


def test_what_is_no_json_or_lacks_a_field_is_refused_too(tmp_path: Path, rng):
    path = tmp_path / "calibration.json"
    whole = json.dumps(fitted(rng, 100).to_json())
    for text in (whole[:-9], "[1]", "{}", whole.replace('"weights"', '"weight"')):
        path.write_text(text)
        with pytest.raises(ValueError, match="cannot read"):
            Calibration.load(path)


def test_too_few_or_damaged_examples_are_refused(rng: np.random.Generator):
    logits, labels = sampled(rng, 19)
    with pytest.raises(ValueError, match="20 labelled examples or more, got 19"):
        calibration_fit.fit(logits, labels, weights="ema", fitted_on={})
    logits, labels = sampled(rng, 40)
    logits[3, 2] = np.nan
    with pytest.raises(ValueError, match="finite logits"):
        calibration_fit.fit(logits, labels, weights="ema", fitted_on={})


def test_calibrating_needs_numpy_alone():
    code = (
        "import sys, kkanji_jax.evaluation.calibration;"
        "print('jax' in sys.modules, 'flax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def backed(rng: np.random.Generator, n: int = 1200, d: int = 24, k: int = 8):
    """Logits, labels and evidence: examples have all features of their class, copies few, strong.

    Both reach the same logits, so that the probability cannot tell them apart.
    """
    kernel = np.kron(np.eye(k), np.ones((d // k, 1))) + rng.normal(0, 0.02, (d, k))
    labels, strength = rng.integers(0, k, n), rng.uniform(0.2, 1.5, (n, 1))
    whole = kernel.T[labels] * strength + rng.normal(0, 0.3, (n, d))
    rows = np.sort(rng.permutation(n)[: n // 2])
    odd = kernel.T[(labels[rows] + 1) % k] * strength[rows] * (np.arange(d) % 3 == 0) * 3
    odd = odd + rng.normal(0, 0.3, odd.shape)
    outputs = [Outputs((f @ kernel).astype(np.float32), f.astype(np.float32)) for f in (whole, odd)]
    return outputs[0], labels, kernel.astype(np.float32), Copies(rows, outputs[1])


def fitted_with_support(rng: np.random.Generator, **more) -> tuple[Calibration, np.ndarray]:
    outputs, labels, kernel, copies = backed(rng)
    evidence = Evidence(outputs.features, kernel, copies)
    found = calibration_fit.fit(
        outputs.logits, labels, weights="ema", fitted_on={}, evidence=evidence, **more
    )
    return found, kernel


def test_odd_copies_as_probable_as_examples_are_not_accepted(rng: np.random.Generator):
    calibration, kernel = fitted_with_support(rng)
    outputs, labels, kernel, copies = backed(np.random.default_rng(9))
    alone = calibration_fit.fit(outputs.logits, labels, weights="ema", fitted_on={})
    shares = {}
    for name, found in (("alone", alone), ("backed", calibration)):
        for what, (logits, features) in (("examples", outputs), ("copies", copies.outputs)):
            supports = found.supports_of(logits, features, kernel)
            verdicts = np.array(found.verdicts(logits, supports=supports))
            shares[name, what] = (verdicts == ACCEPT).mean()
    assert shares["alone", "copies"] > 0.4
    assert shares["backed", "copies"] < 0.05
    assert shares["backed", "examples"] > shares["alone", "examples"] - 0.1
    assert alone.supports_of(*outputs, kernel) is None


def test_a_verdict_is_by_probability_support_and_familiarity(rng: np.random.Generator):
    calibration, _ = fitted_with_support(rng)
    stated = calibration.stated
    accept, least = stated[ACCEPT]["threshold"], stated[ACCEPT]["least_support"]
    familiarity, unknown = calibration.familiarity, stated[UNKNOWN]["threshold"]
    assert familiarity is not None
    confidences, supports = rng.uniform(0.1, 1, 500), rng.uniform(least - 3, least + 3, 500)
    given_verdicts = calibration.verdicts_at(confidences, confidences, supports)
    for p, support, verdict in zip(confidences, supports, given_verdicts, strict=True):
        odds = np.log(p / (1 - p))
        known = familiarity.bias + familiarity.of_log_odds * odds + familiarity.of_support * support
        if known < unknown:
            assert verdict == UNKNOWN
        else:
            assert verdict == (ACCEPT if p >= accept and support >= least else ASK)
    assert set(given_verdicts) == set(CALIBRATED_VERDICTS)
    with pytest.raises(ValueError, match="needs those of the images"):
        calibration.verdicts_at(confidences, confidences)


def test_what_is_stated_holds_on_examples_whose_support_was_not_fitted(rng: np.random.Generator):
    calibration, kernel = fitted_with_support(rng)
    outputs, labels, kernel, _ = backed(np.random.default_rng(4))
    supports = calibration.supports_of(*outputs, kernel)
    verdicts = np.array(calibration.verdicts(outputs.logits, supports=supports))
    for name in (ACCEPT, UNKNOWN):
        stated = calibration.stated[name]["coverage"]
        assert (verdicts == name).mean() == pytest.approx(stated, abs=0.05)
    assert calibration.stated[UNKNOWN]["coverage"] == pytest.approx(0.03, abs=0.002)
    assert calibration.fitted_on["num_odd_copies"] == 600


def test_a_copy_read_as_its_example_is_not_held_against_it(rng: np.random.Generator):
    outputs, labels, kernel, copies = backed(rng)
    is_read = outputs.logits.argmax(axis=1) == labels
    rows = np.flatnonzero(is_read)[::3]  # some of either half
    same = Copies(rows, Outputs(*(part[rows] for part in outputs)))
    few = Copies(copies.rows[:15], Outputs(*(part[:15] for part in copies.outputs)))
    for useless in (same, few):
        evidence = Evidence(outputs.features, kernel, useless)
        found = calibration_fit.fit(
            outputs.logits, labels, weights="ema", fitted_on={}, evidence=evidence
        )
        assert found.support is None and found.familiarity is None
        assert "support" not in found.to_json()
        alone = calibration_fit.fit(outputs.logits, labels, weights="ema", fitted_on={})
        assert found.verdicts(outputs.logits) == alone.verdicts(outputs.logits)


def test_a_support_survives_its_file(tmp_path: Path, rng: np.random.Generator):
    calibration, kernel = fitted_with_support(rng, groups=["published"] * 1000 + ["other"] * 200)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(calibration.to_json()))
    again = Calibration.load(path)
    assert again.to_json() == calibration.to_json() and again.version == 3
    outputs, *_ = backed(np.random.default_rng(2))
    ours, theirs = (each.supports_of(*outputs, kernel) for each in (calibration, again))
    assert ours is not None and theirs is not None
    np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="support of 24 features and the network 7"):
        calibration.supports_of(outputs.logits, outputs.features[:, :7], kernel[:7])


@pytest.mark.parametrize("place", ["weights", "bias", "familiarity", "of_support", "least_support"])
def test_a_support_that_lacks_a_part_is_refused(place: str, rng: np.random.Generator):
    content = fitted_with_support(rng)[0].to_json()
    for holder in (
        content if place == "familiarity" else {},
        content["support"],
        content["familiarity"],
        content["verdicts"][ACCEPT],
    ):
        holder.pop(place, None)
    with pytest.raises(ValueError, match="expected a support of weights and a bias"):
        Calibration.from_json(content)


def test_a_group_loses_no_more_of_its_accepted_examples_than_allowed(rng: np.random.Generator):
    n = 4000
    names = np.where(np.arange(n) % 10 == 0, "photographed", "published")
    supports = rng.normal(0, 1, n) - 1.5 * (names == "photographed")
    is_accepted = rng.random(n) < 0.7
    least = calibration_fit._least_support(supports, is_accepted, names)
    lost = [
        (supports[is_accepted & (names == name)] < least).mean()
        for name in ("photographed", "published")
    ]
    assert max(lost) <= calibration_fit.ACCEPT_LOSS and max(lost) > calibration_fit.ACCEPT_LOSS / 2
