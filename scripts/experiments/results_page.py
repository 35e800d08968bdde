"""The text of docs/RESULTS.md, from the summaries that scripts/experiments/results.py gathers."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from results_comparisons import (
    AXES,
    ablations_section,
    axes_of,
    comparison,
    without_training_section,
)
from results_tables import as_number, as_percent, as_score, as_span, as_table


def page(
    summaries: Sequence[dict[str, Any]],
    tables: Mapping[str, Mapping[str, dict[str, Any]]] = MappingProxyType({}),
) -> str:
    """The whole of docs/RESULTS.md; summaries in the order of their names.

    `tables` are what other scripts found, by kind and name: page_crops, floors (by
    nearest_neighbour), ablations, without_training and photographs.
    """
    kinds = ("page_crops", "floors", "ablations", "without_training", "photographs")
    crops, floors, ablations, untrained, photographs = (tables.get(kind, {}) for kind in kinds)
    tested = axes_of(summaries, ablations.values(), untrained.values())
    runs = [summary for summary in summaries if summary["axis"] is None]
    runs.sort(key=lambda summary: summary["name"] != "released")  # which readers come for
    parts = [_HEAD, _overview(runs)]
    parts += [_floors_section(floors)] if floors else []
    parts += [_section(summary) for summary in runs]
    parts += [
        comparison(axis, [summary for summary in summaries if summary["axis"] == axis])
        for axis in AXES
        if any(summary["axis"] == axis for summary in summaries)
    ]
    parts += [ablations_section(name, table) for name, table in ablations.items()]
    parts += [without_training_section(name, table) for name, table in untrained.items()]
    parts += [_photographs_section(photographs)] if photographs else []
    parts += [_crops_section(name, summary) for name, summary in crops.items()]
    missing = [f"- {name}: {what}" for name, what in AXES.items() if name not in tested]
    parts.append("## Not tested\n\nNo run here varies any of these, so nothing is known of them:")
    parts.append("\n".join(missing) or "Nothing: every axis has a run.")
    return "\n\n".join(parts) + "\n"


_HEAD = """# Results

<!-- Written by `python scripts/experiments/results.py` from docs/results/*.json:
edit those, or the script. -->

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
            as_score(test["top1"]),
            as_score(test["macro"]),
            f"{training['steps']:,} × {training['image_steps'] // training['steps']}",
            f"{training['hardware']}, {training['elapsed_s'] / 60:.0f} min",
        ])  # fmt: skip
    head = ["run", "what", "test n", "top-1", "macro", "steps × images", "hardware, time"]
    return as_table(head, rows)


def _floors_section(floors: Mapping[str, dict[str, Any]]) -> str:
    rows = [
        [name, f"{floor['num_classes']:,}, {floor['protocol']}", f"{floor['num_train']:,}",
         f"{floor['top1']['n']:,}", as_score(floor["top1"]), as_score(floor["macro"])]
        for name, floor in floors.items()
    ]  # fmt: skip
    return "\n\n".join([
        "What a method that learns nothing scores on the same test images: the class of the "
        "training image whose blurred pixels, at 32x32, correlate best.",
        as_table(["dataset", "classes", "training images", "test n", "top-1", "macro"], rows),
        "```bash\npython scripts/experiments/nearest_neighbour.py DATASET --add NAME\n```",
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
                    + [as_score(content[key]) for key in _COLUMNS])  # fmt: skip
        if "raw" in content:
            raw = [as_score(content["raw"].get(key)) for key in _COLUMNS]
            rows.append([f"{name}, raw weights", f"{content['num_examples']:,}", *raw])
    parts.append(as_table(["split", "n", *_COLUMNS.values()], rows))
    sizes = [row for row in test["by_class_size"] if row["classes"]]
    parts.append("On test, by training images of a class:")
    parts.append(as_table(
        ["training images", "classes", "n", "top-1"],
        [[as_span(row), f"{row['classes']:,}", f"{row['n']:,}",
          as_score({"value": row["top1"], "ci95": row["ci95"]})] for row in sizes],
    ))  # fmt: skip
    if len(test.get("by_look", ())) > 2:  # published and photographed
        parts.append("On test, by look and script:")
        parts.append(_looks_table(test["by_look"]))
    for row in test["official_tests"]:
        parts.append(_official(row))
    if test.get("variant_tolerant"):
        tolerant = test["variant_tolerant"]
        parts.append(
            f"Counting any form of the right character: top-1 {as_score(tolerant['top1'])}, macro "
            f"{as_score(tolerant['macro'])}; {tolerant['classes']} classes have another form."
        )
    if test["verdicts"]:
        parts.append(
            f"Verdicts on test, fitted on val (temperature "
            f"{test['calibration']['temperature']:.3f}):"
        )
        parts.append(as_table(
            ["verdict", "n", "share", "right", "val said", "in the top 5"],
            [[row["verdict"], f"{row['accuracy']['n']:,}", as_score(row["coverage"]),
              as_score(row["accuracy"]), as_percent(row["stated_accuracy"]), as_score(row["top5"])]
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
        [step, as_score(tuning["kanji_by_step"][step]), as_score(score)]
        for step, score in report["kanji_by_step"].items()
    ]
    for key, what in (
        ("kanji_unlike_training", "of these, kanji unlike any training image (correlation ≤ 0.9)"),
        ("kana", "kana that the model knows"),
    ):
        scores = [half.get(key) for half in (tuning, report)]
        if any(scores):
            n = " and ".join(str(score["n"] if score else 0) for score in scores)
            rows.append([f"{what}, n = {n}", *map(as_score, scores)])
    nums = [next(iter(half["kanji_by_step"].values()))["n"] for half in (tuning, report)]
    misread = [f"{pair} ({count})" for pair, count in report["misread"].items()]
    return "\n\n".join([
        f"## Photographed crops: {name}",
        f"{summary['num_crops']:,} crops of {summary['num_pages']} pages of one book (200010454), "
        f"as a reader would cut them; {summary['num_known']:,} show a character that the model "
        "knows. Half of the pages, by the digest of their names, served to tune `glyph_image`; the "
        "other half reports. Each row adds a step.",
        "```bash\npython scripts/experiments/page_crops.py CROPS --model M "
        "--dataset data/release\n```",
        as_table(
            ["top-1 of kanji", f"tuning half, n = {nums[0]}", f"reporting half, n = {nums[1]}"],
            rows,
        ),
        f"Misread in the reporting half: {', '.join(misread)}.",
    ])  # fmt: skip


def _looks_table(rows: Sequence[dict[str, Any]]) -> str:
    """Each look and script, with what its accepted readings are worth."""
    cells = []
    for row in rows:
        accept = [each for each in row.get("verdicts", ()) if each["verdict"] == "accept"]
        worth = [f"{each['accuracy']['n']:,}: {as_score(each['accuracy'])}" for each in accept]
        cells.append([
            row["name"], f"{row['n']:,}", as_score(row["top1"]), as_score(row["macro"]),
            *(worth or ["–"]),
        ])  # fmt: skip
    return as_table(["part", "n", "top-1", "macro", "accepted: right"], cells)


def _photographs_section(photographs: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, summary in photographs.items():
        for row in summary["rows"]:
            accept = row["verdicts"]["accept"]
            books = ", ".join(row["books"]) if len(row["books"]) < 3 else len(row["books"])
            rows.append([
                name, f"{row['set']}, {row['role']} ({books})", row["script"],
                f"{row['n']:,} ({row['num_known']:,})", as_score(row["top1"]),
                f"{accept['n']:,}: {as_score(accept)}" if accept["n"] else "0",
            ])  # fmt: skip
    return "\n\n".join([
        "## Photographed pages",
        "Every labelled character of `page_scans` (boxes on 15 pages of ten books, 1,026 of them "
        "exact, the others derived, some of which are badly cut) and of `page_crops` (a book that "
        "no training image is from). n counts all; in brackets, those whose character the model "
        "knows: the others are misread by it, whatever it says. A book is train, val or test as "
        "in the dataset; the pages of train books were cut into training images.",
        "```bash\npython scripts/experiments/photographs.py --model M --dataset data/release "
        "--scans SCANS --crops CROPS --add NAME\n```",
        as_table(
            ["model", "set, book", "script", "n (known)", "top-1", "accepted: right"], rows
        ),
    ])  # fmt: skip


def _official(row: dict[str, Any]) -> str:
    size = "whole" if row["is_whole"] else f"{row['n']:,} of its {row['of']:,} images"
    if "why_not" in row:
        return f"Official test {row['source']} ({size}): no score, for {row['why_not']}."
    return (
        f"Official test {row['source']} ({size}), {row['measure']}: "
        f"{as_score(row['over_all_classes'])} over all classes, "
        f"{as_score(row['among_its_classes'])} among its own."
    )


def _unknown(unknown: dict[str, Any]) -> str:
    rows = [
        [row["score"].replace("_", " "), as_number(row["auroc"]), as_score(row["fpr95"])]
        for row in unknown["by_score"]
    ]
    text = (
        f"Characters outside the index ({unknown['n_unknown']:,} images of "
        f"{unknown['classes']:,} characters, against {unknown['n_known']:,} of test), told by "
        "different scores; the verdict *unknown* goes by the first:"
    )
    parts = [text, as_table(["score", "AUROC", "FPR at 95 %"], rows)]
    if unknown["verdicts"]:
        given = [f"{as_score(score)} {name}" for name, score in unknown["verdicts"].items()]
        parts.append(f"Their verdicts: {', '.join(given)}.")
    return "\n\n".join(parts)
