"""Scores a model on a split: `python -m kkanji_jax.evaluate --model M --dataset DATASET`.

One exact pass, every example once. Writes eval.json (each score with its n and a 95 % interval)
and four tables: predictions.csv (five candidates for each example), confusions.csv (each error,
most frequent first), per_class.csv and suspects.csv (likely label errors). `--of val` also fits
temperature and verdicts and writes M/calibration.json, which later evaluations report on.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kkanji_jax.calibrate import Calibration
    from kkanji_jax.data.class_index import ClassIndex


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kkanji_jax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", metavar="M", help="folder of a run, as runs/b0")
    parser.add_argument("--dataset", required=True, type=Path, help="folder of data_tools.build")
    parser.add_argument(
        "--of", choices=("train", "val", "test"), default="test", help="split (default: test)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default M/eval/SPLIT")
    parser.add_argument(
        "--weights",
        choices=("ema", "raw", "both"),
        help="default: ema where the run kept an average; both: the raw ones beside them",
    )
    parser.add_argument(
        "--which", choices=("best", "latest"), default="best", help="checkpoint (default: best)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="default: 256, over all devices"
    )
    parser.add_argument(
        "--unknown",
        type=Path,
        metavar="PATH",
        help="also: are characters outside the index told from those inside? A DATASET of more "
        "classes, or a folder of folders named by code point",
    )
    parser.add_argument(
        "--most-unknown", type=int, default=5000, metavar="N", help="of them (default: 5000)"
    )
    return parser


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the pass, writes eval.json and the tables; returns the content of eval.json."""
    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.data.manifest import load_manifest

    for flag in ("batch_size", "most_unknown"):
        if getattr(args, flag) < 1:
            name = "--" + flag.replace("_", "-")
            raise ValueError(f"wanted a {name} of at least 1, got {getattr(args, flag)}")
    manifest = load_manifest(args.dataset)
    if not manifest["splits"][args.of]["num_examples"]:
        raise ValueError(
            f"{args.dataset} has no {args.of} examples; choose another split with --of"
        )

    import numpy as np

    from kkanji_jax import calibrate, scorecard
    from kkanji_jax import mesh as mesh_lib
    from kkanji_jax.checkpoint import load_variables
    from kkanji_jax.data.outside import load_outside
    from kkanji_jax.data.resident import load_split
    from kkanji_jax.recogniser import check_model, choose_weights
    from kkanji_jax.score_files import write_tables
    from kkanji_jax.scoring import summarise
    from kkanji_jax.state import make_graphdef
    from kkanji_jax.steps import make_logits_fn
    from kkanji_jax.workdir import write_json

    workdir = check_model(args.model)
    loaded = load_variables(workdir, args.which)
    config = loaded.meta["config"]
    weights = choose_weights(config, "ema" if args.weights == "both" else args.weights)
    class_index = ClassIndex.from_json(loaded.meta["class_index"])
    _check_same_classes(class_index, ClassIndex.load(args.dataset / "index.json"), args)
    manifest_sha256 = hashlib.sha256((args.dataset / "manifest.json").read_bytes()).hexdigest()
    is_same_dataset = manifest_sha256 == loaded.meta["manifest_sha256"]
    if not is_same_dataset and args.of != "train":
        _warn(
            f"{args.dataset} is not the build that this model was trained on: "
            f"its {args.of} images may have been training images"
        )
    outside = None
    if args.unknown:
        outside = load_outside(args.unknown, class_index, args.most_unknown)
    split = load_split(args.dataset, args.of)
    mesh = mesh_lib.make_mesh()
    logits_fn = make_logits_fn(
        make_graphdef(config["model"], len(class_index)), config["model"]["image_px"]
    )
    stamp = {
        "checkpoint_step": loaded.step,
        "class_index_digest": class_index.digest,
        "dataset_fingerprint": manifest["fingerprint"],
    }
    calibration = None
    is_fitting = args.of == "val" and len(split.labels) >= calibrate.LEAST_EXAMPLES
    if args.of != "val":
        calibration = _calibration_of(workdir, weights, stamp)
    elif not is_fitting:
        _warn(f"{calibrate.LEAST_EXAMPLES} examples are needed for a calibration: none fitted")

    def read(weights: str, images: Any, labels: Any, name: str, **more: Any) -> Any:
        print(
            f"{name}: {len(images):,} images, {weights} weights of step {loaded.step}; compiling",
            file=sys.stderr,
            flush=True,
        )
        is_average = weights == "ema"
        return scorecard.read_split(
            logits_fn,
            loaded.ema_params if is_average else loaded.params,
            loaded.ema_batch_stats if is_average else loaded.batch_stats,
            images,
            labels,
            class_index,
            batch_size=-(-args.batch_size // mesh.size) * mesh.size,
            mesh=mesh,
            on_batch=_progress(len(images)),
            **more,
        )

    temperature = calibration.temperature if calibration else None
    name = f"{args.of} of {args.dataset}"
    readings = read(weights, split.images, split.labels, name, temperature=temperature,
                    is_keeping_logits=is_fitting)  # fmt: skip
    if is_fitting and readings.logits is not None:
        calibration = calibrate.fit(
            readings.logits, split.labels, weights=weights, fitted_on={"split": "val", **stamp}
        )
        readings = scorecard.at_temperature(readings, calibration.temperature)
    train_counts = loaded.meta["train_counts"]
    content = scorecard.scorecard(
        readings,
        split.sample_ids,
        class_index,
        train_counts,
        split=args.of,
        weights=weights,
        calibration=calibration,
        pooled=manifest["pool_official"],
    ) | {
        "model": str(workdir),
        "checkpoint": args.which,
        **stamp,
        "dataset": str(args.dataset),
        "protocol": manifest["protocol"],
        "pool_official": manifest["pool_official"],
        "is_dataset_of_training": is_same_dataset,
    }
    if args.weights == "both":
        raw = read("raw", split.images, split.labels, name).predictions
        scores = summarise(raw, class_index, train_counts, split=args.of, weights="raw")
        content["raw"] = {key: scores[key] for key in ("top1", "top5", "macro", "loss", "ece")}
    if outside is not None:
        labels = np.zeros(len(outside.images), np.int32)
        unknown = read(
            weights, outside.images, labels, f"outside the index, of {args.unknown}",
            temperature=calibration.temperature if calibration else None,
        )  # fmt: skip
        content["unknown"] = scorecard.unknown_scores(
            readings, unknown, outside.codepoints, calibration
        ) | {"source": str(args.unknown), "num_found": outside.num_found}
    out = args.out or workdir / "eval" / args.of
    out.mkdir(parents=True, exist_ok=True)
    write_tables(out, readings.predictions, split.sample_ids, class_index, train_counts)
    write_json(out / "eval.json", content)
    if is_fitting and calibration is not None:
        _write_calibration(
            workdir, calibration, args, choose_weights(config, None), is_same_dataset
        )
    return content | {"out": str(out)}


def _check_same_classes(
    of_model: "ClassIndex", of_dataset: "ClassIndex", args: argparse.Namespace
) -> None:
    if of_model.digest == of_dataset.digest:
        return
    ours, theirs = set(of_model.codepoints), set(of_dataset.codepoints)
    raise ValueError(
        f"{args.model} knows {len(ours)} classes and {args.dataset} has {len(theirs)}, "
        f"{len(ours & theirs)} in common; evaluate on the dataset it was trained on, or build one "
        "with the same classes (data_tools.build --splits-from)"
    )


def _progress(num_examples: int) -> Callable[[int], None]:
    step = max(num_examples // 10, 1)
    shown = 0

    def tell(done: int) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            end = "\n" if done == num_examples else ""
            print(f"\r{done:,}/{num_examples:,}", end=end, file=sys.stderr, flush=True)
        elif done - shown >= step or done == num_examples:
            shown = done
            print(f"{done:,}/{num_examples:,}", file=sys.stderr, flush=True)

    return tell


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _calibration_of(workdir: Path, weights: str, stamp: dict[str, Any]) -> "Calibration | None":
    """The run's calibration, if it was fitted on these very weights."""
    from kkanji_jax.calibrate import FILE_NAME, Calibration

    path = workdir / FILE_NAME
    if not path.is_file():
        _warn(f"{workdir} has no {FILE_NAME}: evaluate --of val first, for verdicts")
        return None
    found = Calibration.load(path)
    fitted_on = {key: found.fitted_on.get(key) for key in ("checkpoint_step", "class_index_digest")}
    if found.weights != weights or any(fitted_on[key] != stamp[key] for key in fitted_on):
        _warn(
            f"{path} was fitted on {found.weights} weights of step {fitted_on['checkpoint_step']}, "
            f"not on {weights} weights of step {stamp['checkpoint_step']}: left out; "
            "evaluate --of val again"
        )
        return None
    return found


def _write_calibration(
    workdir: Path,
    calibration: "Calibration",
    args: argparse.Namespace,
    served: str,
    is_same_dataset: bool,
) -> None:
    """Writes calibration.json, unless it would not be that of the model that is served."""
    from kkanji_jax.calibrate import FILE_NAME
    from kkanji_jax.workdir import write_json

    if calibration.weights != served or args.which != "best":
        _warn(f"{FILE_NAME} not written: predict uses the {served} weights of the best checkpoint")
    elif not is_same_dataset:
        _warn(f"{FILE_NAME} not written: this val is not that of the training dataset")
    else:
        write_json(workdir / FILE_NAME, calibration.to_json())


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates; 0, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        content = evaluate(args)
    except (ValueError, OSError) as err:
        if "KKANJI_TRACEBACK" in os.environ:
            raise
        print(f"error: {' '.join(str(err).split())}", file=sys.stderr)
        return 1
    from kkanji_jax.score_files import TABLES
    from kkanji_jax.score_table import score_table

    print(score_table(content))
    print(f"wrote eval.json, {', '.join(TABLES)} in {content['out']}")
    return 0


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
