"""The guide to your own crops, every command as it stands: from a folder to a bundle that reads.

Its network is tiny, and so are its model to begin with and its crops, which are the demo's: scores
mean nothing here.
"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from kkanji_jax.data.class_index import codepoint_of

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "your-own-crops.md"
TINY = """
from kkanji_jax.config import Config, default_config

def get_config(variant: str = "") -> Config:
    assert variant == "cpu"
    config = default_config()
    config.model.variant, config.model.image_px, config.model.dtype = "nano", 32, "float32"
    config.model.drop_path, config.batch_size, config.epochs = 0.0, 32, 2.0
    config.log_every_steps = 2
    return config
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GUIDE.is_file(), reason="the documentation is not beside"),
]


@pytest.fixture
def here(tmp_path: Path, tiny_run) -> Path:
    """A librarian's folder: crops of six characters, scans without labels, a config, a model."""
    with tarfile.open(ROOT / "kkanji_jax" / "demo" / "kkanji.tar") as tar:
        names = [name for name in tar.getnames() if name.endswith(".png")]
        for codepoint in ("U+4E00", "U+4E91", "U+4E8B", "U+4EBA", "U+53C8", "U+51FA"):
            own = [name for name in names if f"/{codepoint}/" in name][:24]
            for number, name in enumerate(own):
                file = tar.extractfile(name)
                assert file is not None
                is_scan = number >= 20
                folder = tmp_path / ("mine/scans" if is_scan else f"crops/{codepoint}")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{codepoint} {number}.png").write_bytes(file.read())
    shutil.copytree(tmp_path / "mine" / "scans", tmp_path / "scans")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "b0.py").write_text(TINY)
    for model in ("runs", "kkanji_jax/pretrained"):
        shutil.copytree(tiny_run.workdir, tmp_path / model / "b0")
    return tmp_path


def label(folder: Path) -> None:
    """What a reader's browser saves from the sheet, who knows all characters."""
    html = (folder / "review.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    with (folder / "labels.csv").open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "box", "id", "codepoint", "character", "verdict", "read"])
        for item in json.loads(data):
            codepoint = Path(item["path"]).name.split()[0]
            read = item["candidates"][0][0] if item["candidates"] else ""
            rows.writerow([item["path"], item["box"], item["id"], codepoint, "", "", read])


def test_every_command_of_the_guide_works_as_it_stands(here: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if line.strip()]
    told = {}
    for command in commands:
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"], command
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=here, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
        told[command] = done.stdout
        if "--review" in words:
            label(here / "mine")
    assert len(commands) == 9

    scores = json.loads((here / "scores" / "images.json").read_text())
    assert scores["num_images"] == 120 and scores["top1"]["value"] > 0.5  # the package's model
    assert (here / "scores" / "images_confusions.png").is_file()
    reviewed = next(out for command, out in told.items() if "labels.csv" in command)
    assert reviewed.startswith("24 images, 0 could not be read")
    index = json.loads((here / "own" / "index.json").read_text())
    assert all(codepoint_of(c) in json.dumps(index) for c in "一云事人又出")
    assert (here / "runs" / "own" / "eval" / "test" / "eval.json").is_file()
    answers = told[commands[-1]].splitlines()
    assert {line.split("\t")[0] for line in answers} == {
        f"scans/{path.name}" for path in (here / "scans").iterdir()
    }
