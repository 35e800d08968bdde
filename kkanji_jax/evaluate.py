"""Scores a model on a split: `python -m kkanji_jax.evaluate --model M --dataset DATASET`.

One exact pass, every example once. Writes eval.json (each score with its n and a 95 % interval),
predictions.csv (five candidates for each example) and confusions.csv (each error, most frequent
first).
"""

import argparse
import csv
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.scoring import Predictions


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
        "--weights", choices=("ema", "raw"), help="default: ema where the run kept an average"
    )
    parser.add_argument(
        "--which", choices=("best", "latest"), default="best", help="checkpoint (default: best)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="default: 256, over all devices"
    )
    return parser


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the pass, writes the three files and returns the content of eval.json."""
    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.data.manifest import load_manifest

    if args.batch_size < 1:
        raise ValueError(f"wanted a --batch-size of at least 1, got {args.batch_size}")
    manifest = load_manifest(args.dataset)
    if not manifest["splits"][args.of]["num_examples"]:
        raise ValueError(
            f"{args.dataset} has no {args.of} examples; choose another split with --of"
        )

    from kkanji_jax import mesh as mesh_lib
    from kkanji_jax.checkpoint import load_variables
    from kkanji_jax.data.resident import load_split
    from kkanji_jax.recogniser import check_model, choose_weights
    from kkanji_jax.scoring import predict_split, summarise
    from kkanji_jax.state import make_graphdef
    from kkanji_jax.steps import make_eval_step
    from kkanji_jax.workdir import write_json

    workdir = check_model(args.model)
    loaded = load_variables(workdir, args.which)
    config = loaded.meta["config"]
    weights = choose_weights(config, args.weights)
    class_index = ClassIndex.from_json(loaded.meta["class_index"])
    _check_same_classes(class_index, ClassIndex.load(args.dataset / "index.json"), args)
    manifest_sha256 = hashlib.sha256((args.dataset / "manifest.json").read_bytes()).hexdigest()
    is_same_dataset = manifest_sha256 == loaded.meta["manifest_sha256"]
    if not is_same_dataset and args.of != "train":
        print(
            f"warning: {args.dataset} is not the build that this model was trained on: "
            f"its {args.of} images may have been training images",
            file=sys.stderr,
        )
    split = load_split(args.dataset, args.of)
    mesh = mesh_lib.make_mesh()
    num_examples = len(split.labels)
    batch_size = -(-args.batch_size // mesh.size) * mesh.size
    print(
        f"{args.of} of {args.dataset}: {num_examples:,} examples, {weights} weights of step "
        f"{loaded.step}; compiling",
        file=sys.stderr,
        flush=True,
    )
    is_average = weights == "ema"
    predictions = predict_split(
        make_eval_step(make_graphdef(config["model"], len(class_index)), mesh,
                       config["model"]["image_px"]),
        loaded.ema_params if is_average else loaded.params,
        loaded.ema_batch_stats if is_average else loaded.batch_stats,
        split.images,
        split.labels,
        batch_size=batch_size,
        mesh=mesh,
        on_batch=_progress(num_examples),
    )  # fmt: skip
    content = summarise(
        predictions, class_index, loaded.meta["train_counts"], split=args.of, weights=weights
    ) | {
        "model": str(workdir),
        "checkpoint_step": loaded.step,
        "checkpoint": args.which,
        "dataset": str(args.dataset),
        "dataset_fingerprint": manifest["fingerprint"],
        "protocol": manifest["protocol"],
        "is_dataset_of_training": is_same_dataset,
    }
    out = args.out or workdir / "eval" / args.of
    out.mkdir(parents=True, exist_ok=True)
    _write_csv(
        out / "predictions.csv", _prediction_rows(predictions, split.sample_ids, class_index)
    )
    _write_csv(out / "confusions.csv", _confusion_rows(predictions, class_index))
    write_json(out / "eval.json", content)
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


def _progress(num_examples: int):  # noqa: ANN202
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


def _prediction_rows(
    predictions: "Predictions", sample_ids: Sequence[str], class_index: "ClassIndex"
) -> Iterator[list[str]]:
    ranks = range(1, predictions.top_ids.shape[1] + 1)
    yield [
        "sample_id",
        "codepoint",
        *(f"predicted_{rank}" for rank in ranks),
        *(f"probability_{rank}" for rank in ranks),
    ]
    codepoints = class_index.codepoints
    for sample_id, label, ids, probs in zip(
        sample_ids, predictions.labels, predictions.top_ids, predictions.top_probs, strict=True
    ):
        yield [
            sample_id,
            codepoints[label],
            *(codepoints[class_id] for class_id in ids),
            *(f"{prob:.6g}" for prob in probs),
        ]


def _confusion_rows(predictions: "Predictions", class_index: "ClassIndex") -> Iterator[list[str]]:
    from kkanji_jax.metrics import sparse_confusion

    yield ["true", "predicted", "count", "true_character", "predicted_character"]
    cells = sparse_confusion(predictions.labels, predictions.top_ids[:, 0], len(class_index))
    errors = [cell for cell in cells if cell[0] != cell[1]]
    for true, predicted, count in sorted(errors, key=lambda cell: (-cell[2], *cell[:2])):
        yield [
            class_index.codepoints[true],
            class_index.codepoints[predicted],
            str(count),
            class_index.character(true),
            class_index.character(predicted),
        ]


@contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        yield file
    unfinished.replace(path)


def _write_csv(path: Path, rows: Iterable[list[str]]) -> None:
    with _replacing(path) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _table(content: dict[str, Any]) -> str:
    """Every headline score with its n and interval, then the long tail."""
    lines = [
        f"{content['split']}  n={content['num_examples']:,}  {content['weights']} weights  "
        f"step {content['checkpoint_step']}  {content['num_classes']:,} classes",
        f"{'score':<22}{'value':>8}   {'95 % interval':<18}{'n':>8}",
    ]
    macro = f"macro ({content['macro']['classes']:,} classes)"
    for name, key in (("top-1", "top1"), ("top-5", "top5"), (macro, "macro"), ("ece", "ece")):
        score = content[key]
        lines.append(_row(name, score["value"], score["ci95"], score["n"]))
    lines.append("top-1 by training images of a class")
    for row in content["by_class_size"]:
        top = "" if row["max"] is None else f"-{row['max']}"
        size = f"{row['min']}" if row["min"] == row["max"] else f"{row['min']}{top or '+'}"
        name = f"  {size} ({row['classes']:,} classes)"
        lines.append(_row(name, row["top1"], row["ci95"], row["n"]))
    return "\n".join(lines)


def _row(name: str, value: float | None, interval: Sequence[float] | None, n: int) -> str:
    shown = "-" if value is None else f"{value:.4f}"
    reach = "" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"
    return f"{name:<22}{shown:>8}   {reach:<18}{n:>8,}"


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
    print(_table(content))
    print(f"wrote eval.json, predictions.csv, confusions.csv in {content['out']}")
    return 0


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
