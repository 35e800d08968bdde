"""The text of docs/RESULTS.md, from the summaries that scripts/results.py gathers."""

from collections.abc import Mapping, Sequence
from typing import Any

# What a recipe can vary. An axis is tested by a run whose summary names it, and not before.
AXES = {
    "sampling exponent": "`data.sampling_exponent`: class share ~ size to this power",
    "mixup or cutout": "mixing or erasing parts of images in training",
    "label smoothing": "`loss.label_smoothing`",
    "logit adjustment": "subtracting the log frequency of a class (arXiv:2007.07314)",
    "cosine head": "a classifier of normalised features and weights",
    "stem stride or input size": "`model.stem_stride` 1, or `model.image_px` other than 64",
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


def page(
    summaries: Sequence[dict[str, Any]],
    crops: Mapping[str, dict[str, Any]] | None = None,
    floors: Mapping[str, dict[str, Any]] | None = None,
) -> str:
    """The whole of docs/RESULTS.md; summaries in the order of their names.

    `crops` are the summaries of scripts/page_crops.py, by model, and `floors` those of
    scripts/nearest_neighbour.py, by dataset.
    """
    tested = {summary["axis"] for summary in summaries}
    unknown = sorted(tested - AXES.keys() - {None})
    if unknown:
        raise ValueError(f"no such axis: {unknown[0]}; wanted one of {', '.join(AXES)}")
    runs = [summary for summary in summaries if summary["axis"] is None]
    parts = [_HEAD, _overview(runs)]
    parts += [_floors_section(floors)] if floors else []
    parts += [_section(summary) for summary in runs]
    parts += [
        _comparison(axis, [summary for summary in summaries if summary["axis"] == axis])
        for axis in AXES
        if axis in tested
    ]
    parts += [_crops_section(name, summary) for name, summary in (crops or {}).items()]
    missing = [f"- {name}: {what}" for name, what in AXES.items() if name not in tested]
    parts.append("## Not tested\n\nNo run here varies any of these, so nothing is known of them:")
    parts.append("\n".join(missing) or "Nothing: every axis has a run.")
    return "\n\n".join(parts) + "\n"


_HEAD = """# Results

<!-- Written by `python scripts/results.py` from docs/results/*.json: edit those, or the script. -->

Every number stands with its split and its n, the number of images it rests on; brackets hold 95 %
intervals (percentile bootstrap over images; the exact binomial bound where all are right or all
wrong). *Macro* is the mean recall of the classes that have an image in the split. *ECE* is the mean
gap between probability and accuracy over 15 bins of equally many images, before and after a
temperature fitted on val. Runs are kept whether their result is good or bad."""


def _overview(summaries: Sequence[dict[str, Any]]) -> str:
    rows = []
    for summary in summaries:
        test, training = summary["splits"]["test"], summary["training"]
        rows.append([
            f"[{summary['name']}](#{summary['name']})",
            f"{summary['network'].upper()}, {test['num_classes']:,} classes, "
            f"{summary['dataset']['protocol']}",
            f"{test['num_examples']:,}",
            _score(test["top1"]),
            _score(test["macro"]),
            f"{training['steps']:,} × {training['image_steps'] // training['steps']}",
            f"{training['hardware']}, {training['elapsed_s'] / 60:.0f} min",
        ])  # fmt: skip
    head = ["run", "what", "test n", "top-1", "macro", "steps × images", "hardware, time"]
    return _table(head, rows)


def _comparison(axis: str, summaries: Sequence[dict[str, Any]]) -> str:
    """Runs that differ in one thing, side by side."""
    common: set[str] = set()
    if len(summaries) > 1:
        common = set.intersection(*(set(summary["config_differences"]) for summary in summaries))
    rows = []
    for summary in summaries:
        varied = [f"`{line}`" for line in summary["config_differences"] if line not in common]
        for name, scores in summary["splits"].items():
            rows.append([
                summary["name"], "; ".join(varied) or "as it is", name,
                f"{scores['num_examples']:,}", _score(scores["top1"]), _score(scores["macro"]),
                f"{summary['training']['elapsed_s'] / 60:.0f} min",
            ])  # fmt: skip
    first = summaries[0]
    return "\n\n".join([
        f"## Comparison: {axis}",
        f"What varies: {AXES[axis]}. {first['title']}",
        *first["remarks"],
        _table(["run", "its difference", "split", "n", "top-1", "macro", "training"], rows),
        "```bash\n" + "\n".join(first["commands"]) + "\n```",
    ])  # fmt: skip


def _floors_section(floors: Mapping[str, dict[str, Any]]) -> str:
    rows = [
        [name, f"{floor['num_classes']:,}, {floor['protocol']}", f"{floor['num_train']:,}",
         f"{floor['top1']['n']:,}", _score(floor["top1"]), _score(floor["macro"])]
        for name, floor in floors.items()
    ]  # fmt: skip
    return "\n\n".join([
        "What a method that learns nothing scores on the same test images: the class of the "
        "training image whose blurred pixels, at 32x32, correlate best.",
        _table(["dataset", "classes", "training images", "test n", "top-1", "macro"], rows),
        "```bash\npython scripts/nearest_neighbour.py DATASET --add NAME\n```",
    ])  # fmt: skip


def _section(summary: dict[str, Any]) -> str:
    test = summary["splits"]["test"]
    parts = [f"## {summary['name']}", summary["title"]]
    parts += summary["remarks"]
    parts.append("```bash\n" + "\n".join(summary["commands"]) + "\n```")
    changed = "; ".join(f"`{line}`" for line in summary["config_differences"]) or "nothing"
    parts.append(f"Differs from the default run in: {changed}.")
    rows = []
    for name, content in summary["splits"].items():
        label = f"{name}, {content['weights'].upper()} weights"
        rows.append([label, f"{content['num_examples']:,}"]
                    + [_score(content[key]) for key in _COLUMNS])  # fmt: skip
        if "raw" in content:
            raw = [_score(content["raw"].get(key)) for key in _COLUMNS]
            rows.append([f"{name}, raw weights", f"{content['num_examples']:,}", *raw])
    parts.append(_table(["split", "n", *_COLUMNS.values()], rows))
    sizes = [row for row in test["by_class_size"] if row["classes"]]
    parts.append("On test, by training images of a class:")
    parts.append(_table(
        ["training images", "classes", "n", "top-1"],
        [[_range(row), f"{row['classes']:,}", f"{row['n']:,}",
          _score({"value": row["top1"], "ci95": row["ci95"]})] for row in sizes],
    ))  # fmt: skip
    for row in test["official_tests"]:
        parts.append(_official(row))
    if test.get("variant_tolerant"):
        tolerant = test["variant_tolerant"]
        parts.append(
            f"Counting any form of the right character: top-1 {_score(tolerant['top1'])}, macro "
            f"{_score(tolerant['macro'])}; {tolerant['classes']} classes have another form."
        )
    if test["verdicts"]:
        parts.append(
            f"Verdicts on test, fitted on val (temperature "
            f"{test['calibration']['temperature']:.3f}):"
        )
        parts.append(_table(
            ["verdict", "n", "share", "right", "val said", "in the top 5"],
            [[row["verdict"], f"{row['accuracy']['n']:,}", _score(row["coverage"]),
              _score(row["accuracy"]), _percent(row["stated_accuracy"]), _score(row["top5"])]
             for row in test["verdicts"]],
        ))  # fmt: skip
    if "unknown" in test:
        parts.append(_unknown(test["unknown"]))
    return "\n\n".join(parts)


_COLUMNS = {"top1": "top-1", "top5": "top-5", "macro": "macro", "macro_f1": "macro F1",
            "ece": "ECE", "ece_calibrated": "ECE, calibrated"}  # fmt: skip


def _crops_section(name: str, summary: dict[str, Any]) -> str:
    report, tuning = summary["halves"]["report"], summary["halves"]["tuning"]
    rows = [
        [step, _score(tuning["kanji_by_step"][step]), _score(score)]
        for step, score in report["kanji_by_step"].items()
    ]
    for key, what in (
        ("kanji_unlike_training", "of these, kanji unlike any training image (correlation ≤ 0.9)"),
        ("kana", "kana that the model knows"),
    ):
        scores = [half.get(key) for half in (tuning, report)]
        if any(scores):
            n = " and ".join(str(score["n"] if score else 0) for score in scores)
            rows.append([f"{what}, n = {n}", *map(_score, scores)])
    nums = [next(iter(half["kanji_by_step"].values()))["n"] for half in (tuning, report)]
    misread = [f"{pair} ({count})" for pair, count in report["misread"].items()]
    return "\n\n".join([
        f"## Photographed crops: {name}",
        f"{summary['num_crops']:,} crops of {summary['num_pages']} pages of one book (200010454), "
        f"as a reader would cut them; {summary['num_known']:,} show a character that the model "
        "knows. Half of the pages, by the digest of their names, served to tune `glyph_image`; the "
        "other half reports. Each row adds a step.",
        "```bash\npython scripts/page_crops.py CROPS --model M --dataset data/release\n```",
        _table(
            ["top-1 of kanji", f"tuning half, n = {nums[0]}", f"reporting half, n = {nums[1]}"],
            rows,
        ),
        f"Misread in the reporting half: {', '.join(misread)}.",
    ])  # fmt: skip


def _official(row: dict[str, Any]) -> str:
    size = "whole" if row["is_whole"] else f"{row['n']:,} of its {row['of']:,} images"
    if "why_not" in row:
        return f"Official test {row['source']} ({size}): no score, for {row['why_not']}."
    return (
        f"Official test {row['source']} ({size}), {row['measure']}: "
        f"{_score(row['over_all_classes'])} over all classes, "
        f"{_score(row['among_its_classes'])} among its own."
    )


def _unknown(unknown: dict[str, Any]) -> str:
    rows = [
        [row["score"].replace("_", " "), _number(row["auroc"]), _score(row["fpr95"])]
        for row in unknown["by_score"]
    ]
    text = (
        f"Characters outside the index ({unknown['n_unknown']:,} images of "
        f"{unknown['classes']:,} characters, against {unknown['n_known']:,} of test), told by "
        "different scores; the verdict *unknown* goes by the first, which was chosen for this, on "
        "images of the same kind:"
    )
    parts = [text, _table(["score", "AUROC", "FPR at 95 %"], rows)]
    if unknown["verdicts"]:
        given = [f"{_score(score)} {name}" for name, score in unknown["verdicts"].items()]
        parts.append(f"Their verdicts: {', '.join(given)}.")
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _score(score: dict[str, Any] | None) -> str:
    if score is None or score["value"] is None:
        return "–"
    low, high = score["ci95"] or (None, None)
    reach = "" if low is None or high is None else f" ({100 * low:.1f}–{100 * high:.1f})"
    return f"{_percent(score['value'])}{reach}"


def _number(score: dict[str, Any]) -> str:
    return f"{score['value']:.3f} ({score['ci95'][0]:.3f}–{score['ci95'][1]:.3f})"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _range(row: dict[str, Any]) -> str:
    if row["max"] is None:
        return f"{row['min']} and more"
    return str(row["min"]) if row["min"] == row["max"] else f"{row['min']}–{row['max']}"
