"""docs/RESULTS.md from the summaries in docs/results/*.json, and those from the folders of runs.

    python scripts/results.py                      # writes docs/RESULTS.md
    python scripts/results.py --check              # says whether it is what the summaries give
    python scripts/results.py --add runs/b0-100 --title "..." --hardware "..." [--axis NAME]

A run is added once evaluated (kkanji_jax.evaluate). A summary holds scores with their n, the
config's differences from the default, the dataset's fingerprint, steps, time and commands; it stays
when the result is a bad one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUMMARIES, PAGE = ROOT / "docs" / "results", ROOT / "docs" / "RESULTS.md"
VERSION = 1
SPLITS = ("test", "val", "train")
SCORES = ("top1", "top5", "macro", "macro_precision", "macro_f1", "weighted_precision",
          "weighted_f1", "loss", "ece", "ece_calibrated", "loss_calibrated", "by_class_size",
          "by_script", "by_source", "official_tests", "variant_tolerant", "verdicts", "unknown",
          "raw", "num_examples", "num_classes", "num_classes_with_examples", "weights",
          "checkpoint", "checkpoint_step", "calibration")  # fmt: skip
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
    "seed": "the same run with another `seed`",
    "5050 protocol": "half of each class for training, as the published 94.28 %",
    "legacy protocol": "balanced first, split afterwards, against the honest split",
    "audit": "with and without the images that the audit drops",
}


def summary_of(workdir: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The summary of an evaluated run, as plain data; ValueError names what is missing."""
    from kkanji_jax.config import default_config, differences

    splits = {}
    for split in SPLITS:
        path = workdir / "eval" / split / "eval.json"
        if path.is_file():
            splits[split] = _read(path)
    if "test" not in splits:
        raise ValueError(f"{workdir} has no eval/test/eval.json: run kkanji_jax.evaluate first")
    if len({content["dataset_fingerprint"] for content in splits.values()}) > 1:
        raise ValueError(f"the evaluations in {workdir} are of different datasets")
    config, env = _read(workdir / "config.json"), _read(workdir / "env.json")
    changed = [line for line in differences(default_config().to_dict(), config)
               if not line.startswith("data.dataset:")]  # fmt: skip
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    test = splits["test"]
    return {
        "version": VERSION,
        "name": workdir.name,
        "title": args.title,
        "axis": args.axis,
        "remarks": args.remark,
        "network": config["model"]["variant"],
        "config_differences": changed,
        "dataset": {
            "fingerprint": test["dataset_fingerprint"],
            "protocol": test["protocol"],
            "pool_official": test["pool_official"],
            "num_classes": test["num_classes"],
        },
        "training": {
            "steps": last["step"],
            "image_steps": last["examples"],
            "epochs": last["epoch"],
            "elapsed_s": last["elapsed_s"],
            "hardware": args.hardware,
            "commit": env["commit"],
            "versions": env["versions"],
        },
        "commands": args.command,
        "splits": {name: _scores_of(content) for name, content in splits.items()},
    }


def _scores_of(content: dict[str, Any]) -> dict[str, Any]:
    """The scores of an eval.json; where its files lay on some machine is nobody's business."""
    scores = {key: content[key] for key in SCORES if key in content}
    if "unknown" in scores:
        scores["unknown"] = {k: v for k, v in scores["unknown"].items() if k != "source"}
    return scores


def page(summaries: Sequence[dict[str, Any]]) -> str:
    """The whole of docs/RESULTS.md; summaries in the order of their names."""
    tested = {summary["axis"] for summary in summaries}
    unknown = sorted(tested - AXES.keys() - {None})
    if unknown:
        raise ValueError(f"no such axis: {unknown[0]}; wanted one of {', '.join(AXES)}")
    parts = [_HEAD, _overview(summaries)]
    parts += [_section(summary) for summary in summaries]
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


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def load_summaries(folder: Path = SUMMARIES) -> list[dict[str, Any]]:
    """All summaries, by name; ValueError for one of another version."""
    found = []
    for path in sorted(folder.glob("*.json")):
        summary = _read(path)
        if summary.get("version") != VERSION:
            raise ValueError(f"{path}: wanted version {VERSION}, got {summary.get('version')}")
        found.append(summary)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it differs")
    parser.add_argument("--add", type=Path, metavar="WORKDIR", help="an evaluated run")
    parser.add_argument("--title", default="", help="what the run shows, in a sentence")
    parser.add_argument("--hardware", default="not recorded", help="as a reader would say it")
    parser.add_argument("--axis", choices=AXES, help="what the run varies, if it is a comparison")
    parser.add_argument("--command", action="append", default=[], help="to repeat it; in order")
    parser.add_argument("--remark", action="append", default=[], help="a paragraph of its own")
    args = parser.parse_args(argv)
    try:
        if args.add:
            SUMMARIES.mkdir(parents=True, exist_ok=True)
            summary = json.dumps(summary_of(args.add, args), indent=1, ensure_ascii=False)
            (SUMMARIES / f"{args.add.name}.json").write_text(summary + "\n", encoding="utf-8")
        text = page(load_summaries())
    except (ValueError, OSError, KeyError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    if args.check:
        is_current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        print(f"{PAGE} is {'current' if is_current else 'stale: run python scripts/results.py'}")
        return 0 if is_current else 1
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
