"""docs/RESULTS.md from the summaries in docs/results/*.json, and those from the folders of runs.

    python scripts/experiments/results.py              # writes docs/RESULTS.md
    python scripts/experiments/results.py --check      # says whether it is what the summaries give
    python scripts/experiments/results.py --add runs/b0-100 --title "..." \
        --hardware "..." [--axis NAME]

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

from results_page import AXES, page

ROOT = Path(__file__).resolve().parents[2]
SUMMARIES, PAGE = ROOT / "docs" / "results", ROOT / "docs" / "RESULTS.md"
VERSION = 1
SPLITS = ("test", "val", "train")
TABLES = (
    "floors",
    "ablations",
    "without_training",
    "page_crops",
    "photographs",
    "page_text",
    "glyph_kinds",
    "verdicts",
    "turned_images",
    "cut_off",
)
SCORES = (
    "top1",
    "top5",
    "macro",
    "macro_precision",
    "macro_f1",
    "weighted_precision",
    "weighted_f1",
    "loss",
    "ece",
    "ece_calibrated",
    "loss_calibrated",
    "by_class_size",
    "by_script",
    "by_look",
    "by_source",
    "official_tests",
    "variant_tolerant",
    "verdicts",
    "unknown",
    "raw",
    "num_examples",
    "num_classes",
    "num_classes_with_examples",
    "weights",
    "checkpoint",
    "checkpoint_step",
    "calibration",
)


def summary_of(workdir: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The summary of an evaluated run, as plain data; ValueError names what is missing."""
    from kkanji_jax.config import default_config, differences
    from kkanji_jax.training.metrics_file import FILE_NAME, read_metrics

    splits = {}
    for split in SPLITS:
        path = workdir / "eval" / split / "eval.json"
        if path.is_file():
            splits[split] = _read(path)
    if "test" not in splits and not (args.axis and splits):  # a comparison may leave test alone
        raise ValueError(f"{workdir} has no eval/test/eval.json: run kkanji_jax.evaluate first")
    for key, told in (("dataset_fingerprint", "datasets"), ("checkpoint_step", "checkpoints")):
        if len({content[key] for content in splits.values()}) > 1:
            raise ValueError(f"the evaluations in {workdir} are of different {told}")
    config, env = _read(workdir / "config.json"), _read(workdir / "env.json")
    if config["init_from"]:  # where it lay on some machine is nobody's business
        folder = Path(config["init_from"])
        config["init_from"] = folder.name if folder.is_absolute() else config["init_from"]
    changed = [
        line
        for line in differences(default_config().to_dict(), config)
        if not line.startswith("data.dataset:")
    ]
    last = read_metrics(workdir / FILE_NAME)[-1]
    scored = next(iter(splits.values()))
    return {
        "version": VERSION,
        "name": args.name or workdir.name,
        "title": args.title,
        "axis": args.axis,
        "remarks": args.remark,
        "network": config["model"]["variant"],
        "config_differences": changed,
        "dataset": {
            "fingerprint": scored["dataset_fingerprint"],
            "protocol": scored["protocol"],
            "pool_official": scored["pool_official"],
            "num_classes": scored["num_classes"],
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
    """The scores of an eval.json, without paths of the machine."""
    scores = {key: content[key] for key in SCORES if key in content}
    if "unknown" in scores:
        scores["unknown"] = {k: v for k, v in scores["unknown"].items() if k != "source"}
    return scores


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def load_summaries(folder: Path = SUMMARIES) -> list[dict[str, Any]]:
    """All summaries, by name; ValueError for one of another version."""
    found = []
    for path in sorted(folder.glob("*.json")):
        summary = _read(path)
        if summary.get("version") != VERSION:
            raise ValueError(f"{path}: expected version {VERSION}, got {summary.get('version')}")
        found.append(summary)
    return found


def load_tables(folder: Path = SUMMARIES) -> dict[str, dict[str, Any]]:
    """What other scripts kept, by the name of their folder and then by their own."""
    return {
        kind: {path.stem: _read(path) for path in sorted((folder / kind).glob("*.json"))}
        for kind in TABLES
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it differs")
    parser.add_argument("--add", type=Path, metavar="WORKDIR", help="an evaluated run")
    parser.add_argument("--name", help="of the run (default: its folder's)")
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
            (SUMMARIES / f"{args.name or args.add.name}.json").write_text(
                summary + "\n", encoding="utf-8"
            )
        text = page(load_summaries(), load_tables())
    except (ValueError, OSError, KeyError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    if args.check:
        is_current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        state = "current" if is_current else "stale: run python scripts/experiments/results.py"
        print(f"{PAGE} is {state}")
        return 0 if is_current else 1
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
