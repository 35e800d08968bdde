"""The scores of a split, each with its n and an interval."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.class_sizes import CLASS_SIZES, class_size_bucket
from kkanji_jax.evaluation import intervals
from kkanji_jax.evaluation.counts import TOP_K, weighted_and_macro
from kkanji_jax.evaluation.forward import Predictions
from kkanji_jax.evaluation.reliability import BINNING, NUM_BINS, bins_of, calibration_error

_SHARES = ("top1", "top5", "weighted_recall")  # of the examples


class _Cases(NamedTuple):
    """What the scores need for each example; resampling weights the rows."""

    labels: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    hits: Bool[np.ndarray, " n"]
    top5_hits: Bool[np.ndarray, " n"]
    losses: Float[np.ndarray, " n"]
    confidences: Float[np.ndarray, " n"]
    bins: Int[np.ndarray, " n"]  # of confidence
    num_classes: int


def summarise(
    predictions: Predictions,
    class_index: ClassIndex,
    train_counts: Mapping[str, int],
    *,
    split: str,
    weights: str,
    seed: int = 0,
    num_bootstrap: int = 1000,
) -> dict[str, Any]:
    """The content of eval.json: plain numbers, every score as {value, n, ci95}.

    `train_counts` is the number of training originals of each codepoint. Shares of the examples
    have Wilson's interval, all other scores percentiles over `num_bootstrap` seeded resamples.
    Macro means are over the classes that have an example; `by_class_size` groups classes by their
    training originals.
    """
    cases = _cases_of(predictions, len(class_index))
    num_examples = len(cases.labels)
    value = _scores(cases, np.ones(num_examples))
    samples = intervals.bootstrap(
        lambda times: _scores(cases, times),
        num_examples,
        np.random.default_rng(seed),
        num_bootstrap,
    )

    def scored(name: str) -> dict[str, Any]:
        if name in _SHARES:
            interval = intervals.share_interval(round(value[name] * num_examples), num_examples)
        elif name.startswith(("macro_", "weighted_")):
            interval = intervals.mean_interval(samples[name], value[name], num_examples)
        elif name == "ece":
            interval = intervals.percentile_interval(
                intervals.recentred(samples[name], value[name])
            )
        else:
            interval = intervals.percentile_interval(samples[name])
        return {"value": _plain(value[name]), "n": num_examples, "ci95": interval}

    present = np.unique(cases.labels)
    content: dict[str, Any] = {
        "split": split,
        "num_examples": num_examples,
        "num_classes": len(class_index),
        "num_classes_with_examples": len(present),
        "weights": weights,
        "top1": scored("top1"),
        "top5": scored("top5"),
        "macro": scored("macro_recall") | {"classes": len(present)},
    }
    for name in ("precision", "recall", "f1"):
        content[f"macro_{name}"] = scored(f"macro_{name}") | {"classes": len(present)}
        content[f"weighted_{name}"] = scored(f"weighted_{name}")
    content["loss"] = scored("loss") | {"unit": "nats"}
    content["by_class_size"] = by_class_size(
        cases.labels, cases.predicted, class_index, train_counts
    )
    content["ece"] = scored("ece") | {"bins": NUM_BINS, "binning": BINNING}
    content["intervals"] = {
        "level": intervals.LEVEL,
        "method": intervals.METHOD,
        "num_bootstrap": num_bootstrap,
        "seed": seed,
    }
    return content


def by_class_size(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    class_index: ClassIndex,
    train_counts: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Top-1 by the number of training originals of a class, a row for each of CLASS_SIZES.

    Rows are {min, max, classes, classes_with_examples, n, top1, ci95}; the score of a row without
    an example is None. Intervals as in `summarise`.
    """
    missing = [c for c in class_index.codepoints if c not in train_counts]
    if missing:
        raise ValueError(f"expected training counts of every class, got none of {missing[0]}")
    row_of_class = np.array([class_size_bucket(train_counts[c]) for c in class_index.codepoints])
    rows = []
    for row, (least, most) in enumerate(CLASS_SIZES):
        is_inside = row_of_class[labels] == row
        right = int((is_inside & (labels == predicted)).sum())
        score = intervals.share(right, int(is_inside.sum()))
        rows.append(
            {
                "min": least,
                "max": most,
                "classes": int((row_of_class == row).sum()),
                "classes_with_examples": len(np.unique(labels[is_inside])),
                "n": score["n"],
                "top1": score["value"],
                "ci95": score["ci95"],
            }
        )
    return rows


def _cases_of(predictions: Predictions, num_classes: int) -> _Cases:
    labels, top_ids, top_probs, losses = predictions
    if not len(labels):
        raise ValueError("scores need at least one example, got none")
    if min(labels.min(), top_ids.min()) < 0 or max(labels.max(), top_ids.max()) >= num_classes:
        raise ValueError(
            f"expected class ids in [0, {num_classes}), got others: another class index"
        )
    confidences = top_probs[:, 0].astype(np.float64)
    hits = top_ids[:, 0] == labels
    return _Cases(
        labels=labels,
        predicted=top_ids[:, 0],
        hits=hits,
        top5_hits=(top_ids[:, :TOP_K] == labels[:, None]).any(axis=1),
        losses=losses.astype(np.float64),
        confidences=confidences,
        bins=bins_of(confidences),
        num_classes=num_classes,
    )


def _scores(cases: _Cases, times: Shaped[np.ndarray, " n"]) -> dict[str, float]:
    """Every score with example i counted `times[i]` times."""
    times = times.astype(np.float64)
    hit_times = times * cases.hits
    total = times.sum()  # sums, not dot products, for which BLAS would start its threads each time
    columns = ((cases.labels, times), (cases.predicted, times), (cases.labels, hit_times))
    true, predicted, hits = (
        np.bincount(ids, counts, minlength=cases.num_classes).astype(np.int64)
        for ids, counts in columns
    )
    scores = weighted_and_macro(true, predicted, hits)
    scores["top1"] = float(hit_times.sum() / total)
    scores["top5"] = float((times * cases.top5_hits).sum() / total)
    scores["loss"] = float((times * cases.losses).sum() / total)
    scores["ece"] = calibration_error(cases.confidences, cases.hits, cases.bins, times)
    return scores


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
