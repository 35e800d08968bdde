"""The content of docs/RESULTS.md, from the summaries that scripts/experiments/results.py collects.

The layout is kkanji_jax/reporting/templates/results.md.j2; this file makes the content of its
tables.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kkanji_jax.evaluation.intervals import share
from kkanji_jax.reporting.evaluation_view import EvaluationView, Score
from kkanji_jax.reporting.rendering import render

# What a recipe can vary. An axis is tested by a run that varies it, and not before.
AXES = {
    "sampling exponent": "`data.sampling_exponent`: class share ~ size to this power",
    "mixup or cutout": "mixing or erasing parts of images in training",
    "label smoothing": "`loss.label_smoothing`",
    "logit adjustment": "subtracting the log frequency of a class (arXiv:2007.07314)",
    "cosine head": "a classifier of normalised features and weights; "
    "[one try](training.md#strides-and-input-size), outside the project",
    "stem stride or input size": "`model.stem_stride` 1, or `model.image_px` other than 64",
    "last stride": "`model.last_stride` 1",
    "weight decay": "`optim.weight_decay`",
    "augmentation strength": "`augment.policy`",
    "last epochs without augmentation": "clean images at the end of training",
    "small-shift averaging": "averaging the answers to shifted copies at test",
    "network size": "B1 to B7 instead of B0",
    "activations in bfloat16": "`model.dtype`",
    "seed": "the same run with another `seed`",
    "5050 protocol": "half of each class for training, as the published 94.28 %",
    "legacy protocol": "balanced first, split afterwards, against the honest split",
    "audit": "with and without the images that the audit drops",
}
_AXIS_OF_FIELD = {
    "data.sampling_exponent": "sampling exponent",
    "augment.mixup_alpha": "mixup or cutout",
    "loss.label_smoothing": "label smoothing",
    "model.stem_stride": "stem stride or input size",
    "model.image_px": "stem stride or input size",
    "model.last_stride": "last stride",
    "optim.weight_decay": "weight decay",
    "augment.policy": "augmentation strength",
    "model.dtype": "activations in bfloat16",
}
_NO_AXIS = {"epochs", "init_from"}  # of a run in two stages


# scripts/experiments/without_training.py varies these in a run that is there.
_AXES_WITHOUT_TRAINING = {"logit adjustment", "small-shift averaging", "audit"}


def axes_of(
    summaries: Iterable[dict[str, Any]],
    ablations: Iterable[dict[str, Any]],
    untrained: Iterable[dict[str, Any]],
) -> set[str]:
    """The axes that a table varies; ValueError for one that AXES does not have."""
    tested = {summary["axis"] for summary in summaries} - {None}
    if unknown := tested - AXES.keys():
        raise ValueError(f"no such axis: {min(unknown)}; expected one of {', '.join(AXES)}")
    tested |= {f"{summary['dataset']['protocol']} protocol" for summary in summaries} & AXES.keys()
    tables = [table["rows"] for table in ablations]
    changes = [line for rows in tables for row in rows for line in row["changes"]]
    fields = {line.partition(":")[0] for line in changes} - _NO_AXIS
    tested |= {_AXIS_OF_FIELD[field] for field in fields}
    if any(len(row["runs"]) > 1 for rows in tables for row in rows):  # which differ in their seed
        tested.add("seed")
    return tested | _AXES_WITHOUT_TRAINING if list(untrained) else tested


_COLUMNS = {
    "top1": "top-1",
    "top5": "top-5",
    "macro": "macro",
    "macro_f1": "macro F1",
    "ece": "ECE",
    "ece_calibrated": "ECE, calibrated",
}


def page(
    summaries: Sequence[dict[str, Any]],
    tables: Mapping[str, Mapping[str, dict[str, Any]]] = MappingProxyType({}),
) -> str:
    """The whole of docs/RESULTS.md; summaries in the order of their names.

    `tables` are what other scripts found, by kind and name: page_crops, floors (by
    nearest_neighbour), ablations, without_training, photographs, page_text, turned_images, cut_off,
    verdicts and glyph_kinds (there `before` is what the others are compared with).
    """
    kinds = ("page_crops", "floors", "ablations", "without_training", "photographs")
    crops, floors, ablations, untrained, photographs = (tables.get(kind, {}) for kind in kinds)
    tested = axes_of(summaries, ablations.values(), untrained.values())
    runs = [_run(summary) for summary in summaries if summary["axis"] is None]
    runs.sort(key=lambda run: run["name"] != "released")  # which readers come for
    compared = {
        axis: [_run(summary) for summary in summaries if summary["axis"] == axis] for axis in AXES
    }
    return render(
        "results.md.j2",
        {
            "columns": _COLUMNS,
            "runs": runs,
            "floors": [
                {**floor, "name": name, **_top1_and_macro(floor)} for name, floor in floors.items()
            ],
            "comparisons": [
                {"axis": axis, "what": AXES[axis], "groups": _groups(found)}
                for axis, found in compared.items()
                if found
            ],
            "ablations": [_ablation(name, table) for name, table in ablations.items()],
            "without_training": [
                _without_training(name, table) for name, table in untrained.items()
            ],
            "photographs": [
                _photographs(name, row)
                for name, summary in photographs.items()
                for row in summary["rows"]
            ],
            "texts": [
                _page_text(name, table) for name, table in tables.get("page_text", {}).items()
            ],
            "turned": [
                _turned_images(name, table)
                for name, table in tables.get("turned_images", {}).items()
            ],
            "cut_off": [_cut_off(name, table) for name, table in tables.get("cut_off", {}).items()],
            "kinds": _glyph_kinds(tables.get("glyph_kinds", {})),
            "verdicts": [
                _verdicts(name, table) for name, table in tables.get("verdicts", {}).items()
            ],
            "crops": [_crops(name, summary) for name, summary in crops.items()],
            "untested": {name: what for name, what in AXES.items() if name not in tested},
        },
    )


def _run(summary: dict[str, Any]) -> dict[str, Any]:
    protocol = summary["dataset"]["protocol"]
    evaluations = {
        split: EvaluationView.of({**content, "split": split, "protocol": protocol})
        for split, content in summary["splits"].items()
    }
    return {**summary, "protocol": protocol, "evaluations": evaluations}


def _top1_and_macro(scores: Mapping[str, Any]) -> dict[str, Score]:
    return {key: Score.of(key, scores[key]) for key in ("top1", "macro")}


def _groups(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs that differ in one thing: a table for all that share a title."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        tables.setdefault(run["title"], []).append(run)
    return [{"runs": found, "common": _common_differences(found)} for found in tables.values()]


def _common_differences(runs: Sequence[dict[str, Any]]) -> set[str]:
    if len(runs) < 2:
        return set()
    return set.intersection(*(set(run["config_differences"]) for run in runs))


def _ablation(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """One change at a time, against the first row."""
    base = table["rows"][0]["runs"]

    def scores_of(runs: Sequence[dict[str, Any]], score: str) -> dict[str, str]:
        values = {run["seed"]: run[score]["value"] for run in runs}
        gains = [values[run["seed"]] - run[score]["value"] for run in base if run["seed"] in values]
        return {
            "by_seed": ", ".join(f"{100 * value:.1f}" for value in values.values()),
            "mean": f"{100 * sum(values.values()) / len(values):.1f} %",
            "gain": "" if runs is base else f"{100 * sum(gains) / len(gains):+.1f}",
        }

    low, high = base[0]["top1"]["ci95"]
    return {
        "name": name,
        "hardware": table["hardware"],
        "first": base[0],
        "half_interval": 50 * (high - low),
        "rows": [
            {
                "name": row["name"],
                "changes": row["changes"],
                "top1": scores_of(row["runs"], "top1"),
                "macro": scores_of(row["runs"], "macro"),
                "elapsed_s": sum(run["elapsed_s"] for run in row["runs"]) / len(row["runs"]),
            }
            for row in table["rows"]
        ],
    }


def _verdicts(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """Verdicts by the probability and with a support, of the same images; scores and AUROC."""

    def scores_of(told: Mapping[str, Any]) -> dict[str, Any]:
        return {key: Score.of(key, told[key]) for key in told if key != "n"}

    methods = list(table["verdicts"])
    first = table["verdicts"][methods[0]]
    rows = [
        {
            "what": what,
            "n": first[what]["n"],
            "by_method": [scores_of(table["verdicts"][method][what]) for method in methods],
        }
        for what in first
    ]
    return {
        **table,
        "name": name,
        "methods": methods,
        "tests": [row for row in rows if row["what"].startswith("test")],
        "odd": [row for row in rows if not row["what"].startswith("test")],
    }


def _without_training(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """What a run's scores become when nothing is trained anew."""
    as_it_is = table["rows"]["as it is"]

    def gain(scores: dict[str, Any], key: str) -> str:
        if scores is as_it_is:
            return ""
        return f"{100 * (scores[key]['value'] - as_it_is[key]['value']):+.1f}"

    rows = [
        {
            "name": what,
            **_top1_and_macro(scores),
            "top1_gain": gain(scores, "top1"),
            "macro_gain": gain(scores, "macro"),
            "photographed": Score.of("top1", scores[part])
            if (part := "photographed") in scores
            else None,
        }
        for what, scores in table["rows"].items()
    ]
    means = " ".join(what for what in table["rows"] if what.startswith("mean of"))
    copies = next((kind for kind in ("places", "sizes") if kind in means), "none")
    return {"name": name, "rows": rows, "copies": copies}


def _photographs(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """A script in one set of photographed pages, as the model `name` reads it."""
    return {
        **row,
        "name": name,
        "top1": Score.of("top-1", row["top1"]),
        "accept": Score.of("right", row["verdicts"]["accept"]),
        "shown_books": ", ".join(row["books"]) if len(row["books"]) < 3 else len(row["books"]),
    }


def _page_text(name: str, summary: dict[str, Any]) -> dict[str, Any]:
    """Whole pages as the model `name` reads them: characters, order, texts."""
    rows = [
        {
            **row,
            **{key: Score.of(key, row[key]) for key in ("best", "accepted", "accepted_right")},
        }
        for row in summary["characters"]
    ]
    kept = Score.of("neighbours kept", summary["order"]["pairs_kept"])
    return {**summary, "name": name, "rows": rows, "kept": kept}


def _turned_images(name: str, summary: dict[str, Any]) -> dict[str, Any]:
    """Images in four turns as the model `name` reads them, without and with --orient auto."""

    def scores(row: dict[str, Any]) -> dict[str, Score]:
        named = ("right", "right_auto", "wrong_accepts", "wrong_accepts_auto")
        lost = Score.of("lost", share(row["accepts_lost"], row["accepts"]))
        return {"lost": lost} | {n: Score.of(n, share(row[n], row["n"])) for n in named}

    def shown_of(row: dict[str, Any]) -> str:
        return row["look"] if row["script"] == "all" else f"{row['look']} {row['script']}"

    rows = [{**row, **scores(row), "shown": shown_of(row)} for row in summary["rows"]]
    return {**summary, "name": name, "rows": rows}


def _cut_off(name: str, summary: dict[str, Any]) -> dict[str, Any]:
    """Whole characters and halves that the model `name` accepts, by the support that it asks of cut
    strokes: a row for each set and number of nats."""
    rows = [
        {
            "shown": each["name"],
            "n": each["n"],
            "nats": "never" if row["nats"] is None else f"{row['nats']:g}",
            "accepted": Score.of("accepted", share(row["accepted"], each["n"])),
            "right": Score.of("right", share(row["right"], row["accepted"])),
            "halves": Score.of("halves", share(row["halves"], each["n"])),
        }
        for each in summary["sets"]
        for row in each["rows"]
    ]
    return {**summary, "name": name, "rows": rows}


def _glyph_kinds(found: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Perturbed images: for each model but `before`, a row for each kind, beside `before`'s."""

    def shares(counts: dict[str, Any] | None) -> dict[str, Score] | None:
        names = ("right", "wrong_accepts")
        return counts and {name: Score.of(name, share(counts[name], counts["n"])) for name in names}

    before = found.get("before", {"kinds": {}, "n": 0})
    return [
        {
            "name": name,
            "n": summary["n"],
            "n_before": before["n"],
            "rows": [
                {"kind": kind, "now": shares(counts), "before": shares(before["kinds"].get(kind))}
                for kind, counts in summary["kinds"].items()
            ],
        }
        for name, summary in found.items()
        if name != "before"
    ]


def _crops(name: str, summary: dict[str, Any]) -> dict[str, Any]:
    """Photographed crops: a row for each step of `glyph_image`, then parts of the whole."""
    halves = [summary["halves"][half] for half in ("tuning", "report")]

    def pair(scores: Sequence[dict[str, Any] | None]) -> list[Score | None]:
        return [Score.of("top-1", score) if score else None for score in scores]

    steps = halves[1]["kanji_by_step"]
    rows = [(step, pair([half["kanji_by_step"][step] for half in halves])) for step in steps]
    for key, what in (
        ("kanji_unlike_training", "of these, kanji unlike any training image (correlation ≤ 0.9)"),
        ("kana", "kana that the model knows"),
    ):
        scores = [half.get(key) for half in halves]
        if any(scores):
            n = " and ".join(str(score["n"] if score else 0) for score in scores)
            rows.append((f"{what}, n = {n}", pair(scores)))
    return {
        **summary,
        "name": name,
        "num_kanji": [next(iter(half["kanji_by_step"].values()))["n"] for half in halves],
        "rows": rows,
        "misread": [f"{read} ({count})" for read, count in halves[1]["misread"].items()],
    }
