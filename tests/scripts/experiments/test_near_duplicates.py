"""Crops that repeat a published image are found, and no others."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from data_tools.plan.split import read_left_out


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/near_duplicates")


def glyph(seed: int) -> np.ndarray:
    """White strokes on black that fill the frame, so that `glyph_image` leaves them as they are."""
    image = np.zeros((64, 64), np.uint8)
    image[2:10, 2:5] = image[54:62, 59:62] = 255
    for row, column in np.random.default_rng(seed).integers(8, 48, (6, 2)).tolist():
        image[row : row + 8, column : column + 3] = 255
    return image


def save(folder: Path, name: str, image: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name)


def test_the_most_alike_is_found_in_any_block(script: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(script, "_ROWS", 2)
    published = np.stack([glyph(seed) for seed in range(7)])
    highest, rows = script.most_alike(published[[5, 0]] // 2, published)
    assert rows.tolist() == [5, 0]
    np.testing.assert_allclose(highest, 1, atol=1e-3)  # half as bright, as like
    assert script.most_alike(np.zeros((1, 64, 64), np.uint8), published)[0] == [0]


def test_likenesses_and_what_is_known_are_listed_for_the_build(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "source"
    for seed in range(4):
        save(source / "kkanji2" / "U+6625", f"{seed}.png", glyph(seed))
    name = "U+6625_b1_00001_1_X0001_Y{:04d}.png"
    for number, image in enumerate((glyph(2), glyph(50), glyph(51))):
        save(source / "b1" / "characters" / "U+6625", name.format(number), image)
    crops = tmp_path / "crops.csv"
    known = f"{name.format(1)},U+6625,kmnist-test[58]"
    crops.write_text(f"file,codepoint,same_character_in\n{known}\n{name.format(2)},U+6625,\n")
    out = tmp_path / "out.csv"
    command = ["--source", str(source), "--out", str(out)]
    assert script.main([*command, "--crops", str(crops)]) == 0
    assert "1 of 3 crops correlate over 0.9\n" in capsys.readouterr().out
    ids = [f"char-shape/U+6625/{Path(name.format(number)).stem}" for number in range(2)]
    assert read_left_out(out) == {
        ids[0]: "like kkanji/U+6625/2 (correlation 1.000)",
        ids[1]: "the same character as kmnist-test/000058",
    }
    assert script.main(["--source", str(source / "kkanji2"), "--out", str(out)]) == 1
