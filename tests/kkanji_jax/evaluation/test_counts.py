"""Scores from counts agree with scikit-learn's definitions, by a loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.evaluation import counts


def slow_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    rows = []
    for k in np.unique(labels):
        hits = np.sum((labels == k) & (predicted == k))
        recall = hits / np.sum(labels == k)
        claimed = np.sum(predicted == k)
        precision = hits / claimed if claimed else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        rows.append((np.mean(labels == k), precision, recall, f1))
    weight, precision, recall, f1 = np.array(rows).T
    return {
        "accuracy": np.mean(labels == predicted),
        "weighted_precision": weight @ precision,
        "weighted_recall": weight @ recall,
        "weighted_f1": weight @ f1,
        "macro_precision": precision.mean(),
        "macro_recall": recall.mean(),
        "macro_f1": f1.mean(),
    }


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_scores_equal_those_of_a_loop_over_classes(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = (np.array(side, np.int32) for side in zip(*pairs, strict=True))
    true, claimed = np.bincount(labels, minlength=6), np.bincount(predicted, minlength=6)
    hits = np.bincount(labels[labels == predicted], minlength=6)
    ours = counts.weighted_and_macro(true, claimed, hits)
    for name, value in slow_scores(labels, predicted).items():
        assert ours[name] == pytest.approx(value), name
    assert ours["weighted_recall"] == pytest.approx(ours["accuracy"])  # an identity


def test_sparse_confusion_holds_every_cell_once() -> None:
    labels = np.array([3, 3, 3, 0, 1], np.int32)
    predicted = np.array([3, 2, 2, 0, 3], np.int32)
    cells = counts.sparse_confusion(labels, predicted, 4)
    assert cells == [[0, 0, 1], [1, 3, 1], [3, 2, 2], [3, 3, 1]]


def test_evaluation_scores_use_the_original_keys() -> None:
    labels = np.array([0, 1, 1], np.int32)
    top_ids = np.array([[0, 1], [0, 1], [1, 0]], np.int32)
    scores = counts.evaluation_scores(labels, top_ids, np.ones(3, np.float32), 2)
    assert scores["val_accuracy"] == pytest.approx(2 / 3)
    assert scores["val_macro_accuracy"] == pytest.approx(0.75)
    assert scores["val_top5"] == 1.0 and scores["val_loss"] == 1.0
    assert scores["val_confusion_matrix"] == [[0, 0, 1], [1, 0, 1], [1, 1, 1]]


def test_a_label_is_among_five_and_not_among_six() -> None:
    labels = np.array([4, 5], np.int32)
    top_ids = np.tile(np.arange(6, dtype=np.int32), (2, 1))
    scores = counts.evaluation_scores(labels, top_ids, np.zeros(2, np.float32), 6)
    assert scores["val_top5"] == 0.5 and scores["val_accuracy"] == 0.0


def test_the_loss_is_a_mean_over_examples() -> None:
    labels = np.array([0, 1, 1], np.int32)
    top_ids = labels[:, None]
    scores = counts.evaluation_scores(labels, top_ids, np.array([1, 2, 6], np.float32), 2)
    assert scores["val_loss"] == 3.0 and scores["val_num_examples"] == 3


def test_no_examples_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        counts.weighted_and_macro(np.zeros(3, int), np.zeros(3, int), np.zeros(3, int))
