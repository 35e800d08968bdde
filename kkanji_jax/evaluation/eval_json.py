"""The content of eval.json: all scores from one pass over a split."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.kanji_forms import forms_of
from kkanji_jax.data.scripts import script_of
from kkanji_jax.evaluation import calibration as calibration_lib
from kkanji_jax.evaluation import groups, intervals
from kkanji_jax.evaluation import unknown as unknown_lib
from kkanji_jax.evaluation.calibration import CALIBRATED_VERDICTS, Calibration, Familiarity
from kkanji_jax.evaluation.counts import TOP_K
from kkanji_jax.evaluation.forward import (
    Answers,
    Predictions,
    join_predictions,
    predictions_of,
)
from kkanji_jax.evaluation.reliability import reliability, risk_coverage
from kkanji_jax.evaluation.scores import summarise
from kkanji_jax.evaluation.support import Outputs
from kkanji_jax.saved.trained import Trained

_ROWS = 1024  # of logits at a time


class SplitAnswers(NamedTuple):
    """The output of a network for each example of a split, as far as scores need it."""

    predictions: Predictions  # at temperature 1
    standardised: Float64[np.ndarray, " n"]  # largest logits, standardised over their rows
    largest_logits: Float64[np.ndarray, " n"]
    among: dict[str, Int32[np.ndarray, " n"]]  # official test -> best of its classes
    calibrated: Predictions | None  # at the calibration's temperature
    confidences: Float64[np.ndarray, " n"]  # highest probability, calibrated where possible
    supports: Float64[np.ndarray, " n"] | None  # where the calibration has a support
    outputs: Outputs | None  # if they were to be kept


def collect_answers(
    parts: Iterable[Answers],
    class_index: ClassIndex,
    kernel: Float[np.ndarray, "d k"],
    *,
    calibration: Calibration | None = None,
    is_keeping_outputs: bool = False,
) -> SplitAnswers:
    """Reduces the output of `Evaluator.answers`, which must have outputs, batch by batch.

    `kernel` holds the classifier's weights. If the outputs are kept, they take 4 bytes for each
    example and class.
    """
    temperature = calibration.temperature if calibration else None
    columns = {
        source: found
        for source in groups.OFFICIAL_TESTS
        if (found := groups.official_columns(source, class_index)) is not None
    }
    plain, calibrated, confidences, standardised, largest = [], [], [], [], []
    supports: list[Float64[np.ndarray, " n"]] = []
    kept: list[Outputs] = []
    among: dict[str, list[np.ndarray]] = {source: [] for source in columns}
    for _, predictions, outputs in parts:
        if outputs is None:
            raise ValueError("expected answers with outputs, got none")
        logits = outputs.logits
        plain.append(predictions)
        if temperature is not None:
            calibrated.append(predictions_of(logits, predictions.labels, temperature))
        confidences.append(calibration_lib.top_probability(logits, temperature or 1.0))
        standardised.append(calibration_lib.standardised_logit(logits))
        largest.append(logits.max(axis=1).astype(np.float64))
        for source, ids in columns.items():
            among[source].append(ids[logits[:, ids].argmax(axis=1)].astype(np.int32))
        if calibration is not None:
            found = calibration.supports_of(logits, outputs.features, kernel)
            supports += [] if found is None else [found]
        if is_keeping_outputs:
            kept.append(outputs)
    return SplitAnswers(
        predictions=join_predictions(plain),
        standardised=np.concatenate(standardised),
        largest_logits=np.concatenate(largest),
        among={source: np.concatenate(parts) for source, parts in among.items()},
        calibrated=join_predictions(calibrated) if calibrated else None,
        confidences=np.concatenate(confidences),
        supports=np.concatenate(supports) if supports else None,
        outputs=join_outputs(kept) if kept else None,
    )


def join_outputs(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of batches, one after the other."""
    return Outputs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def calibrated_answers(
    answers: SplitAnswers, calibration: Calibration, kernel: Float[np.ndarray, "d k"]
) -> SplitAnswers:
    """The same answers, calibrated; their outputs must have been kept."""
    if answers.outputs is None:
        raise ValueError("expected answers that kept their outputs, got none")
    labels, temperature = answers.predictions.labels, calibration.temperature
    logits, features = answers.outputs
    parts = [
        predictions_of(logits[start : start + _ROWS], labels[start : start + _ROWS], temperature)
        for start in range(0, len(labels), _ROWS)
    ]
    return answers._replace(
        calibrated=join_predictions(parts),
        confidences=calibration_lib.top_probability(logits, temperature),
        supports=calibration.supports_of(logits, features, kernel),
    )


def scorecard(
    answers: SplitAnswers,
    trained: Trained,
    sample_ids: Sequence[str],
    *,
    split: str,
    calibration: Calibration | None = None,
    pooled: Collection[str] = (),
) -> dict[str, Any]:
    """The content of eval.json: scores (`scores.summarise`), groups, and reliability.

    `answers` are those of `trained` to the examples of `sample_ids`; `pooled` are the official
    tests whose images were trained on. Without a calibration, `calibration`, `ece_calibrated` and
    `verdicts` are None.
    """
    predictions, class_index = answers.predictions, trained.class_index
    hits = predictions.top_ids[:, 0] == predictions.labels
    content = summarise(
        predictions, class_index, trained.train_counts, split=split, weights=trained.weights
    )
    content |= _group_scores(answers, sample_ids, class_index, pooled)
    before = reliability(predictions.top_probs[:, 0], hits)
    content["reliability"] = {"before": before["bins"], "after": None}
    content |= {"calibration": None, "ece_calibrated": None, "verdicts": None}
    if calibration is not None:
        if answers.calibrated is None:
            raise ValueError("expected answers at the calibration's temperature, got none")
        after = reliability(answers.confidences, hits)
        content["reliability"]["after"] = after["bins"]
        content["ece_calibrated"] = after["ece"]
        content["loss_calibrated"] = float(answers.calibrated.losses.mean(dtype=np.float64))
        content["calibration"] = {
            "temperature": calibration.temperature,
            "fitted_on": calibration.fitted_on,
        }
        content["verdicts"] = verdict_rows(calibration, answers)
        names = np.array(groups.looks_and_scripts(sample_ids, predictions, class_index))
        for row in content["by_look"]:
            row["verdicts"] = verdict_rows(calibration, answers, names == row["name"])
    content["risk_coverage"] = risk_coverage(answers.confidences, hits) | {
        "ordered_by": "top-1 probability, " + ("calibrated" if calibration else "uncalibrated")
    }
    return content


def _group_scores(
    answers: SplitAnswers,
    sample_ids: Sequence[str],
    class_index: ClassIndex,
    pooled: Collection[str],
) -> dict[str, Any]:
    """The scores of parts of the split, by the names that eval.json has for them."""
    predictions, num_classes = answers.predictions, len(class_index)
    names = groups.looks_and_scripts(sample_ids, predictions, class_index)
    return {
        "by_script": groups.by_script(predictions, class_index),
        "by_look": groups.by_group(names, predictions, num_classes),
        "by_source": groups.by_source(sample_ids, predictions, num_classes),
        "official_tests": groups.official_tests(
            sample_ids, predictions, answers.among, class_index, pooled
        ),
        "variant_tolerant": groups.variant_tolerant(predictions, class_index, forms_of),
    }


def verdict_rows(
    calibration: Calibration,
    answers: SplitAnswers,
    chosen: Bool[np.ndarray, " n"] | None = None,
) -> list[dict[str, Any]]:
    """A row for each verdict, of the `chosen` examples of a split, or of all.

    Rows are {verdict, threshold, stated_accuracy, stated_coverage, accuracy, coverage, top5}: what
    the calibration states of val, and what is measured here.
    """
    predictions = answers.predictions
    given = np.array(_verdicts(calibration, answers))
    hits = predictions.top_ids[:, 0] == predictions.labels
    in_top5 = (predictions.top_ids[:, :TOP_K] == predictions.labels[:, None]).any(axis=1)
    if chosen is not None:
        given, hits, in_top5 = given[chosen], hits[chosen], in_top5[chosen]
    rows = []
    for name in CALIBRATED_VERDICTS:
        inside: Bool[np.ndarray, " n"] = given == name
        n = int(inside.sum())

        def share_of(right: Bool[np.ndarray, " n"], total: int) -> dict[str, Any]:
            return intervals.share(int(right.sum()), total)

        rows.append(
            {
                "verdict": name,
                "threshold": calibration.stated[name]["threshold"],
                "stated_accuracy": calibration.stated[name]["accuracy"],
                "stated_coverage": calibration.stated[name]["coverage"],
                "accuracy": share_of(hits & inside, n),
                "coverage": share_of(inside, len(given)),
                "top5": share_of(in_top5 & inside, n),
            }
        )
    return rows


def _verdicts(calibration: Calibration, answers: SplitAnswers) -> list[str]:
    return calibration.verdicts_at(answers.confidences, answers.standardised, answers.supports)


# Scores that may tell known characters from others.
_KNOWN_SCORES: dict[str, Callable[[SplitAnswers], Float64[np.ndarray, " n"]]] = {
    "top-1 probability": lambda answers: answers.confidences,
    "largest logit, standardised": lambda answers: answers.standardised,
    "largest logit": lambda answers: answers.largest_logits,
    # log-sum-exp: the largest logit less the log of its probability
    "energy": lambda answers: (
        answers.largest_logits - np.log(answers.predictions.top_probs[:, 0].astype(np.float64))
    ),
}


def unknown_scores(
    known: SplitAnswers,
    unknown: SplitAnswers,
    unknown_codepoints: Sequence[str],
    calibration: Calibration | None,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """How well characters outside the index are told from those of the split.

    {n_known, n_unknown, classes, by_score: [{score, auroc, fpr95}], verdicts}: `verdicts` is the
    share of the unknown images that gets each verdict, None without a calibration.
    """
    n = len(unknown.confidences)
    rows = []
    expected = dict(_KNOWN_SCORES)
    if calibration is not None and calibration.familiarity is not None:
        familiarity = calibration.familiarity
        # Verdicts use the first.
        expected = {"familiarity": lambda answers: _familiarities(familiarity, answers)} | expected
    for name, score in expected.items():
        of_known, of_unknown = score(known), score(unknown)
        scores = unknown_lib.detection(of_known, of_unknown, seed=seed, num_bootstrap=num_bootstrap)
        rows.append({"score": name, **scores})
    verdicts = None
    if calibration is not None:
        given = _verdicts(calibration, unknown)
        verdicts = {name: intervals.share(given.count(name), n) for name in CALIBRATED_VERDICTS}
    return {
        "n_known": len(known.confidences),
        "n_unknown": n,
        "classes": len(set(unknown_codepoints)),
        "by_score": rows,
        "verdicts": verdicts,
    }


def _familiarities(familiarity: Familiarity, answers: SplitAnswers) -> Float64[np.ndarray, " n"]:
    if answers.supports is None:
        raise ValueError("expected answers with supports, got none")
    return familiarity.of(answers.confidences, answers.supports)


def per_class(
    predictions: Predictions, class_index: ClassIndex, train_counts: Mapping[str, int]
) -> list[dict[str, Any]]:
    """A row for each class of the index: its counts, recall, precision, F1 and commonest error.

    recall is None without an example, precision None if the class was never predicted.
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
        rows.append(
            {
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
            }
        )
    return rows
