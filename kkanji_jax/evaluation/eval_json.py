"""Everything that one pass over a split tells: the content of eval.json."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float32, Float64, Int, Int32, UInt8

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.scripts import script_of
from kkanji_jax.evaluation import calibration as calibrate
from kkanji_jax.evaluation import groups as breakdown
from kkanji_jax.evaluation import intervals
from kkanji_jax.evaluation import unknown as open_set
from kkanji_jax.evaluation.calibration import VERDICTS, Calibration
from kkanji_jax.evaluation.metrics import TOP_K
from kkanji_jax.evaluation.reliability import reliability, risk_coverage
from kkanji_jax.evaluation.scores import (
    Predictions,
    join_predictions,
    predictions_of,
    run_split,
    summarise,
)

_ROWS = 1024  # of logits at a time


class Readings(NamedTuple):
    """What a network says of each example, as far as scores need it."""

    predictions: Predictions  # at temperature 1
    standardised: Float64[np.ndarray, " n"]  # largest logits, standardised over their rows
    largest_logits: Float64[np.ndarray, " n"]
    among: dict[str, Int32[np.ndarray, " n"]]  # official test -> best of its classes
    calibrated: Predictions | None  # at the calibration's temperature
    confidences: Float64[np.ndarray, " n"]  # highest probability, calibrated where possible
    logits: Float32[np.ndarray, "n k"] | None  # where they were to be kept


def read_split(
    logits_fn: Callable[..., Any],
    params: Any,
    batch_stats: Any,
    images: UInt8[np.ndarray, "n h w"],
    labels: Int32[np.ndarray, " n"],
    class_index: ClassIndex,
    *,
    batch_size: int,
    mesh: Mesh,
    temperature: float | None = None,
    is_keeping_logits: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> Readings:
    """Runs `logits_fn` (see steps.make_logits_fn) over all images, each once and in order.

    Logits are reduced batch by batch; kept, they take 4 bytes an example and class.
    """
    columns = {
        source: found
        for source in breakdown.OFFICIAL_TESTS
        if (found := breakdown.official_columns(source, class_index)) is not None
    }
    plain, calibrated, confidences, standardised, largest, kept = [], [], [], [], [], []
    among: dict[str, list[np.ndarray]] = {source: [] for source in columns}
    for rows, (logits, _) in run_split(
        logits_fn, params, batch_stats, (images,),
        batch_size=batch_size, mesh=mesh, on_batch=on_batch,
    ):  # fmt: skip
        logits = np.asarray(logits, np.float32)
        plain.append(predictions_of(logits, labels[rows]))
        if temperature is not None:
            calibrated.append(predictions_of(logits, labels[rows], temperature))
        confidences.append(calibrate.top_probability(logits, temperature or 1.0))
        standardised.append(calibrate.standardised_logit(logits))
        largest.append(logits.max(axis=1).astype(np.float64))
        for source, ids in columns.items():
            among[source].append(ids[logits[:, ids].argmax(axis=1)].astype(np.int32))
        if is_keeping_logits:
            kept.append(logits)
    return Readings(
        predictions=join_predictions(plain),
        standardised=np.concatenate(standardised),
        largest_logits=np.concatenate(largest),
        among={source: np.concatenate(parts) for source, parts in among.items()},
        calibrated=join_predictions(calibrated) if calibrated else None,
        confidences=np.concatenate(confidences),
        logits=np.concatenate(kept) if kept else None,
    )


def at_temperature(readings: Readings, temperature: float) -> Readings:
    """The same readings, calibrated; they must have kept their logits."""
    if readings.logits is None:
        raise ValueError("wanted readings that kept their logits, got none")
    labels = readings.predictions.labels
    parts = [
        predictions_of(
            readings.logits[start : start + _ROWS], labels[start : start + _ROWS], temperature
        )
        for start in range(0, len(labels), _ROWS)
    ]
    return readings._replace(
        calibrated=join_predictions(parts),
        confidences=calibrate.top_probability(readings.logits, temperature),
    )


def scorecard(
    readings: Readings,
    sample_ids: Sequence[str],
    class_index: ClassIndex,
    train_counts: Mapping[str, int],
    *,
    split: str,
    weights: str,
    calibration: Calibration | None = None,
    pooled: Collection[str] = (),
    forms_of: breakdown.FormsOf | None = None,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """The scores of eval.json, see `scoring.summarise`, part by part and with what trust is worth.

    Without a calibration, `calibration`, `ece_calibrated` and `verdicts` are None; without
    `forms_of`, `variant_tolerant` is.
    """
    predictions = readings.predictions
    bootstrap: dict[str, Any] = {"seed": seed, "num_bootstrap": num_bootstrap}
    content = summarise(
        predictions, class_index, train_counts, split=split, weights=weights, **bootstrap
    )
    num_classes = len(class_index)
    content["by_script"] = breakdown.by_script(predictions, class_index, **bootstrap)
    names = breakdown.looks_and_scripts(sample_ids, predictions, class_index)
    content["by_look"] = breakdown.by_group(names, predictions, num_classes, **bootstrap)
    content["by_source"] = breakdown.by_source(sample_ids, predictions, num_classes, **bootstrap)
    content["official_tests"] = breakdown.official_tests(
        sample_ids, predictions, readings.among, class_index, pooled, **bootstrap
    )
    content["variant_tolerant"] = (
        breakdown.variant_tolerant(predictions, class_index, forms_of, **bootstrap)
        if forms_of
        else None
    )
    hits = predictions.top_ids[:, 0] == predictions.labels
    before = reliability(predictions.top_probs[:, 0], hits, **bootstrap)
    content["reliability"] = {"before": before["bins"], "after": None}
    content |= {"calibration": None, "ece_calibrated": None, "verdicts": None}
    if calibration is not None:
        if readings.calibrated is None:
            raise ValueError("wanted readings at the calibration's temperature, got none")
        after = reliability(readings.confidences, hits, **bootstrap)
        content["reliability"]["after"] = after["bins"]
        content["ece_calibrated"] = after["ece"]
        content["loss_calibrated"] = float(readings.calibrated.losses.mean(dtype=np.float64))
        content["calibration"] = {
            "temperature": calibration.temperature,
            "fitted_on": calibration.fitted_on,
        }
        content["verdicts"] = verdict_rows(calibration, readings, **bootstrap)
        for row in content["by_look"]:
            inside = np.array(names) == row["name"]
            row["verdicts"] = verdict_rows(calibration, readings, inside, **bootstrap)
    content["risk_coverage"] = risk_coverage(readings.confidences, hits, **bootstrap) | {
        "ordered_by": "top-1 probability, " + ("calibrated" if calibration else "uncalibrated")
    }
    return content


def verdict_rows(
    calibration: Calibration,
    readings: Readings,
    chosen: Bool[np.ndarray, " n"] | None = None,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> list[dict[str, Any]]:
    """For each verdict {verdict, threshold, stated_accuracy, stated_coverage, accuracy, coverage,
    top5}: what the calibration states of val, and what the `chosen` of this split say, or all."""
    predictions = readings.predictions
    given = np.array(calibration.verdicts_at(readings.confidences, readings.standardised))
    hits = predictions.top_ids[:, 0] == predictions.labels
    in_top5 = (predictions.top_ids[:, :TOP_K] == predictions.labels[:, None]).any(axis=1)
    if chosen is not None:
        given, hits, in_top5 = given[chosen], hits[chosen], in_top5[chosen]
    rng = np.random.default_rng(seed)
    rows = []
    for name in VERDICTS:
        inside: Bool[np.ndarray, " n"] = given == name
        n = int(inside.sum())

        def share_of(right: Bool[np.ndarray, " n"], total: int) -> dict[str, Any]:
            return intervals.share(int(right.sum()), total, rng, num_bootstrap)

        rows.append({
            "verdict": name,
            "threshold": calibration.stated[name]["threshold"],
            "stated_accuracy": calibration.stated[name]["accuracy"],
            "stated_coverage": calibration.stated[name]["coverage"],
            "accuracy": share_of(hits & inside, n),
            "coverage": share_of(inside, len(given)),
            "top5": share_of(in_top5 & inside, n),
        })  # fmt: skip
    return rows


# What can tell a known character from others; the first is what verdicts go by.
_KNOWN_SCORES: dict[str, Callable[[Readings], Float64[np.ndarray, " n"]]] = {
    "top-1 probability": lambda readings: readings.confidences,
    "largest logit, standardised": lambda readings: readings.standardised,
    "largest logit": lambda readings: readings.largest_logits,
    # log-sum-exp: the largest logit less the log of its probability
    "energy": lambda readings: (
        readings.largest_logits - np.log(readings.predictions.top_probs[:, 0].astype(np.float64))
    ),
}


def unknown_scores(
    known: Readings,
    unknown: Readings,
    unknown_codepoints: Sequence[str],
    calibration: Calibration | None,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """How characters outside the index are told from those of the split.

    {n_known, n_unknown, classes, by_score: [{score, auroc, fpr95}], verdicts}: `verdicts` is the
    share of the unknown images that gets each verdict, None without a calibration.
    """
    n = len(unknown.confidences)
    rows = []
    for name, score in _KNOWN_SCORES.items():
        of_known, of_unknown = score(known), score(unknown)
        scores = open_set.detection(of_known, of_unknown, seed=seed, num_bootstrap=num_bootstrap)
        rows.append({"score": name, **scores})
    verdicts = None
    if calibration is not None:
        given = calibration.verdicts_at(unknown.confidences, unknown.standardised)
        rng = np.random.default_rng(seed)
        verdicts = {
            name: intervals.share(given.count(name), n, rng, num_bootstrap) for name in VERDICTS
        }
    return {
        "n_known": len(known.confidences),
        "n_unknown": n,
        "classes": len(set(unknown_codepoints)),
        "by_score": rows,
        "verdicts": verdicts,
    }


def per_class(
    predictions: Predictions, class_index: ClassIndex, train_counts: Mapping[str, int]
) -> list[dict[str, Any]]:
    """A row for each class of the index: its counts, recall, precision, F1 and commonest error.

    recall is None without an example, precision None where nothing was read as the class.
    """
    labels, predicted = predictions.labels, predictions.top_ids[:, 0]
    num_classes = len(class_index)
    counts: dict[str, Int[np.ndarray, " k"]] = {
        "n": np.bincount(labels, minlength=num_classes),
        "num_predicted": np.bincount(predicted, minlength=num_classes),
        "hits": np.bincount(labels[labels == predicted], minlength=num_classes),
    }
    errors: dict[int, dict[int, int]] = {}
    for label, other in zip(labels.tolist(), predicted.tolist(), strict=True):
        if label != other:
            of_class = errors.setdefault(label, {})
            of_class[other] = of_class.get(other, 0) + 1
    rows = []
    for i, codepoint in enumerate(class_index.codepoints):
        n, num_predicted, hits = (int(counts[name][i]) for name in counts)
        most = sorted(errors.get(i, {}).items(), key=lambda item: (-item[1], item[0]))[:1]
        rows.append({
            "codepoint": codepoint,
            "character": class_index.character(i),
            "script": script_of(codepoint),
            "train_images": train_counts[codepoint],
            "n": n,
            "hits": hits,
            "num_predicted": num_predicted,
            "recall": hits / n if n else None,
            "precision": hits / num_predicted if num_predicted else None,
            "f1": 2 * hits / (n + num_predicted) if n else None,
            "most_read_as": class_index.codepoints[most[0][0]] if most else "",
            "most_read_as_count": most[0][1] if most else 0,
        })  # fmt: skip
    return rows
