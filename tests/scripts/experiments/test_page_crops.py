"""Each rung of the ladder adds one step, and the two halves share no page."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.glyphs.glyph_image import glyph_steps


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/page_crops")


def test_the_last_rung_is_what_is_read_and_each_adds_a_step(script: ModuleType):
    paper = np.tile(np.linspace(230, 180, 120), (150, 1)).astype(np.uint8)
    paper[30:120, 50:70] = 50
    paper[0:6, 100:112] = 60  # a neighbour's stroke
    steps = glyph_steps(paper)
    rungs = script.ladder(steps)
    np.testing.assert_array_equal(list(rungs.values())[-1], steps.glyph)
    for rung, after in zip(list(rungs.values()), list(rungs.values())[1:], strict=False):
        assert rung.shape == (64, 64) and np.abs(rung.astype(int) - after).max() > 50


def test_a_published_glyph_is_the_same_on_the_last_rungs(script: ModuleType):
    glyph = np.zeros((64, 64), np.uint8)
    glyph[10:50, 30:36] = 255
    rungs = list(script.ladder(glyph_steps(glyph)).values())
    assert all(np.array_equal(rung, glyph) for rung in rungs)


def test_pages_not_crops_are_divided(script: ModuleType, tmp_path: Path):
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "char", "page"])
        rows.writerows([f"{i}.png", "春", f"page {i // 5}"] for i in range(100))
    crops = script.read_crops(tmp_path)
    halves = {half: {c.page for c in crops if c.is_for_tuning == half} for half in (True, False)}
    assert not halves[True] & halves[False]
    assert min(map(len, halves.values())) >= 5


def test_a_crop_of_a_training_image_is_noticed(
    script: ModuleType, tiny_dataset: Path, tiny_source: Path, rng: np.random.Generator
):
    ids = [line.split(",") for line in (tiny_dataset / "splits.csv").read_text().splitlines()[1:]]
    names = [row[0].removeprefix("kkanji/") for row in ids if row[2] == "train"][:3]
    seen = [np.asarray(Image.open(tiny_source / "kkanji2" / f"{name}.png")) for name in names]
    faint = [(image * 0.8).astype(np.uint8) for image in seen]
    noise = [rng.integers(0, 256, (64, 64), np.uint8) for _ in range(2)]
    assert (
        script.looks_like_training([*faint, *noise], tiny_dataset).tolist()
        == [True] * 3 + [False] * 2
    )


def test_a_blank_crop_is_read_wrong_and_a_half_without_kanji_is_refused(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    Image.new("L", (80, 80), 255).save(tmp_path / "blank.png")
    pages = [f"page {number}" for number in range(8)]
    halves = [script.Crop(tmp_path / "blank.png", "春", page).is_for_tuning for page in pages]
    assert len(set(halves)) == 2

    def written(some: list[str]) -> list[str]:
        lines = ["file,char,page", *(f"blank.png,春,{page}" for page in some)]
        (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [str(tmp_path)]

    assert script.main(written(pages)) == 0
    assert "0.0" in capsys.readouterr().out
    assert (
        script.main(written([page for page, half in zip(pages, halves, strict=True) if half])) == 1
    )
    assert "none of the kanji that the model knows is of the report half" in capsys.readouterr().err


def test_the_cards_n_counts_kanji_and_kana(script: ModuleType):
    score = {"value": 0.5, "ci95": [0.4, 0.6]}
    steps = {"cropped to the ink: glyph_image": score | {"n": 7}}
    halves = {"report": {"kanji_by_step": steps, "kana": score | {"n": 5}}, "tuning": {}}
    card = script.card_of({"halves": halves, "step": 1, "weights": "ema"})
    assert card["num_examples"] == 12
    del halves["report"]["kana"]
    assert script.card_of({"halves": halves, "step": 1, "weights": "ema"})["num_examples"] == 7
