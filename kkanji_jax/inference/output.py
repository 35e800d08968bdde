"""Rows written as they come: text, CSV, JSON or JSON Lines, always UTF-8."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kkanji_jax import cli
from kkanji_jax.files import written_whole
from kkanji_jax.inference.rows import Row

FORMATS = ("text", "csv", "json", "jsonl")


@contextlib.contextmanager
def open_output(path: Path | None, has_bom: bool) -> Iterator[Any]:
    """Standard output or a file that appears when whole; UTF-8 whatever the locale."""
    if path is None:
        cli.require_output()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
        if has_bom:
            sys.stdout.write("\ufeff")
        yield sys.stdout
        sys.stdout.flush()
        return
    encoding = "utf-8-sig" if has_bom else "utf-8"
    with (
        written_whole(path) as unfinished,
        unfinished.open("w", encoding=encoding, errors="backslashreplace", newline="\n") as file,
    ):
        yield file


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
        told = [
            where,
            str(row.rank),
            row.character,
            row.codepoint,
            f"{row.probability:.4f}",
            row.verdict,
        ]
    told += [_told_variants(row), _told_neighbours(row), row.remark]
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
