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
    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.evaluation.calibration import Calibration
    from kkanji_jax.saved.trained import Trained

_SAME_MODEL = ("checkpoint_step", "class_index_digest")  # what a calibration must have been of


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kkanji_jax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", metavar="M", help="folder of a run, or a bundle")
    parser.add_argument("--dataset", required=True, type=Path, help="folder of data_tools.build")
    parser.add_argument(
        "--of", choices=("train", "val", "test"), default="test", help="split (default: test)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default M/eval/SPLIT; of a bundle, no default"
    )
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
    from kkanji_jax.data.manifest import LEAK_WARNING, LEAKY_PROTOCOL, load_manifest

    for flag in ("batch_size", "most_unknown"):
        if getattr(args, flag) < 1:
            name = "--" + flag.replace("_", "-")
            raise ValueError(f"wanted a {name} of at least 1, got {getattr(args, flag)}")
    manifest = load_manifest(args.dataset)
    if not manifest["splits"][args.of]["num_examples"]:
        raise ValueError(
            f"{args.dataset} has no {args.of} examples; choose another split with --of"
        )
    if manifest["protocol"] == LEAKY_PROTOCOL and args.of != "train":
        _warn(f"{args.dataset}: {LEAK_WARNING}")

    import numpy as np

    from kkanji_jax.data.kanji_forms import forms_of
    from kkanji_jax.data.looks import look_of
    from kkanji_jax.data.outside import load_outside
    from kkanji_jax.data.resident import load_split
    from kkanji_jax.evaluation import calibration as calibrate
    from kkanji_jax.evaluation import eval_json as scorecard
    from kkanji_jax.evaluation.scores import summarise
    from kkanji_jax.evaluation.tables import write_tables
    from kkanji_jax.parallel import mesh as mesh_lib
    from kkanji_jax.saved.trained import Trained, load_trained
    from kkanji_jax.training.state import make_graphdef
    from kkanji_jax.training.step import make_logits_fn
    from kkanji_jax.training.workdir import write_json

    asked = "ema" if args.weights == "both" else args.weights
    trained = load_trained(args.model, weights=asked, which=args.which)
    if trained.is_bundle and not args.out:
        raise ValueError(f"{trained.path} is a bundle, which is not written into: give --out DIR")
    class_index, weights = trained.class_index, trained.weights
    other = None
    if args.weights == "both":
        other = load_trained(args.model, weights="raw", which=args.which)
    _check_same_classes(class_index, ClassIndex.load(args.dataset / "index.json"), args)
    manifest_sha256 = hashlib.sha256((args.dataset / "manifest.json").read_bytes()).hexdigest()
    is_same_dataset = manifest_sha256 == trained.manifest_sha256
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
        make_graphdef(trained.config["model"], len(class_index)),
        trained.config["model"]["image_px"],
    )
    stamp = {
        "checkpoint_step": trained.step,
        "class_index_digest": class_index.digest,
        "dataset_fingerprint": manifest["fingerprint"],
    }
    calibration = None
    is_fitting = args.of == "val" and len(split.labels) >= calibrate.LEAST_EXAMPLES
    if args.of != "val":
        calibration = _calibration_of(trained, stamp)
    elif not is_fitting:
        _warn(f"{calibrate.LEAST_EXAMPLES} examples are needed for a calibration: none fitted")

    def read(trained: Trained, images: Any, labels: Any, name: str, **more: Any) -> Any:
        print(
            f"{name}: {len(images):,} images, {trained.weights} weights of step {trained.step}; "
            "compiling",
            file=sys.stderr,
            flush=True,
        )
        return scorecard.read_split(
            logits_fn,
            trained.params,
            trained.batch_stats,
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
    readings = read(trained, split.images, split.labels, name, temperature=temperature,
                    is_keeping_logits=is_fitting)  # fmt: skip
    if is_fitting and readings.logits is not None:
        calibration = calibrate.fit(
            readings.logits,
            split.labels,
            weights=weights,
            fitted_on={"split": "val", **stamp},
            groups=[look_of(sample_id) for sample_id in split.sample_ids],
        )
        readings = scorecard.at_temperature(readings, calibration.temperature)
    train_counts = trained.train_counts
    content = scorecard.scorecard(
        readings,
        split.sample_ids,
        class_index,
        train_counts,
        split=args.of,
        weights=weights,
        calibration=calibration,
        pooled=manifest["pool_official"],
        forms_of=forms_of,
    ) | {
        "model": str(trained.path),
        "checkpoint": args.which,
        **stamp,
        "dataset": str(args.dataset),
        "protocol": manifest["protocol"],
        "pool_official": manifest["pool_official"],
        "is_dataset_of_training": is_same_dataset,
    }
    if other is not None:
        raw = read(other, split.images, split.labels, name).predictions
        scores = summarise(raw, class_index, train_counts, split=args.of, weights="raw")
        content["raw"] = {key: scores[key] for key in ("top1", "top5", "macro", "loss", "ece")}
    if outside is not None:
        labels = np.zeros(len(outside.images), np.int32)
        unknown = read(
            trained, outside.images, labels, f"outside the index, of {args.unknown}",
            temperature=calibration.temperature if calibration else None,
        )  # fmt: skip
        content["unknown"] = scorecard.unknown_scores(
            readings, unknown, outside.codepoints, calibration
        ) | {"source": str(args.unknown), "num_found": outside.num_found}
    out = args.out or trained.path / "eval" / args.of
    out.mkdir(parents=True, exist_ok=True)
    write_tables(out, readings.predictions, split.sample_ids, class_index, train_counts)
    write_json(out / "eval.json", content)
    if is_fitting and calibration is not None:
        _write_calibration(trained, calibration, args, is_same_dataset)
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


def _calibration_of(trained: "Trained", stamp: dict[str, Any]) -> "Calibration | None":
    """The model's calibration, if it was fitted on these very weights."""
    from kkanji_jax.evaluation.calibration import FILE_NAME, Calibration

    if trained.calibration is None:
        _warn(f"no {FILE_NAME} for the {trained.weights} weights of {trained.path}: evaluate "
              "--of val first, for verdicts")  # fmt: skip
        return None
    found = Calibration.from_json(trained.calibration)
    if any(found.fitted_on.get(key) != stamp[key] for key in _SAME_MODEL):
        _warn(
            f"{FILE_NAME} of {trained.path} was fitted on step "
            f"{found.fitted_on.get('checkpoint_step')}, not on {stamp['checkpoint_step']}: left "
            "out; evaluate --of val again"
        )
        return None
    return found


def _write_calibration(
    trained: "Trained", calibration: "Calibration", args: argparse.Namespace, is_same_dataset: bool
) -> None:
    """Writes calibration.json, unless it would not be that of the model that is served."""
    from kkanji_jax.evaluation.calibration import FILE_NAME
    from kkanji_jax.saved.trained import choose_weights
    from kkanji_jax.training.workdir import write_json

    served = choose_weights(trained.config, None)
    if trained.is_bundle:
        _warn(f"{FILE_NAME} not written: a bundle is complete; calibrate the run and export again")
    elif calibration.weights != served or args.which != "best":
        _warn(f"{FILE_NAME} not written: predict uses the {served} weights of the best checkpoint")
    elif not is_same_dataset:
        _warn(f"{FILE_NAME} not written: this val is not that of the training dataset")
    else:
        write_json(trained.path / FILE_NAME, calibration.to_json())


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
    from kkanji_jax.evaluation.tables import TABLES
    from kkanji_jax.reporting.score_table import score_table

    print(score_table(content))
    print(f"wrote eval.json, {', '.join(TABLES)} in {content['out']}")
    return 0


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
