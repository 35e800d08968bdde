"""Every score is what an independent reckoning says."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.forward import Predictions
from kkanji_jax.evaluation.reliability import NUM_BINS
from kkanji_jax.evaluation.scores import by_class_size, summarise


def index_of(num_classes: int) -> ClassIndex:
    return ClassIndex.from_codepoints(f"U+{0x4E00 + i:04X}" for i in range(num_classes))


def counts_of(index: ClassIndex, sizes: list[int]) -> dict[str, int]:
    return dict(zip(index.codepoints, sizes, strict=True))


def random_predictions(rng: np.random.Generator, n: int, k: int, skill: float = 0.6) -> Predictions:
    """Predictions with some right, from a skewed distribution of classes."""
    labels = np.minimum(rng.geometric(0.15, n) - 1, k - 1).astype(np.int32)
    logits = rng.normal(0, 1, (n, k))
    logits[np.arange(n), labels] += np.where(rng.random(n) < skill, 4, 0)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    top = np.argsort(-probs, axis=1)[:, :5]
    return Predictions(
        labels=labels,
        top_ids=top.astype(np.int32),
        top_probs=np.take_along_axis(probs, top, 1).astype(np.float32),
        losses=-np.log(probs[np.arange(n), labels]).astype(np.float32),
    )


# --- the scores ----------------------------------------------------------------------


def test_scores_agree_with_scikit_learn(rng: np.random.Generator):
    sk = pytest.importorskip("sklearn.metrics", reason="the reference implementation")
    k = 30
    predictions = random_predictions(rng, 400, k)
    index = index_of(k)
    content = summarise(
        predictions, index, counts_of(index, [9] * k), split="test", weights="raw", num_bootstrap=9
    )
    true, predicted = predictions.labels, predictions.top_ids[:, 0]
    present = np.unique(true)
    assert len(present) < k  # or the mean over present classes is not put to the test
    assert content["top1"]["value"] == pytest.approx(sk.accuracy_score(true, predicted))
    for average, labels in (("macro", present), ("weighted", present)):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            true, predicted, labels=labels, average=average, zero_division=0.0
        )
        assert content[f"{average}_precision"]["value"] == pytest.approx(precision)
        assert content[f"{average}_recall"]["value"] == pytest.approx(recall)
        assert content[f"{average}_f1"]["value"] == pytest.approx(f1)
    assert content["macro"]["value"] == content["macro_recall"]["value"]
    assert content["macro"]["classes"] == len(present)


def test_top5_and_loss_and_ece_agree_with_a_loop(rng: np.random.Generator):
    k, n = 20, 300
    predictions = random_predictions(rng, n, k)
    index = index_of(k)
    content = summarise(
        predictions, index, counts_of(index, [3] * k), split="val", weights="ema", num_bootstrap=5
    )
    found = sum(int(label in ids) for label, ids in zip(*predictions[:2], strict=True))
    assert content["top5"]["value"] == pytest.approx(found / n)
    assert content["loss"]["value"] == pytest.approx(float(np.mean(predictions.losses)), rel=1e-6)
    order = np.argsort(predictions.top_probs[:, 0], kind="stable")
    ece = 0.0
    for part in np.array_split(order, NUM_BINS):  # 300 divides by 15: equal parts
        hits = predictions.top_ids[part, 0] == predictions.labels[part]
        ece += len(part) / n * abs(hits.mean() - predictions.top_probs[part, 0].mean())
    assert content["ece"]["value"] == pytest.approx(ece, rel=1e-5)
    assert content["ece"]["bins"] == NUM_BINS


@given(st.permutations(range(25)))
def test_the_order_of_examples_changes_no_score(order: list[int]):
    k = 6
    index = index_of(k)
    predictions = random_predictions(np.random.default_rng(3), 25, k)
    shuffled = Predictions(*(field[order] for field in predictions))
    told = [
        summarise(p, index, counts_of(index, [5] * k), split="t", weights="raw", num_bootstrap=0)
        for p in (predictions, shuffled)
    ]
    for name in ("top1", "top5", "macro", "macro_f1", "weighted_f1", "ece", "loss"):
        assert told[0][name]["value"] == pytest.approx(told[1][name]["value"])
    assert told[0]["by_class_size"][2]["top1"] == told[1]["by_class_size"][2]["top1"]


def test_eval_json_is_plain_and_every_score_has_n_and_interval(rng: np.random.Generator):
    k = 12
    index = index_of(k)
    predictions = random_predictions(rng, 200, k)
    content = summarise(
        predictions,
        index,
        counts_of(index, [1] * k),
        split="test",
        weights="ema",
        num_bootstrap=50,
    )
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert (content["split"], content["num_examples"], content["num_classes"]) == ("test", 200, k)
    assert content["weights"] == "ema"
    scores = {name: score for name, score in content.items() if isinstance(score, dict)}
    del scores["intervals"]
    assert {"top1", "top5", "macro", "ece", "macro_f1", "weighted_precision"} <= scores.keys()
    for score in scores.values():
        assert score["n"] == 200
        low, high = score["ci95"]
        assert low <= high
    assert scores["top1"]["ci95"][0] < scores["top1"]["value"] < scores["top1"]["ci95"][1]
    again = summarise(
        predictions,
        index,
        counts_of(index, [1] * k),
        split="test",
        weights="ema",
        num_bootstrap=50,
    )
    assert again == content


def test_labels_outside_the_index_are_refused(rng: np.random.Generator):
    index = index_of(3)
    predictions = random_predictions(rng, 50, 8)
    with pytest.raises(ValueError, match=r"expected class ids in \[0, 3\)"):
        summarise(predictions, index, counts_of(index, [1] * 3), split="t", weights="raw")


# --- class sizes -----------------------------------------------------------------------


def test_examples_are_counted_in_the_row_of_their_class():
    index = index_of(4)
    counts = counts_of(index, [1, 4, 5, 700])
    labels = np.array([0, 0, 1, 2, 2, 2, 3, 3, 3, 3], np.int32)
    predicted = np.array([0, 1, 1, 2, 3, 3, 3, 3, 3, 0], np.int32)
    rows = by_class_size(labels, predicted, index, counts)
    told = {(row["min"], row["max"]): (row["classes"], row["n"], row["top1"]) for row in rows}
    assert told[1, 1] == (1, 2, 0.5)
    assert told[2, 4] == (1, 1, 1.0)
    assert told[5, 9] == (1, 3, 1 / 3)
    assert told[500, None] == (1, 4, 0.75)
    assert told[10, 19] == (0, 0, None)
    assert sum(row["n"] for row in rows) == 10 and sum(row["classes"] for row in rows) == 4


def test_a_class_without_a_training_count_is_refused():
    index = index_of(2)
    one = np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="none of U\\+4E01"):
        by_class_size(one, one, index, {"U+4E00": 3})


# --- intervals ---------------------------------------------------------------------------


def test_intervals_hold_the_truth_about_as_often_as_they_promise():
    index, share, n = index_of(2), 0.8, 150
    counts = counts_of(index, [2, 10])
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.zeros(n, np.int32)
        predicted = (rng.random(n) > share).astype(np.int32)
        low, high = by_class_size(labels, predicted, index, counts)[1]["ci95"]
        held += low <= share <= high
    # 95 % of 200 is 190, with a standard error of 3.
    assert 181 <= held <= 199


def scores_of_answers(labels: np.ndarray, predicted: np.ndarray, probability: float) -> dict:
    """The scores of these answers, each given with the probability, of two classes."""
    index, probs = index_of(2), np.full((len(labels), 1), probability, np.float32)
    predictions = Predictions(labels, predicted[:, None], probs, probs[:, 0])
    return summarise(predictions, index, counts_of(index, [4, 4]), split="test", weights="raw")


def test_the_interval_of_the_macro_mean_is_of_the_right_width():
    # Two classes of n examples each: the mean of two shares has a standard error known exactly.
    n = 400
    labels = np.repeat([0, 1], n).astype(np.int32)
    predicted = labels.copy()
    predicted[: n // 2], predicted[n : n + n // 10] = 1, 0
    content = scores_of_answers(labels, predicted, 0.5)
    expected = 1.96 * math.sqrt(0.5 * 0.5 / n + 0.9 * 0.1 / n) / 2
    low, high = content["macro"]["ci95"]
    assert content["macro"]["value"] == pytest.approx(0.7)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.12)  # 1,000 resamples: a few per cent


def test_no_score_is_certain_where_nothing_is_wrong():
    labels = np.arange(30, dtype=np.int32) % 2
    content = scores_of_answers(labels, labels, 1.0)
    names = [f"{kind}_{of}" for kind in ("macro", "weighted") for of in ("precision", "f1")]
    for name in ("top1", *names):
        assert content[name]["value"] == 1.0 and content[name]["ci95"][0] < 0.9, name


@pytest.mark.parametrize(("all_right", "bound"), [(True, [0.4385, 1.0]), (False, [0.0, 0.5615])])
def test_three_of_three_is_no_certainty(all_right: bool, bound: list[float]):
    # Wilson's bound for 3 of 3: 3 / (3 + 1.96 ** 2).
    index = index_of(2)
    labels = np.zeros(3, np.int32)
    predicted = labels if all_right else labels + 1
    rows = by_class_size(labels, predicted, index, counts_of(index, [1, 1]))
    assert rows[0]["ci95"] == pytest.approx(bound, abs=1e-4)
