"""Runs every row of configs/ablation.py with two seeds, and keeps their scores on val.

    python scripts/experiments/ablations.py --source data/codh --scratch DIR \
        [--seeds 2] [--rows base mixup] [-- --config.epochs=1]

300 of the classes in SOURCE/kkanji2, evenly over their code points and so of every size, are built
into a dataset of training and val alone: what is chosen here never sees a test image. What follows
`--` is given to every run. Stopped, the same command goes on where it was. The table grows after
each run: docs/results/ablations/, which results.py beside it makes a section of docs/RESULTS.md.
"""

import argparse
import json
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import summaries
from project_commands import ROOT, require_finished, run_python
from some_classes import copy_classes
from summaries import write_json

SUMMARIES = summaries.SUMMARIES / "ablations"
CONFIG = ROOT / "configs" / "ablation.py"
NUM_CLASSES, RATIOS = 300, "60/40/0"
VERSION = 1


def make_dataset(source: Path, scratch: Path) -> Path:
    """The dataset of the chosen classes, built unless it is there."""
    dataset, chosen = scratch / "dataset", scratch / "source"
    if (dataset / "manifest.json").exists():
        return dataset
    copy_classes(source, chosen, NUM_CLASSES)
    run_python("-m", "data_tools.build", "--source", chosen, "--out", dataset, "--ratios", RATIOS)
    return dataset


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def with_first_stages(rows: Sequence[str], starts_from: Mapping[str, str]) -> list[str]:
    """The base, then `rows`, each after the row whose weights it starts from."""
    ordered: dict[str, None] = {"base": None}
    for row in rows:
        if row in starts_from:
            ordered[starts_from[row]] = None
        ordered[row] = None
    return list(ordered)


def run_once(
    dataset: Path, workdir: Path, row: str, seed: int, first: str | None, more: Sequence[str]
) -> Any:
    """Trains and scores one run, or what remains of it; its scores on val and its cost.

    It begins with the weights of the row `first`, whose run with the same seed lies beside it.
    """
    from kkanji_jax.data.manifest import load_manifest
    from kkanji_jax.training.metrics_file import FILE_NAME, read_metrics

    scored = workdir / "eval" / "val" / "eval.json"
    if not scored.exists():
        run_python(
            "-m",
            "kkanji_jax.train",
            "--config",
            f"{CONFIG}:{row}",
            "--workdir",
            workdir,
            f"--config.data.dataset={dataset}",
            f"--config.seed={seed}",
            *([f"--config.init_from={workdir.with_name(f'{first}-{seed}')}"] if first else []),
            *more,
        )
        require_finished(workdir)
        run_python(
            "-m", "kkanji_jax.evaluate", "--model", workdir, "--dataset", dataset, "--of", "val"
        )
    val = _read(scored)
    last = read_metrics(workdir / FILE_NAME)[-1]
    manifest = load_manifest(dataset)["splits"]["train"]
    return {
        "seed": seed,
        "classes": manifest["num_classes"],
        "train_examples": manifest["num_examples"],
        "steps": last["step"],
        "elapsed_s": last["elapsed_s"],
        **{name: val[name] for name in ("num_examples", "dataset_fingerprint", "top1", "macro")},
    }


def differences_of(base: Path, workdir: Path, first: str | None) -> list[str]:
    """The differences of a run's config from the base's, in words; the seed does not count."""
    from kkanji_jax.config import differences

    own = _read(workdir / "config.json") | {"init_from": first}
    lines = differences(_read(base / "config.json"), own)
    return [line for line in lines if not line.startswith("seed:")]


def summarise(
    runs: Path,
    done: dict[str, list[Any]],
    starts_from: Mapping[str, str],
    name: str,
    hardware: str,
) -> None:
    """Writes the table of all runs so far."""
    base = runs / f"base-{done['base'][0]['seed']}"
    rows = [
        {
            "name": row,
            "changes": differences_of(
                base, runs / f"{row}-{scores[0]['seed']}", starts_from.get(row)
            ),
            "runs": scores,
        }
        for row, scores in done.items()
    ]
    env = _read(base / "env.json")
    summary = {"version": VERSION, "hardware": hardware, "versions": env["versions"], "rows": rows}
    write_json(SUMMARIES / f"{name}.json", summary)


def ablate(args: argparse.Namespace, rows: Sequence[str], starts_from: Mapping[str, str]) -> None:
    """All rows with the first seed, then all with the second, so that a first table comes early."""
    scratch = args.scratch.resolve()
    dataset, runs = make_dataset(args.source.resolve(), scratch), scratch / "runs"
    done: dict[str, list[Any]] = {}
    for seed in range(args.seeds):
        for row in with_first_stages(rows, starts_from):
            first = starts_from.get(row)
            scores = run_once(dataset, runs / f"{row}-{seed}", row, seed, first, args.more)
            done.setdefault(row, []).append(scores)
            summarise(runs, done, starts_from, args.name, args.hardware)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="CODH's files")
    parser.add_argument("--scratch", type=Path, required=True, help="for the dataset and the runs")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each row (%(default)s)")
    parser.add_argument("--rows", nargs="+", help="some of configs/ablation.py (default: all)")
    parser.add_argument("--name", default="b0-300", help="of the table (%(default)s)")
    parser.add_argument("--hardware", default="not recorded", help="as a reader would say it")
    parser.add_argument("more", nargs="*", help="after --: for every run")
    args = parser.parse_args(argv)
    config = runpy.run_path(str(CONFIG))
    rows = config["CHANGES"]
    try:
        if unknown := set(args.rows or ()) - rows.keys():
            raise ValueError(f"no such row: {min(unknown)}; {CONFIG} has {', '.join(rows)}")
        ablate(args, args.rows or list(rows), config["STARTS_FROM"])
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
