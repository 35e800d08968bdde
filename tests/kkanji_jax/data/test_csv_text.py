"""Tables that are written here can be read, whatever their cells hold."""

from pathlib import Path

import pytest

from kkanji_jax.evaluation.csv_tables import read_csv, write_csv


@pytest.mark.parametrize("cell", ["a\rb", "a\r", "a\nb", "a\r\nb", 'a"b', "a,b", " a", ""])
def test_a_cell_survives_its_table(cell: str, tmp_path: Path):
    path = tmp_path / "table.csv"
    write_csv(path, [["path", "label"], [cell, "1"], ["b", cell]])
    assert read_csv(path) == [{"path": cell, "label": "1"}, {"path": "b", "label": cell}]
    assert path.read_bytes().startswith(b"path,label\n")
