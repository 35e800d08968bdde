"""Draws the figures of a run: `python -m kkanji_jax.plots --model runs/b0`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.plots.run_log import RunLog


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kkanji_jax.plots", description=__doc__)
    parser.add_argument(
        "--model", required=True, type=Path, metavar="WORKDIR", help="folder of a run, as runs/b0"
    )
    parser.add_argument("--out", type=Path, help="folder for the figures; default WORKDIR/plots")
    parser.add_argument(
        "--evaluation",
        choices=("last", "best"),
        default="last",
        help="whose misclassifications are drawn (default: last)",
    )
    return parser


def _long_tail(
    workdir: Path, log: "RunLog", evaluation: dict[str, Any], class_index: "ClassIndex"
) -> list[tuple[str, list[dict[str, Any]], str]]:
    """(name of the figure, rows by class size, subtitle): of each eval.json, else of the run."""
    from kkanji_jax.plots.run_log import describe, describe_split

    found = []
    for path in sorted(workdir.glob("eval/*/eval.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        subtitle = describe_split(
            log.name, content["split"], content["num_examples"], content["weights"]
        )
        found.append((f"long_tail_{content['split']}", content["by_class_size"], subtitle))
    if found:
        return found

    import numpy as np

    from kkanji_jax.checkpoint import finished_steps, read_meta
    from kkanji_jax.scoring import by_class_size

    steps = finished_steps(workdir)
    if not steps:
        return []
    train_counts = read_meta(workdir, steps[-1])["train_counts"]
    matrix = np.asarray(evaluation["val_confusion_matrix"], np.int64)
    labels, predicted = (np.repeat(matrix[:, column], matrix[:, 2]) for column in (0, 1))
    rows = by_class_size(labels, predicted, class_index, train_counts)
    return [("long_tail_val", rows, describe(log, evaluation))]


def _evaluation_named(log: "RunLog", workdir: Path, which: str) -> dict[str, Any]:
    config = workdir / "config.json"
    metric = "val_accuracy"
    if config.is_file():
        metric = json.loads(config.read_text(encoding="utf-8")).get("best_metric", metric)
    return log.chosen(which, metric)


def draw_all(workdir: Path, out: Path, which: str) -> list[Path]:
    """Writes every figure that the run has data for; returns their paths."""
    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.plots import (
        accuracy_curve,
        learning_curves,
        long_tail,
        loss_curve,
        precision_recall_curve,
        style,
        top_misclassifications,
    )
    from kkanji_jax.plots.fonts import find_font
    from kkanji_jax.plots.run_log import describe, load_run_log

    log = load_run_log(workdir)
    class_index = ClassIndex.load(workdir / "index.json")
    evaluation = _evaluation_named(log, workdir, which)
    font = find_font()
    when = f"{describe(log, evaluation)}, {which} evaluation (epoch {evaluation['epoch']:.4g})"
    figures: list[tuple[str, Callable[[], Figure]]] = [
        ("loss_curve", lambda: loss_curve.draw(log)),
        ("accuracy_curve", lambda: accuracy_curve.draw(log)),
        ("precision_recall_curve", lambda: precision_recall_curve.draw(log)),
        ("learning_curves", lambda: learning_curves.draw(log)),
        (
            "top_misclassifications",
            lambda: top_misclassifications.draw(
                evaluation["val_confusion_matrix"], class_index, font, when
            ),
        ),
    ]
    for name, rows, subtitle in _long_tail(workdir, log, evaluation, class_index):
        figures.append((name, lambda rows=rows, subtitle=subtitle: long_tail.draw(rows, subtitle)))
    written = []
    for name, draw in figures:
        with style.house_style(font):
            written.append(style.save(draw(), out / f"{name}.png"))
        print(written[-1], flush=True)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Draws; 0 when the figures are written, 1 with one line on stderr when they cannot be."""
    args = _parser().parse_args(argv)
    try:
        draw_all(args.model, args.out or args.model / "plots", args.evaluation)
    except (ValueError, OSError, KeyError) as err:
        if "KKANJI_TRACEBACK" in os.environ:
            raise
        print(f"error: {' '.join(str(err).split())}", file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
