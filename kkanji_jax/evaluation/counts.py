"""Scores from counts: accuracy, precision and recall, the confusion matrix, a metrics line."""

from typing import Any

import numpy as np

from kkanji_jax.array_types import Float, Int

TOP_K = 5


def weighted_and_macro(
    true: Int[np.ndarray, " k"], predicted: Int[np.ndarray, " k"], hits: Int[np.ndarray, " k"]
) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 as weighted and macro means, from counts by class.

    Macro means are over the classes that have an example; a class that is never predicted has
    precision 0. Weighted recall equals accuracy by definition. ValueError if there are no examples.
    """
    present = true > 0
    if not present.any():
        raise ValueError("scores need at least one example, got none")
    recall = hits[present] / true[present]
    precision = hits[present] / np.maximum(predicted[present], 1)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    weights = true[present] / true.sum()
    scores = {"accuracy": float(hits.sum() / true.sum())}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        scores[f"weighted_{name}"] = float(values @ weights)
        scores[f"macro_{name}"] = float(values.mean())
    return scores


def sparse_confusion(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], num_classes: int
) -> list[list[int]]:
    """Every non-zero cell of the confusion matrix as [true id, predicted id, count]."""
    cells, counts = np.unique(
        labels.astype(np.int64) * num_classes + predicted.astype(np.int64), return_counts=True
    )
    return [
        [int(cell // num_classes), int(cell % num_classes), int(count)]
        for cell, count in zip(cells, counts, strict=True)
    ]


def evaluation_scores(
    labels: Int[np.ndarray, " n"],
    top_ids: Int[np.ndarray, "n t"],
    losses: Float[np.ndarray, " n"],
    num_classes: int,
) -> dict[str, Any]:
    """The `val_` part of a metrics line: the original's keys (weighted means) beside ours."""
    predicted = top_ids[:, 0]
    scores = weighted_and_macro(
        np.bincount(labels, minlength=num_classes),
        np.bincount(predicted, minlength=num_classes),
        np.bincount(labels[labels == predicted], minlength=num_classes),
    )
    return {
        "val_num_examples": len(labels),
        "val_loss": float(np.mean(losses, dtype=np.float64)),
        "val_accuracy": scores["accuracy"],
        "val_precision": scores["weighted_precision"],
        "val_recall": scores["weighted_recall"],
        "val_macro_accuracy": scores["macro_recall"],
        "val_top5": float(np.mean((top_ids[:, :TOP_K] == labels[:, None]).any(axis=1))),
        "val_confusion_matrix": sparse_confusion(labels, predicted, num_classes),
    }
