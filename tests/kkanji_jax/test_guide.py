"""The guide and its notebook, run as they stand, from a page to a table of candidates."""

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax import predict

ROOT = Path(__file__).resolve().parents[2]
GUIDE, NOTEBOOK = (ROOT / "docs" / f"reading-a-page.{suffix}" for suffix in ("md", "ipynb"))
pytestmark = pytest.mark.skipif(not GUIDE.is_file(), reason="the documentation is not beside")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the project's folder has, where the guide may write."""
    for name in ("scripts", "kkanji_jax"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_commands_of_the_guide_lead_from_a_page_to_a_table(here: Path):
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        words = shlex.split(block)
        assert words[0] == "python"
        if words[1] == "-m":
            assert words[2] == "kkanji_jax.predict"
            assert predict.main(words[3:]) == 0
        else:
            subprocess.run([sys.executable, *words[1:]], check=True)
    assert len(blocks) == 3
    boxes, readings = table(here / "page" / "boxes.csv"), table(here / "page" / "readings.csv")
    assert [row["id"] for row in boxes] == list(dict.fromkeys(row["id"] for row in readings))
    assert len(readings) == 3 * len(boxes) and not any(row["error"] for row in readings)
    page = np.asarray(Image.open(here / "page" / "page.jpg").convert("RGB")).astype(int)
    read = np.asarray(Image.open(here / "page" / "read.png").convert("RGB")).astype(int)
    assert read.shape == page.shape and np.abs(read - page).max() > 100
    with Image.open(here / "page" / "steps.png") as steps:
        assert steps.height > len(boxes) * 100


def test_the_guides_example_of_boxes_is_what_the_page_has(here: Path):
    (shown,) = re.findall(r"```\n(id,.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    command = ["scripts/demo/demo_page.py", "kkanji_jax/demo", "page"]
    subprocess.run([sys.executable, *command], check=True)
    assert (here / "page" / "boxes.csv").read_text(encoding="utf-8").startswith(shown)


def test_the_notebook_runs_from_top_to_bottom(here: Path, capsys):
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict = {}
    for number, cell in enumerate(cells):
        assert cell["outputs"] == []  # they would go stale
        exec(compile(cell["source"], f"cell {number}", "exec"), names)
    told = capsys.readouterr().out
    boxes = table(here / "page" / "boxes.csv")
    assert f"of {len(boxes)} first candidates are right" in told
    rows = table(here / "page" / "candidates.csv")
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in boxes)
    assert all(row["first"] and row["third"] for row in rows)
