"""The content of an eval.json, prepared for display; every report is rendered from this view.

`EvaluationView.of` reads an eval.json of any version, or the part of it that docs/results/ keeps.
The report, the model card, the table of `evaluate` and docs/RESULTS.md differ in layout only:
names, order, units and the meaning of a missing score are decided here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kkanji_jax.data.class_sizes import class_size_label
from kkanji_jax.data.manifest import LEAK_WARNING, LEAKY_PROTOCOL, SPLITS

NOTHING = "–"  # where there is no number

# Scores of the whole split in reading order. macro_recall repeats macro, weighted_recall top1.
_NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "macro": "macro recall",
    "macro_precision": "macro precision",
    "macro_f1": "macro F1",
    "weighted_precision": "weighted precision",
    "weighted_f1": "weighted F1",
    "ece": "ECE",
    "ece_calibrated": "ECE, calibrated",
    "aurc": "AURC",
    "loss": "loss, nats",
}
_REPEATED = ("macro_recall", "weighted_recall")
_NO_SHARES = ("loss", "auroc")
_MEASURES = {"balanced": "balanced accuracy", "top1": "top-1"}


@dataclass(frozen=True)
class Score:
    """A number with its n and its 95 % interval; a share is shown in per cent."""

    name: str
    value: float | None
    ci95: tuple[float, float] | None
    n: int
    is_share: bool = True

    @classmethod
    def of(cls, name: str, content: Mapping[str, Any], *, is_share: bool = True) -> "Score":
        """From {value, n, ci95} of an eval.json; for unknown characters n is n_unknown."""
        n = content["n"] if "n" in content else content["n_unknown"]
        ends = content["ci95"]
        return cls(name, content["value"], (ends[0], ends[1]) if ends else None, n, is_share)

    def shown(self, digits: int = 2) -> str:
        """`92.13 %`, or a plain number with two digits more."""
        return NOTHING if self.value is None else self._written(self.value, digits, " %")

    def interval(self, digits: int = 2) -> str:
        """`91.66–92.55`, in the unit of `shown`."""
        if self.ci95 is None:
            return NOTHING
        return "–".join(self._written(end, digits) for end in self.ci95)

    def with_interval(self, digits: int = 1) -> str:
        """`92.1 % (91.7–92.5)`."""
        has_interval = self.value is not None and self.ci95 is not None
        return self.shown(digits) + (f" ({self.interval(digits)})" if has_interval else "")

    def _written(self, value: float, digits: int, unit: str = "") -> str:
        return f"{100 * value:.{digits}f}{unit}" if self.is_share else f"{value:.{digits + 2}f}"


@dataclass(frozen=True)
class ClassSize:
    """The classes of one bucket of `class_sizes.CLASS_SIZES`, and top-1 of their images."""

    least: int
    most: int | None
    classes: int
    top1: Score

    @property
    def label(self) -> str:
        return class_size_label(self.least, self.most)


@dataclass(frozen=True)
class Group:
    """The images of a script or of a source."""

    name: str
    classes: int
    n: int
    top1: Score
    top5: Score
    macro: Score


@dataclass(frozen=True)
class Look:
    """The images of one script and look, such as photographed kana, and the accuracy of accept."""

    group: Group
    accepted: "Verdict | None"

    @property
    def name(self) -> str:
        return self.group.name


@dataclass(frozen=True)
class OfficialTest:
    """A published test set; `why_not` is the reason if there are no scores."""

    source: str
    measure: str
    n: int
    of: int
    is_whole: bool
    why_not: str | None
    over_all_classes: Score | None
    among_its_classes: Score | None

    @property
    def size(self) -> str:
        """Whether these are all images of the test."""
        return "whole" if self.is_whole else f"{self.n:,} of its {self.of:,} images"

    @property
    def scores(self) -> tuple[Score, ...]:
        return tuple(s for s in (self.over_all_classes, self.among_its_classes) if s is not None)


@dataclass(frozen=True)
class Verdict:
    """The accuracy of accept, ask or unknown: on this split, and as measured on val."""

    name: str
    accuracy: Score
    coverage: Score
    top5: Score
    stated_accuracy: Score


@dataclass(frozen=True)
class Detector:
    """A score that tells characters of the index from others, and how well it does so."""

    name: str
    auroc: Score
    fpr95: Score


@dataclass(frozen=True)
class Unknown:
    """Characters outside the index; the verdict `unknown` depends on the first detector."""

    num_images: int
    num_known: int
    classes: int
    detectors: tuple[Detector, ...]
    verdicts: tuple[Score, ...]  # the share that gets each; none without a calibration


@dataclass(frozen=True)
class AnyForm:
    """Scores where any form of the right character counts."""

    top1: Score
    macro: Score
    classes: int  # that have another form


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation: of a split of a dataset, or of other images."""

    split: str
    num_examples: int
    num_classes: int | None
    num_classes_with_examples: int | None  # over which macro means run
    weights: str  # EMA or raw
    step: int | None
    protocol: str | None
    scores: dict[str, Score]  # of the whole split, by key, in reading order
    raw: dict[str, Score]  # the same of the raw weights, where they were scored beside the average
    class_sizes: tuple[ClassSize, ...]
    scripts: tuple[Group, ...]
    looks: tuple[Look, ...]  # none where all images have one look
    sources: tuple[Group, ...]
    official_tests: tuple[OfficialTest, ...]
    any_form: AnyForm | None
    temperature: float | None
    verdicts: tuple[Verdict, ...]
    unknown: Unknown | None
    interval_method: str | None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "EvaluationView":
        """From the content of an eval.json, which has at least split, num_examples and weights."""
        tolerant = content.get("variant_tolerant")
        calibration = content.get("calibration")
        curve = content.get("risk_coverage") or {}
        return cls(
            split=content["split"],
            num_examples=content["num_examples"],
            num_classes=content.get("num_classes"),
            num_classes_with_examples=content.get("num_classes_with_examples"),
            weights="EMA" if content["weights"] == "ema" else content["weights"],
            step=content.get("checkpoint_step"),
            protocol=content.get("protocol"),
            scores=_scores_of({**content, **curve}),
            raw=_scores_of(content.get("raw") or {}),
            class_sizes=tuple(_class_size_of(row) for row in content.get("by_class_size") or ()),
            scripts=_groups_of(content.get("by_script") or ()),
            looks=_looks_of(content.get("by_look") or ()),
            sources=_groups_of(content.get("by_source") or ()),
            official_tests=tuple(_official_of(t) for t in content.get("official_tests") or ()),
            any_form=AnyForm(
                Score.of("top-1, any form of the character counts", tolerant["top1"]),
                Score.of("macro recall, any form of the character counts", tolerant["macro"]),
                tolerant["classes"],
            )
            if tolerant
            else None,
            temperature=calibration["temperature"] if calibration else None,
            verdicts=tuple(_verdict_of(row) for row in content.get("verdicts") or ()),
            unknown=_unknown_of(content["unknown"]) if content.get("unknown") else None,
            interval_method=(content.get("intervals") or {}).get("method"),
        )

    @property
    def images(self) -> str:
        """Which images were scored, in words."""
        return f"{self.split} split" if self.split in SPLITS else self.split

    @property
    def warning(self) -> str | None:
        """A warning to show before any score, if the split leaks."""
        return LEAK_WARNING if self.protocol == LEAKY_PROTOCOL else None

    @property
    def filled_class_sizes(self) -> tuple[ClassSize, ...]:
        """The buckets that have an image in the split."""
        return tuple(row for row in self.class_sizes if row.top1.n)

    @property
    def accepted(self) -> Verdict | None:
        """The verdict accept, if an image got it."""
        found = (v for v in self.verdicts if v.name == "accept" and v.accuracy.value is not None)
        return next(found, None)


def _scores_of(content: Mapping[str, Any]) -> dict[str, Score]:
    """Every {value, n, ci95}: known names first in their order, then the others in theirs."""
    is_score = {
        key: isinstance(value, Mapping) and {"value", "n", "ci95"} <= value.keys()
        for key, value in content.items()
    }
    others = (key for key in content if key not in _NAMES and key not in _REPEATED)
    return {
        key: Score.of(_NAMES.get(key, key), content[key], is_share=key not in _NO_SHARES)
        for key in (*_NAMES, *others)
        if is_score.get(key)
    }


def _class_size_of(row: Mapping[str, Any]) -> ClassSize:
    score = {"value": row["top1"], "n": row["n"], "ci95": row["ci95"]}
    return ClassSize(row["min"], row["max"], row["classes"], Score.of("top-1", score))


def _groups_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Group, ...]:
    return tuple(
        Group(
            row["name"],
            row["classes_with_examples"],
            row["n"],
            *(Score.of(_NAMES[key], row[key]) for key in ("top1", "top5", "macro")),
        )
        for row in rows
    )


def _looks_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Look, ...]:
    if len({row["name"].split()[0] for row in rows}) < 2:
        return ()
    accepted = [
        next((_verdict_of(v) for v in row.get("verdicts") or () if v["verdict"] == "accept"), None)
        for row in rows
    ]
    return tuple(map(Look, _groups_of(rows), accepted))


def _official_of(test: Mapping[str, Any]) -> OfficialTest:
    names = {
        "over_all_classes": "over all classes of the index",
        "among_its_classes": "among its own classes, as published",
    }
    return OfficialTest(
        source=test["source"],
        measure=_MEASURES[test["measure"]],
        n=test["n"],
        of=test["of"],
        is_whole=test["is_whole"],
        why_not=test.get("why_not"),
        **{key: Score.of(name, test[key]) if key in test else None for key, name in names.items()},
    )


def _verdict_of(row: Mapping[str, Any]) -> Verdict:
    stated = {"value": row["stated_accuracy"], "n": row["accuracy"]["n"], "ci95": None}
    return Verdict(
        row["verdict"],
        accuracy=Score.of("right", row["accuracy"]),
        coverage=Score.of("share", row["coverage"]),
        top5=Score.of("in the top 5", row["top5"]),
        stated_accuracy=Score.of("val said", stated),
    )


def _unknown_of(content: Mapping[str, Any]) -> Unknown:
    return Unknown(
        num_images=content["n_unknown"],
        num_known=content["n_known"],
        classes=content["classes"],
        detectors=tuple(
            Detector(
                row["score"].replace("_", " "),
                Score.of("AUROC", row["auroc"], is_share=False),
                Score.of("FPR at 95 %", row["fpr95"]),
            )
            for row in content["by_score"]
        ),
        verdicts=tuple(Score.of(k, score) for k, score in (content["verdicts"] or {}).items()),
    )
