"""An eval.json as text for a terminal."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from kkanji_jax.reporting.evaluation_view import EvaluationView, Score


def score_table(content: dict[str, Any]) -> str:
    """Every main score with its n and interval, then the scores of parts of the split."""
    return "\n".join(_lines(EvaluationView.of(content)))


def _lines(found: EvaluationView) -> Iterator[str]:
    if found.warning:
        yield found.warning
    yield (
        f"{found.split}  n={found.num_examples:,}  {found.weights} weights  step {found.step}  "
        f"{found.num_classes:,} classes"
    )
    yield f"{'score':<30}{'value':>8}   {'95 % interval':<18}{'n':>8}"
    for key, score in found.scores.items():
        classes = f" ({found.num_classes_with_examples:,} classes)" if key == "macro" else ""
        yield _row(replace(score, name=score.name + classes))
    for look in found.looks:
        yield _row(replace(look.group.top1, name=f"top-1, {look.name}"))
        if look.accepted:
            yield _row(replace(look.accepted.accuracy, name="  accepted of these: right"))
    for group in (*found.scripts, *found.sources):
        yield _row(replace(group.top1, name=f"top-1, {group.name}"))
    if found.any_form:
        yield _row(replace(found.any_form.top1, name="top-1, any form counts"))
    for score in found.raw.values():
        yield _row(replace(score, name=f"raw weights: {score.name}"))
    for test in found.official_tests:
        for score in test.scores:
            classes = score.name.split(" ")[0]  # over all, or among its own
            yield _row(replace(score, name=f"{test.source} {test.measure}, {classes}"))
    yield "top-1 by training images of a class"
    for row in found.class_sizes:
        yield _row(replace(row.top1, name=f"  {row.label} ({row.classes:,} classes)"))
    if found.verdicts:
        yield "accuracy by verdict"
    for verdict in found.verdicts:
        stated = _number(verdict.stated_accuracy.value)
        share = verdict.coverage.value
        said = "" if share is None else f"; {100 * share:.1f} % of the images"
        row = _row(replace(verdict.accuracy, name=f"  {verdict.name}"))
        yield f"{row}   val said {stated}{said}"
    for detector in found.unknown.detectors if found.unknown else ():
        for score in (detector.auroc, detector.fpr95):
            yield _row(replace(score, name=f"outside, {detector.name}: {score.name}"))


def _row(score: Score) -> str:
    ends = score.ci95
    reach = "" if ends is None else f"[{ends[0]:.4f}, {ends[1]:.4f}]"
    return f"{score.name:<30}{_number(score.value):>8}   {reach:<18}{score.n:>8,}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
