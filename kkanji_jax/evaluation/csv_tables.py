"""The CSV tables beside eval.json: predictions, confusions, classes, suspected label errors."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.csv_text import write_lines
from kkanji_jax.evaluation.counts import sparse_confusion
from kkanji_jax.evaluation.eval_json import per_class
from kkanji_jax.evaluation.forward import Predictions
from kkanji_jax.evaluation.label_errors import find_suspects
from kkanji_jax.files import written_whole

TABLES = ("predictions.csv", "confusions.csv", "per_class.csv", "suspects.csv")


def write_tables(
    out: Path,
    predictions: Predictions,
    sample_ids: Sequence[str],
    class_index: ClassIndex,
    train_counts: Mapping[str, int],
) -> None:
    """Writes the four tables into `out`; a kill leaves either the old file or the new one."""
    rows = (
        prediction_rows(predictions, sample_ids, class_index),
        confusion_rows(predictions, class_index),
        class_rows(predictions, class_index, train_counts),
        suspect_rows(predictions, sample_ids, class_index),
    )
    for name, table in zip(TABLES, rows, strict=True):
        write_csv(out / name, table)


def prediction_rows(
    predictions: Predictions, sample_ids: Sequence[str], class_index: ClassIndex
) -> Iterator[list[str]]:
    """Five candidates for each example, in the split's order."""
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


def confusion_rows(predictions: Predictions, class_index: ClassIndex) -> Iterator[list[str]]:
    """Each error, most frequent first."""
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


def class_rows(
    predictions: Predictions, class_index: ClassIndex, train_counts: Mapping[str, int]
) -> Iterator[list[str]]:
    """A row for each class, in code point order; a cell without a value is empty."""
    rows = per_class(predictions, class_index, train_counts)
    yield list(rows[0])
    for row in rows:
        yield [_cell(value) for value in row.values()]


def suspect_rows(
    predictions: Predictions, sample_ids: Sequence[str], class_index: ClassIndex
) -> Iterator[list[str]]:
    """Suspected label errors, the likeliest first."""
    yield [
        "sample_id",
        "label",
        "read_as",
        "label_character",
        "read_as_character",
        "label_probability",
        "read_as_probability",
        "margin",
    ]
    for suspect in find_suspects(predictions, class_index):
        yield [
            sample_ids[suspect.row],
            class_index.codepoints[suspect.true_id],
            class_index.codepoints[suspect.predicted_id],
            class_index.character(suspect.true_id),
            class_index.character(suspect.predicted_id),
            f"{suspect.label_probability:.6g}",
            f"{suspect.predicted_probability:.6g}",
            f"{suspect.margin:.4f}",
        ]


def write_csv(path: Path, rows: Iterable[list[str]]) -> None:
    """Writes rows as CSV; an existing file stays until all of them are written."""
    with (
        written_whole(path) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as file,
    ):
        write_lines(file, rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `write_csv` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
