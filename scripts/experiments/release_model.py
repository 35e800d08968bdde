"""Rebuilds the bundle inside the package, kkanji_jax/pretrained/b0/, from a finished run.

    python scripts/experiments/release_model.py runs/release-cpu --dataset data/release \
        [--unknown PATH] [--crops CROPS] [--hardware "..."] [--title "..."]

Evaluates the run on val (which fits the calibration) and test, exports it, evaluates the bundle,
whose weights are int8, on test, and exports it again with a card that has all of it.

The model in the package reads the same test images. The bundle is refused, and the old one kept, if
it reads any part of them worse by more than --margin: classes of a size (in training images), a
script, a look, or a script in one look. So the two may know different characters and come from
different builds; but where the old model's training images are test images now, it is hard to beat.
The run may lie anywhere. results.py then makes docs/results/released.json and the page.
What was evaluated already is not evaluated again.
"""

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from project_commands import ROOT, require_finished, run_python

PRETRAINED = ROOT / "kkanji_jax" / "pretrained" / "b0"
DTYPE = "int8"  # of the released weights, and the name of their evaluation
MAX_BYTES = 20_000_000
MARGIN = 0.02  # a part of 300 images has an interval of about that


class Read(NamedTuple):
    """One test image: whether the model in the package, and the new one, read it right."""

    sample_id: str
    codepoint: str
    was_right: bool
    is_right: bool


class Change(NamedTuple):
    """What the two models read of a part of test: shares of its `n` images."""

    part: str
    n: int
    before: float
    after: float


def parts_of(read: Read, train_counts: Mapping[str, int]) -> tuple[str, ...]:
    """The parts of test that an image belongs to."""
    from kkanji_jax.data.class_sizes import CLASS_SIZES, class_size_bucket, class_size_label
    from kkanji_jax.data.scripts import script_of
    from kkanji_jax.data.source_looks import look_of

    least, most = CLASS_SIZES[class_size_bucket(train_counts[read.codepoint])]
    size = class_size_label(least, most)
    look, script = look_of(read.sample_id), script_of(read.codepoint)
    return f"{size} training images", script, look, f"{look} {script}"


def changes(reads: Iterable[Read], train_counts: Mapping[str, int]) -> list[Change]:
    """What became of each part of test, by name."""
    found: dict[str, list[Read]] = defaultdict(list)
    for read in reads:
        for part in parts_of(read, train_counts):
            found[part].append(read)
    return [
        Change(
            part,
            len(inside),
            sum(read.was_right for read in inside) / len(inside),
            sum(read.is_right for read in inside) / len(inside),
        )
        for part, inside in sorted(found.items())
    ]


def fallen_parts(found: Iterable[Change], margin: float) -> list[str]:
    """The parts, in words, whose top-1 fell by more than `margin`."""
    return [
        f"{each.part}: {each.before:.4f} -> {each.after:.4f} (n = {each.n:,})"
        for each in found
        if each.after < each.before - margin
    ]


def read_test(pretrained: Path, dataset: Path, predictions: Path) -> list[Read]:
    """What the bundle `pretrained` reads of test of `dataset`, beside a predictions.csv of it."""
    from kkanji_jax.data.resident import load_split
    from kkanji_jax.inference.recogniser import load

    with predictions.open(encoding="utf-8", newline="") as file:
        rows = {row["sample_id"]: row for row in csv.DictReader(file)}
    test = load_split(dataset, "test")
    if rows.keys() != set(test.sample_ids):
        raise ValueError(f"{predictions} is not of the test images of {dataset}: remove its folder")
    old = load(pretrained).predict_glyphs(test.images, top_k=1)
    reads = []
    for sample_id, reading in zip(test.sample_ids, old, strict=True):
        true, new = (rows[sample_id][name] for name in ("codepoint", "predicted_1"))
        was_right = bool(len(reading)) and reading[0].codepoint == true
        reads.append(Read(sample_id, true, was_right, new == true))
    return reads


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def is_evaluated(workdir: Path, split: str) -> bool:
    """Whether the run's best checkpoint was evaluated on the split: training may have gone on."""
    from kkanji_jax.saved.checkpoint import best_step

    path = workdir / "eval" / split / "eval.json"
    return path.exists() and _read(path)["checkpoint_step"] == best_step(workdir)


def _evaluate(workdir: Path, args: argparse.Namespace) -> None:
    """Scores the run on val and test, unless that is done, and with --crops on photographs."""
    evaluate = ("-m", "kkanji_jax.evaluate", "--model", workdir, "--dataset", args.dataset)
    if not is_evaluated(workdir, "val"):
        run_python(*evaluate, "--of", "val")
    if not is_evaluated(workdir, "test"):
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


def _require_no_fall(workdir: Path, args: argparse.Namespace) -> None:
    """ValueError if the evaluated bundle reads a part of test worse than the one in the package."""
    reads = read_test(PRETRAINED, args.dataset, workdir / "eval" / DTYPE / "predictions.csv")
    found = changes(reads, _read(args.dataset / "manifest.json")["original_counts"])
    for each in found:
        print(f"{each.part:32s} {each.before:.4f} -> {each.after:.4f}  n={each.n:,}")
    compared = [each._asdict() for each in found]
    (workdir / "eval" / "against_released.json").write_text(json.dumps(compared, indent=1))
    fallen = fallen_parts(found, args.margin)
    if fallen:
        raise ValueError(f"not released, for it reads worse than before: {'; '.join(fallen)}")


def release(args: argparse.Namespace) -> None:
    """Evaluates, exports and replaces; ValueError says why a model is not released."""
    workdir = args.workdir.resolve()
    args.dataset = args.dataset.resolve()
    require_finished(workdir)
    _evaluate(workdir, args)
    test = _read(workdir / "eval" / "test" / "eval.json")
    if not test["is_dataset_of_training"]:
        raise ValueError(f"{workdir} was trained on another build than {args.dataset}")
    with tempfile.TemporaryDirectory(dir=ROOT / "kkanji_jax") as scratch:
        first, final = Path(scratch) / "first", Path(scratch) / "final"
        export = ("-m", "kkanji_jax.export", "--model", workdir, "--dtype", DTYPE)
        run_python(*export, "--out", first)
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
            workdir / "eval" / DTYPE,
        )
        if PRETRAINED.exists():
            _require_no_fall(workdir, args)
        run_python(*export, "--out", final)
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
    stored = _read(workdir / "eval" / DTYPE / "eval.json")["top1"]["value"]
    print(
        f"{PRETRAINED}: {num_bytes / 1e6:.1f} MB, top-1 on test {stored:.4f} in {DTYPE}, "
        f"{test['top1']['value']:.4f} in float32"
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
