"""How many points are leakage: one recipe on the legacy protocol and on the honest one.

    python scripts/experiments/leakage.py --source data/codh --scratch DIR [-- --config.epochs=1]

300 of the classes in SOURCE/kkanji2, evenly over their code points and so of every size, are
filled up to 120 examples each by augmentation, twice. `legacy` splits the filled classes, 90 to 10,
so that copies of one image stand on both sides. `honest` splits the originals, 90 to 10, and fills
up what is for training. Two runs of the same network, steps and seed, without further augmentation,
are then scored on what each held out: DIR/runs/leak-*/eval/val. The copies are made by `glyph_safe`
in both: the PyTorch project's own warps are so strong that a run of this length learns little from
them. Stopped, the same command goes on where it was. What follows `--` is given to both runs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from project_commands import require_finished, run_python
from some_classes import copy_classes

NUM_CLASSES, PER_CLASS = 300, 120
EPOCHS = 4.0  # of the legacy dataset
PROTOCOLS = {
    "legacy": ["--protocol", "legacy"],
    "honest": ["--protocol", "honest", "--ratios", "90/10/0"],
}


def make_datasets(source: Path, scratch: Path) -> dict[str, Path]:
    """The two datasets by their protocol, built unless they are there."""
    datasets = {protocol: scratch / protocol for protocol in PROTOCOLS}
    missing = [name for name, path in datasets.items() if not (path / "manifest.json").exists()]
    chosen = scratch / "source"
    if missing:
        copy_classes(source, chosen, NUM_CLASSES)
    for name in missing:
        run_python(
            "-m",
            "data_tools.build",
            "--source",
            chosen,
            "--out",
            datasets[name],
            "--per-class",
            PER_CLASS,
            "--policy",
            "glyph_safe",
            *PROTOCOLS[name],
        )
    return datasets


def epochs_of(datasets: dict[str, Path]) -> dict[str, float]:
    """EPOCHS of the legacy dataset, and what makes as many images of the honest one."""
    from kkanji_jax.data.manifest import load_manifest

    sizes = {
        name: load_manifest(path)["splits"]["train"]["num_examples"]
        for name, path in datasets.items()
    }
    return {name: round(EPOCHS * sizes["legacy"] / size, 4) for name, size in sizes.items()}


def run_once(protocol: str, dataset: Path, workdir: Path, epochs: float, more: list[str]) -> Any:
    """Trains and scores one run, or what remains of it; its scores on val."""
    scored = workdir / "eval" / "val" / "eval.json"
    if not scored.exists():
        allowed = ["--config.data.allow_leaky_protocol=legacy"] if protocol == "legacy" else []
        run_python(
            "-m",
            "kkanji_jax.train",
            "--config",
            "configs/b0.py:cpu",
            "--workdir",
            workdir,
            f"--config.data.dataset={dataset}",
            "--config.augment.policy=none",
            "--config.steps_per_dispatch=4",
            f"--config.epochs={epochs}",
            *allowed,
            *more,
        )
        require_finished(workdir)
        run_python(
            "-m", "kkanji_jax.evaluate", "--model", workdir, "--dataset", dataset, "--of", "val"
        )
    return json.loads(scored.read_text(encoding="utf-8"))


def measure(source: Path, scratch: Path, more: list[str]) -> dict[str, Any]:
    """The scores of both runs by their protocol."""
    datasets = make_datasets(source, scratch)
    epochs = epochs_of(datasets)
    return {
        name: run_once(name, path, scratch / "runs" / f"leak-{name}", epochs[name], more)
        for name, path in datasets.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="CODH's files")
    parser.add_argument("--scratch", type=Path, required=True, help="for datasets and runs")
    parser.add_argument("more", nargs="*", help="after --: for both runs")
    args = parser.parse_args(argv)
    try:
        scores = measure(args.source.resolve(), args.scratch.resolve(), args.more)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    for name, content in scores.items():
        top1, macro = (100 * content[key]["value"] for key in ("top1", "macro"))
        print(f"{name}: n = {content['num_examples']:,}, top-1 {top1:.1f} %, macro {macro:.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
