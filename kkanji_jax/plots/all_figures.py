"""Every figure that a run has data for, named, in the order in which they are read."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.scores import by_class_size
from kkanji_jax.files import read_json
from kkanji_jax.plots import (
    accuracy_curve,
    confused_glyphs,
    learning_curves,
    long_tail,
    loss_curve,
    precision_recall_curve,
    reliability_diagram,
    risk_coverage,
    suspected_labels,
    top_misclassifications,
)
from kkanji_jax.plots.evaluated import Evaluated, load_evaluated, load_pictures
from kkanji_jax.plots.fonts import Font
from kkanji_jax.plots.run_log import RunLog, describe, load_run_log
from kkanji_jax.saved.checkpoint import finished_steps, read_meta

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class NamedFigure(NamedTuple):
    """A figure that is still to be drawn, inside `style.house_style`."""

    name: str  # of its file, without a suffix
    draw: "Callable[[], Figure]"


def all_figures(
    workdir: Path, font: Font, which: str, dataset: Path | None = None
) -> list[NamedFigure]:
    """The figures of the run's log, then those of each evaluated split.

    `which` of last and best says whose misclassifications are drawn. With `dataset`, the splits
    that were evaluated on it are drawn with their images; ValueError if none was.
    """
    log = load_run_log(workdir)
    class_index = ClassIndex.load(workdir / "index.json")
    evaluation = evaluation_named(log, workdir, which)
    when = f"{describe(log, evaluation)}, {which} evaluation (epoch {evaluation['epoch']:.4g})"
    matrix = evaluation["val_confusion_matrix"]
    figures = [
        NamedFigure("loss_curve", lambda: loss_curve.draw(log)),
        NamedFigure("accuracy_curve", lambda: accuracy_curve.draw(log)),
        NamedFigure("precision_recall_curve", lambda: precision_recall_curve.draw(log)),
        NamedFigure("learning_curves", lambda: learning_curves.draw(log)),
        NamedFigure(
            "top_misclassifications",
            lambda: top_misclassifications.draw(matrix, class_index, font, when),
        ),
    ]
    evaluated = load_evaluated(workdir)
    if not evaluated:
        figures += _long_tail_of_log(workdir, log, evaluation, class_index)
    for split in evaluated:
        figures += _figures_of_split(split)
    if dataset is not None:
        if not evaluated:
            raise ValueError(f"{workdir} was not evaluated yet: run kkanji_jax.evaluate first")
        for split in evaluated:
            figures += _figures_with_images(split, dataset, class_index, font)
    return figures


def evaluation_named(log: RunLog, workdir: Path, which: str) -> dict[str, Any]:
    """The last evaluation of a run, or the best by the run's own metric."""
    config = workdir / "config.json"
    metric = "val_accuracy"
    if config.is_file():
        metric = read_json(config).get("best_metric", metric)
    return log.chosen(which, metric)


def _long_tail_of_log(
    workdir: Path, log: RunLog, evaluation: dict[str, Any], class_index: ClassIndex
) -> list[NamedFigure]:
    steps = finished_steps(workdir)
    if not steps:
        return []
    train_counts = read_meta(workdir, steps[-1])["train_counts"]
    matrix = np.asarray(evaluation["val_confusion_matrix"], np.int64)
    labels, predicted = (np.repeat(matrix[:, column], matrix[:, 2]) for column in (0, 1))
    rows = by_class_size(labels, predicted, class_index, train_counts)
    return [NamedFigure("long_tail_val", lambda: long_tail.draw(rows, describe(log, evaluation)))]


def _figures_of_split(split: Evaluated) -> list[NamedFigure]:
    content, subtitle = split.content, split.subtitle
    figures = [
        NamedFigure(
            f"long_tail_{split.split}",
            lambda: long_tail.draw(content["by_class_size"], subtitle),
        )
    ]
    if "reliability" in content:  # an eval.json of version 0.1.0 has none
        figures += [
            NamedFigure(
                f"reliability_{split.split}", lambda: reliability_diagram.draw(content, subtitle)
            ),
            NamedFigure(
                f"risk_coverage_{split.split}", lambda: risk_coverage.draw(content, subtitle)
            ),
        ]
    return figures


def _figures_with_images(
    split: Evaluated, dataset: Path, class_index: ClassIndex, font: Font
) -> list[NamedFigure]:
    pictures = load_pictures(split, dataset, class_index)
    figures = [
        NamedFigure(
            f"confused_glyphs_{split.split}",
            lambda: confused_glyphs.draw(pictures, class_index, font, split.subtitle),
        )
    ]
    suspects = split.table("suspects.csv")
    if suspects:
        figures.append(
            NamedFigure(
                f"suspected_labels_{split.split}",
                lambda: suspected_labels.draw(
                    suspects, pictures, class_index, font, split.subtitle
                ),
            )
        )
    return figures
