"""Rows written as they come: text, CSV, JSON or JSON Lines, always UTF-8."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from kkanji_jax.answers.rows import Row

FORMATS = ("text", "csv", "json", "jsonl")
# Makes a document, in parts, of the rows of one image after another.
Render = Callable[[Iterator[list[Row]]], Iterator[str]]
_NEEDS_QUOTES = re.compile(r'[,"\r\n]')


class RowFormat(NamedTuple):
    """How rows are written: `text` (tab-separated), `csv`, `json` (one array) or `jsonl`.

    `is_for_excel` marks CSV as UTF-8, and quotes with ' a cell that Excel would take for a formula.
    """

    name: str
    is_for_excel: bool = False

    def head(self) -> str:
        """What stands before the rows."""
        if self.name != "csv":
            return ""
        return ("\ufeff" if self.is_for_excel else "") + _csv_line(Row._fields)

    def text_of(self, row: Row, is_first: bool) -> str:
        """One row, whole."""
        if self.name == "text":
            return _line(row)
        if self.name == "csv":
            cells = map(str, _cells(row))
            return _csv_line(map(_no_formula, cells) if self.is_for_excel else cells)
        text = json.dumps(object_of(row), ensure_ascii=False)
        if self.name == "jsonl":
            return f"{text}\n"
        return f"[\n{text}" if is_first else f",\n{text}"

    def tail(self, is_empty: bool) -> str:
        """What stands after the rows."""
        if self.name != "json":
            return ""
        return "[]\n" if is_empty else "\n]\n"


def write_rows(rows: Iterable[Row], file: Any, form: RowFormat) -> None:
    """Writes rows to a text stream as they come."""
    file.write(form.head())
    is_first = True
    for row in rows:
        file.write(form.text_of(row, is_first))
        is_first = False
    file.write(form.tail(is_first))


def row_of_json(line: str) -> Row:
    """A row of JSON Lines, without its variants and neighbours."""
    content = json.loads(line)
    content["box"] = None if content["box"] is None else tuple(content["box"])
    return Row(**{**content, "variants": (), "neighbours": ()})


def _csv_line(cells: Iterable[str]) -> str:
    return ",".join(map(_csv_cell, cells)) + "\n"


def _csv_cell(text: str) -> str:
    """Quoted where a reader of CSV would else end the cell or the line, a bare CR among them."""
    if _NEEDS_QUOTES.search(text) or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _cells(row: Row) -> list[Any]:
    told: dict[str, Any] = {
        "probability": "" if row.probability is None else f"{row.probability:.6f}",
        "box": "" if row.box is None else " ".join(map(str, row.box)),
        "variants": _told_variants(row),
        "neighbours": _told_neighbours(row),
    }
    cells = [told.get(name, value) for name, value in zip(Row._fields, row, strict=True)]
    return ["" if cell is None else cell for cell in cells]


def object_of(row: Row) -> dict[str, Any]:
    """A row as JSON has it."""
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
