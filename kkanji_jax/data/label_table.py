"""Labels of images in a table: CSV with a path and a character, and optionally a box on a page."""

import csv
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.data.class_index import character_of, codepoint_of, composed, parse_codepoint
from kkanji_jax.data.csv_text import CsvText, decoded

LABELS = "labels.csv"  # the name by which a table is found in a folder
_PATHS, _LABELS = ("path", "image", "file", "filename"), ("codepoint", "character", "label")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

BoxPlace = tuple[int, int, int, int]


class Label(NamedTuple):
    """What one line says: an image, or a box on one (left, top, width, height), and its character.

    `path` is as the table has it, relative to the table.
    """

    path: str
    codepoint: str
    box: BoxPlace | None
    line: int

    @property
    def name(self) -> str:
        """The path, and the box after a `#`."""
        return self.path + ("" if self.box is None else "#" + ",".join(map(str, self.box)))


def read_labels(table: Path) -> list[Label]:
    """The lines of a CSV file with the columns `path` and `codepoint`, and optionally `box`.

    The label may also be a character, in a column `character` or `label`; if a line has several of
    the three, they must agree. `box` is four numbers, x y w h. Lines without a label are left out.
    A `'` before a cell that a spreadsheet would take for a formula is removed. The file may have
    any encoding and separator that `csv_text` knows. ValueError names the table and the line, and
    refuses a line with the same image or box as an earlier one.
    """
    rows = CsvText(decoded(table))
    named = next((name for name in _PATHS if name in rows.heading), None)
    columns = [name for name in _LABELS if name in rows.heading]
    if named is None or not columns:
        raise ValueError(f"{table}: expected a heading with path and codepoint, got {rows.heading}")
    labels: list[Label] = []
    lines: dict[tuple[str, BoxPlace | None], int] = {}
    try:
        for cells in rows:
            row = dict(zip(rows.heading, map(unquoted, cells), strict=False))
            codepoint = _label_of({name: row.get(name, "").strip() for name in columns})
            if codepoint is None:
                continue
            path, box = row.get(named, ""), _box_of(row.get("box", ""))
            if not path.strip():
                raise ValueError(f"it labels {character_of(codepoint)}, but names no image")
            first = lines.setdefault((path, box), rows.line_num)
            if first != rows.line_num:
                raise ValueError(f"{path} is labelled in line {first} already: keep one of the two")
            labels.append(Label(path, codepoint, box, rows.line_num))
    except (ValueError, csv.Error) as err:
        raise ValueError(f"{table}, line {rows.line_num}: {err}") from err
    return labels


def unquoted(cell: str) -> str:
    """A cell without the `'` that keeps a spreadsheet from taking it for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def _label_of(cells: dict[str, str]) -> str | None:
    """The code point in the label columns of a line; ValueError if they name several."""
    labels = {name: _codepoint_in(name, cell) for name, cell in cells.items() if cell}
    if len(set(labels.values())) > 1:
        told = " and ".join(f"{name} {cells[name]}" for name in labels)
        raise ValueError(f"its {told} differ: correct one, or leave it empty")
    return next(iter(labels.values()), None)


def _codepoint_in(column: str, cell: str) -> str:
    """The code point that a cell is, or that of its character."""
    character = composed(cell)
    if len(character) == 1:
        return codepoint_of(character)
    if cell.isascii():
        return parse_codepoint(cell)
    raise ValueError(
        f"expected one character or a code point such as U+6625 for {column}, got {cell!r}"
    )


def _box_of(cell: str) -> BoxPlace | None:
    if not cell.strip():
        return None
    try:
        left, top, width, height = map(int, cell.split())
    except ValueError as err:
        raise ValueError(f"expected a box of four numbers, x y w h, got {cell!r}") from err
    return left, top, width, height
