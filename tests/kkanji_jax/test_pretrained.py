"""The model in the package: whole, small enough, honest about itself, and as good as it says."""

import csv
import io
import json
import lzma
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kkanji_jax.data.class_index import ClassIndex, codepoint_of
from kkanji_jax.evaluation.groups import K49
from kkanji_jax.inference.recogniser import load
from kkanji_jax.predict import main
from kkanji_jax.saved.bundle import read_bundle
from kkanji_jax.saved.trained import check_model

ROOT = Path(__file__).resolve().parents[2]
SPLIT = ROOT / "docs" / "splits" / "kkanji-seed0.csv.xz"
MAX_BYTES = 20_000_000
NUM_IMAGES = 400


@pytest.fixture(scope="module")
def pretrained() -> Path:
    return check_model(None)


def stated(pretrained: Path, evaluation: str, score: str) -> float:
    """A score of the model card."""
    card = (pretrained / "model_card.md").read_text(encoding="utf-8")
    section = card.split(f"`{evaluation}`: ")[1].split("\n\n`")[0]
    (value,) = re.findall(rf"^\| {score} \| (\S+)", section, re.MULTILINE)
    return float(value) / (100 if f"| {value} % |" in section else 1)


def test_it_is_whole_and_small_enough(pretrained: Path):
    bundle = read_bundle(pretrained)  # every digest is checked
    assert bundle.calibration is not None
    assert len(bundle.class_index) == 3_910
    assert sum(path.stat().st_size for path in pretrained.iterdir()) <= MAX_BYTES
    assert ClassIndex.load(pretrained / "index.json") == bundle.class_index
    assert (pretrained / "model.onnx").is_file()  # read without the onnx package


def test_its_card_says_what_a_reader_has_to_know(pretrained: Path):
    card = (pretrained / "model_card.md").read_text(encoding="utf-8")
    expected = ["CC BY-SA 4.0", "CODH", "## Known failures", "minutes", "kmnist", "page_crops"]
    expected += ["doi:10.20676/00000341", "doi:10.20676/00000340", "75 kana: あい", "え 4"]
    for each in expected:
        assert each in card, each
    stored, full = (stated(pretrained, name, "top-?1") for name in ("int8", "test"))
    assert abs(stored - full) < 0.002  # what rounding costs


def test_it_knows_all_kana_of_kuzushiji_49_and_says_how_it_reads_photographs(pretrained: Path):
    index = ClassIndex.load(pretrained / "index.json")
    assert {codepoint_of(kana) for kana in K49} <= set(index.codepoints)
    assert stated(pretrained, "test", "top-1, photographed kana") > 0.75
    assert stated(pretrained, "test", "right among `accept` of photographed kana") > 0.95
    assert stated(pretrained, "test", "right among `accept` of photographed kanji") > 0.9


def test_a_drawn_line_is_the_character_for_one(pretrained: Path):
    paper = Image.new("RGB", (300, 220), (226, 208, 172))
    ImageDraw.Draw(paper).line([(40, 118), (150, 108), (265, 104)], (40, 34, 30), 16, "curve")
    (reading,) = load(backend="onnx").predict([paper])
    assert "一" in [candidate.character for candidate in reading]


@pytest.mark.slow
def test_it_reads_images_it_was_never_trained_on_as_well_as_it_says(
    pretrained: Path, real_source: Path, tmp_path: Path
):
    text = lzma.decompress(SPLIT.read_bytes()).decode()
    ids = [row["sample_id"] for row in csv.DictReader(io.StringIO(text)) if row["split"] == "test"]
    chosen = np.random.default_rng(0).choice(ids, NUM_IMAGES, replace=False)
    folder = tmp_path / "never seen"
    folder.mkdir()
    for sample_id in chosen:
        _, codepoint, stem = sample_id.split("/")
        source = real_source / "kkanji2" / codepoint / f"{stem}.png"
        (folder / f"{codepoint}_{stem}.png").symlink_to(source)
    out = tmp_path / "readings.csv"
    assert main([str(folder), "--format", "csv", "--top-k", "1", "--out", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = [Path(row["path"]).name.startswith(f"{row['codepoint']}_") for row in rows]
    expected = stated(pretrained, "test", "top-1, published kanji")
    spread = (expected * (1 - expected) / NUM_IMAGES) ** 0.5
    assert len(rows) == NUM_IMAGES and abs(np.mean(right) - expected) < 3.3 * spread
    calibration = json.loads((pretrained / "calibration.json").read_text())
    accepted = [ok for row, ok in zip(rows, right, strict=True) if row["verdict"] == "accept"]
    assert np.mean(accepted) > calibration["verdicts"]["accept"]["accuracy"] - 0.04
