"""The rows of an answer: made in batches, written as they come."""

import csv
import itertools
import json
import os
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kkanji_jax.data.kanji_forms import Form, forms
from kkanji_jax.reading.files import Found

if TYPE_CHECKING:
    from kkanji_jax.reading.neighbours import Neighbour, NeighbourIndex
    from kkanji_jax.recogniser import Recogniser

FORMATS = ("text", "csv", "json", "jsonl")
BATCH_SIZE = 128  # images in memory at a time


class Row(NamedTuple):
    """One line of the answer; None where it does not apply.

    An image that cannot be read, or whose candidates are all too improbable, is one row without a
    candidate. `neighbours` stand on the row of rank 1.
    """

    path: str
    rank: int | None = None
    character: str | None = None
    codepoint: str | None = None
    probability: float | None = None
    verdict: str = ""
    error: str = ""
    id: str = ""
    box: tuple[int, int, int, int] | None = None
    variants: tuple[Form, ...] = ()
    neighbours: "tuple[Neighbour, ...]" = ()


class Asked(NamedTuple):
    """What a reader wants to be told of each image."""

    top_k: int = 5
    characters: Collection[str] | None = None  # the answer is one of these
    min_probability: float = 0.0
    index: "NeighbourIndex | None" = None
    num_neighbours: int = 0


def predict_rows(recogniser: "Recogniser", found: Iterable[Found], asked: Asked) -> Iterator[Row]:
    """Rows of every file in order; at most BATCH_SIZE images are held at a time."""
    import numpy as np

    from kkanji_jax.data.glyph_image import glyph_image

    remaining = iter(found)
    while batch := list(itertools.islice(remaining, BATCH_SIZE)):
        glyphs: dict[int, Any] = {}
        errors: dict[int, str] = {}
        for position, item in enumerate(batch):
            try:
                if item.error:
                    errors[position] = item.error
                else:
                    source = item.path if item.image is None else item.image
                    glyphs[position] = glyph_image(source)
            except (ValueError, OSError) as err:
                errors[position] = " ".join(str(err).split())
        readings: dict[int, Any] = {}
        neighbours: dict[int, Any] = {}
        if glyphs:
            stacked = np.stack(list(glyphs.values()))
            logits, features = recogniser.outputs(stacked)
            answers = recogniser.readings_of(
                logits, stacked, asked.top_k, characters=asked.characters
            )
            readings = dict(zip(glyphs, answers, strict=True))
            if asked.index is not None:
                nearest = asked.index.nearest(features, asked.num_neighbours)
                neighbours = dict(zip(glyphs, nearest, strict=True))
        for position, item in enumerate(batch):
            # File names are UTF-8 here whatever the locale; other bytes show as \xff.
            path = os.fsencode(item.path).decode("utf-8", "backslashreplace")
            empty = Row(path, id=item.id, box=item.box)
            if position in errors:
                yield empty._replace(error=errors[position])
            else:
                yield from _rows_of(
                    empty, readings[position], tuple(neighbours.get(position, ())), asked
                )


def _rows_of(
    empty: Row, reading: Any, neighbours: "tuple[Neighbour, ...]", asked: Asked
) -> Iterator[Row]:
    kept = [c for c in reading if c.probability >= asked.min_probability]
    if not kept:
        verdict = reading.verdict if reading.verdict == "blank" else "unknown"
        yield empty._replace(verdict=verdict, neighbours=neighbours)
    for candidate in kept:
        yield empty._replace(
            rank=candidate.rank,
            character=candidate.character,
            codepoint=candidate.codepoint,
            probability=candidate.probability,
            verdict=reading.verdict,
            variants=forms(candidate.codepoint),
            neighbours=neighbours if candidate.rank == 1 else (),
        )


# --- writing -----------------------------------------------------------------------------------


def write_rows(rows: Iterable[Row], file: Any, form: str) -> None:
    """Writes rows as they come: `text` (tab-separated), `csv`, `json` (one array) or `jsonl`."""
    if form == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(_cells(row) for row in rows)
    elif form == "text":
        file.writelines(_line(row) for row in rows)
    else:
        before = "[\n" if form == "json" else ""
        for row in rows:
            text = json.dumps(_object(row), ensure_ascii=False)
            file.write(f"{before}{text}" if form == "json" else f"{text}\n")
            before = ",\n"
        if form == "json":
            file.write("[]\n" if before == "[\n" else "\n]\n")


def _cells(row: Row) -> list[Any]:
    shown = "" if row.probability is None else f"{row.probability:.6f}"
    box = "" if row.box is None else " ".join(map(str, row.box))
    return list(
        row._replace(
            probability=shown,  # pyright: ignore[reportArgumentType]
            box=box,  # pyright: ignore[reportArgumentType]
            variants=_told_variants(row),  # pyright: ignore[reportArgumentType]
            neighbours=_told_neighbours(row),  # pyright: ignore[reportArgumentType]
        )
    )


def _object(row: Row) -> dict[str, Any]:
    content = row._asdict()
    content["variants"] = [
        {"character": form.character, "codepoint": form.codepoint, "relation": form.relation}
        for form in row.variants
    ]
    content["neighbours"] = [
        {
            "sample_id": neighbour.sample_id,
            "codepoint": neighbour.codepoint,
            "similarity": round(neighbour.similarity, 4),
        }
        for neighbour in row.neighbours
    ]
    return content


def _line(row: Row) -> str:
    where = _printable(row.path)
    if row.box is not None:
        where += "#" + ",".join(map(str, row.box))
    if row.id:
        where += f" {_printable(row.id)}"
    if row.error:
        return f"{where}\terror: {_printable(row.error)}\n"
    if row.rank is None:
        told = [where, "", "", "", "", row.verdict]
    else:
        told = [where, str(row.rank), row.character, row.codepoint, f"{row.probability:.4f}",
                row.verdict]  # fmt: skip
    told += [_told_variants(row), _told_neighbours(row)]
    return "\t".join(str(field) for field in told).rstrip("\t") + "\n"


def _told_variants(row: Row) -> str:
    told = (f"{form.character} {form.codepoint} {form.relation}" for form in row.variants)
    return "; ".join(told)


def _told_neighbours(row: Row) -> str:
    told = (f"{n.sample_id} {n.codepoint} {n.similarity:.4f}" for n in row.neighbours)
    return "; ".join(told)


def _printable(text: str) -> str:
    """Control characters escaped: a file's name must not drive the reader's terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
