"""docs/predict.md tells the truth: its columns are the columns, and its Python runs."""

import json
import re
import shutil
from pathlib import Path

import pytest

from kkanji_jax.answers.rows import Row
from kkanji_jax.export.__main__ import main as export
from kkanji_jax.predict import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "predict.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not beside")

KINDS = {"string": str, "integer": int, "number": float, "list": list, "[x, y, w, h]": list}


def documented() -> dict[str, str]:
    """Column -> its type in JSON, from the table."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: told.strip() for name, told in rows}


def test_the_columns_are_those_of_the_table_in_order():
    assert list(documented()) == list(Row._fields)


def test_json_has_the_documented_types(tiny_run, tmp_path: Path):
    (tmp_path / "broken.png").write_text("no image")
    good = sorted((tiny_run.source / "U+6625").iterdir())[0]
    out = tmp_path / "out.json"
    run = shutil.copytree(tiny_run.workdir, tmp_path / "run")  # its index is written there
    arguments = [str(good), str(tmp_path / "broken.png"), "--model", str(run)]
    arguments += ["--backend", "onnx", "--neighbours", "1", "--dataset", str(tiny_run.dataset)]
    assert main([*arguments, "--format", "json", "--out", str(out)]) == 1
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert len(rows) == 6 and any(row["error"] for row in rows)
    for row in rows:
        assert row.keys() == documented().keys()
        for name, told in documented().items():
            kind = next(kind for start, kind in KINDS.items() if told.startswith(start))
            is_null = row[name] is None and "or null" in told
            assert is_null or isinstance(row[name], kind), (name, row[name])


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_with_one_onnx_file_runs(tiny_run, tmp_path: Path, monkeypatch, capsys):
    (code,) = (example for example in examples() if "b0.onnx" in example)
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", str(tiny_run.workdir), "--onnx", "--self-contained"]
    assert export([*arguments, "--out", "b0.onnx"]) == 0
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out.strip() in {f"U+{ord(c):04X}" for c in "春夏秋冬山川"}


def test_the_python_example_runs(tiny_run, tmp_path: Path, monkeypatch, capsys):
    (code,) = (example for example in examples() if "kkanji_jax.load" in example)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/b0").symlink_to(tiny_run.workdir)
    (tmp_path / "crops").mkdir()
    for number, codepoint in ((1, "U+6625"), (2, "U+590F")):
        file = sorted((tiny_run.source / codepoint).iterdir())[0]
        shutil.copy(file, tmp_path / f"crops/{number:03d}.png")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(code, scope)
    *readings, last = capsys.readouterr().out.splitlines()
    assert len(readings) == 2 and all(line.count("U+") == 3 for line in readings)
    assert last[0] in "春夏秋冬" and last.endswith("(2, 320)")
    (code,) = (example for example in examples() if "on_error" in example)
    exec(code, scope)
    first, second = capsys.readouterr().out.splitlines()
    assert first in "春夏秋冬山川" and "No such file or directory: crops/gone.png" in second
