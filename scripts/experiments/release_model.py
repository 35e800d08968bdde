"""Rebuilds the bundle inside the package, kkanji_jax/pretrained/b0/, from a finished run.

    python scripts/experiments/release_model.py runs/release-cpu --dataset data/release \
        [--unknown PATH] [--crops CROPS] [--hardware "..."] [--title "..."]

Evaluates the run on val (which fits the calibration) and test, exports it, evaluates the bundle on
test, which shows what half precision costs, and exports it again with a card that has all of it. A
model is refused, and the old one kept, if any class-size bucket of test falls by more than --margin
below docs/results/released.json, which is rewritten otherwise; results.py then makes the page.
What was evaluated already is not evaluated again.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from project_commands import ROOT, require_finished, run_python

PRETRAINED = ROOT / "kkanji_jax" / "pretrained" / "b0"
RELEASED = ROOT / "docs" / "results" / "released.json"
MAX_BYTES = 20_000_000
MARGIN = 0.02  # a bucket of 300 images has an interval of about that


def fallen_buckets(
    old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], margin: float
) -> list[str]:
    """The class-size buckets, in words, whose top-1 fell by more than `margin`."""
    before = {(row["min"], row["max"]): row for row in old if row["n"]}
    fallen = []
    for row in new:
        was = before.get((row["min"], row["max"]))
        if was and row["n"] and row["top1"] < was["top1"] - margin:
            size = f"{row['min']}-{row['max']}" if row["max"] else f"{row['min']} or more"
            fallen.append(f"{size} training images: {was['top1']:.4f} -> {row['top1']:.4f}")
    return fallen


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _evaluate(workdir: Path, args: argparse.Namespace) -> None:
    """Scores the run on val and test, unless that is done, and with --crops on photographs."""
    evaluate = ("-m", "kkanji_jax.evaluate", "--model", workdir, "--dataset", args.dataset)
    if not (workdir / "eval" / "val" / "eval.json").exists():
        run_python(*evaluate, "--of", "val")
    if not (workdir / "eval" / "test" / "eval.json").exists():
        unknown = ("--unknown", args.unknown) if args.unknown else ()
        run_python(*evaluate, "--of", "test", "--weights", "both", *unknown)
    if args.crops:
        run_python(
            ROOT / "scripts" / "experiments" / "page_crops.py",
            args.crops,
            "--model",
            workdir,
            "--dataset",
            args.dataset,
            "--add",
            "released",
            "--card",
            workdir / "eval",
        )


def release(args: argparse.Namespace) -> None:
    """Evaluates, exports and replaces; ValueError says why a model is not released."""
    workdir = args.workdir.resolve()
    args.dataset = args.dataset.resolve()
    require_finished(workdir)
    _evaluate(workdir, args)
    test = _read(workdir / "eval" / "test" / "eval.json")
    if not test["is_dataset_of_training"]:
        raise ValueError(f"{workdir} was trained on another build than {args.dataset}")
    if RELEASED.exists():
        released = _read(RELEASED)["splits"]["test"]
        fallen = fallen_buckets(released["by_class_size"], test["by_class_size"], args.margin)
        if fallen:
            raise ValueError(f"not released, for it reads worse than before: {'; '.join(fallen)}")
    with tempfile.TemporaryDirectory(dir=ROOT / "kkanji_jax") as scratch:
        first, final = Path(scratch) / "first", Path(scratch) / "final"
        run_python("-m", "kkanji_jax.export", "--model", workdir, "--out", first)
        run_python(
            "-m",
            "kkanji_jax.evaluate",
            "--model",
            first,
            "--dataset",
            args.dataset,
            "--of",
            "test",
            "--out",
            workdir / "eval" / "bundle",
        )
        run_python("-m", "kkanji_jax.export", "--model", workdir, "--out", final)
        num_bytes = sum(path.stat().st_size for path in final.iterdir())
        if num_bytes > MAX_BYTES:
            raise ValueError(f"the bundle has {num_bytes:,} bytes, over {MAX_BYTES:,}")
        shutil.rmtree(PRETRAINED, ignore_errors=True)
        PRETRAINED.parent.mkdir(exist_ok=True)
        final.replace(PRETRAINED)
    run_python(
        ROOT / "scripts" / "experiments" / "results.py",
        "--add",
        workdir,
        "--name",
        "released",
        "--title",
        args.title,
        "--hardware",
        args.hardware,
        *(part for command in args.command for part in ("--command", command)),
        *(part for remark in args.remark for part in ("--remark", remark)),
    )
    half = _read(workdir / "eval" / "bundle" / "eval.json")["top1"]["value"]
    print(
        f"{PRETRAINED}: {num_bytes / 1e6:.1f} MB, top-1 on test {half:.4f} in half precision, "
        f"{test['top1']['value']:.4f} in full"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="of a finished run")
    parser.add_argument("--dataset", type=Path, required=True, help="what it was trained on")
    parser.add_argument("--unknown", type=Path, help="characters outside its index")
    parser.add_argument("--crops", type=Path, help="photographed crops, for page_crops.py")
    parser.add_argument("--margin", type=float, default=MARGIN, help=f"default: {MARGIN}")
    parser.add_argument("--hardware", default="not recorded", help="as a reader would say it")
    parser.add_argument("--title", default="The released model.", help="for docs/RESULTS.md")
    parser.add_argument("--command", action="append", default=[], help="how it was trained")
    parser.add_argument("--remark", action="append", default=[], help="a paragraph of its own")
    try:
        release(parser.parse_args(argv))
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
