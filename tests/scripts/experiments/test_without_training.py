"""What a score becomes without training: by hand, on a network that counts pixels."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image


class ByCorner:
    """Class 0 where the top left pixel is bright, class 1 where the next one down is, else 2."""

    num_classes = 3

    def outputs(self, glyphs: np.ndarray) -> tuple[np.ndarray, None]:
        bright = glyphs[:, :2, 0].astype(np.float32) / 64
        logits = np.zeros((len(glyphs), self.num_classes), np.float32)
        logits[:, :2], logits[:, 2] = bright, 0.5
        return logits, None


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/without_training")


def test_an_image_moves_and_nothing_comes_round(script: ModuleType, rng: np.random.Generator):
    images = rng.integers(1, 256, (3, 64, 64), np.uint8)
    moved = script.shifted(images, 2, -2)
    np.testing.assert_array_equal(moved[:, 2:, :-2], images[:, :-2, 2:])
    assert not moved[:, :2].any() and not moved[:, :, -2:].any()
    np.testing.assert_array_equal(script.shifted(images, 0, 0), images)


def test_each_change_is_its_own(script: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(script, "_BATCH", 2)  # the last one smaller
    images = np.zeros((3, 64, 64), np.uint8)
    images[0, 0, 0] = images[1, 1, 0] = 255
    images[2, 2:5, :5] = 255  # reaches the corner when it moves up, and when up and to the left
    found = script.answers(ByCorner(), images, [1, 1, 10**4], np.array([False, True, False]))
    assert found["as it is"].tolist() == [0, 1, 2]
    assert found["logits -0.5 × log n"].tolist() == [0, 1, 0]  # 0.5 - 4.6 is below both
    assert found["logits +0.5 × log n"].tolist() == [2, 2, 2]  # 0.5 + 4.6 above 3.98
    # 0.2 log 100 is .92, for the first two alone: the third's .5 stays below.
    assert found["logits +0.2 × log(100/n), n < 100"].tolist() == [0, 1, 0]
    # Class 1 has 1.5 more beside it: over 3.98 only of its own image, and of the third's .5.
    assert found["the same with 0.2, and kana +1.5"].tolist() == [0, 1, 1]
    counts, kana = [1, 1, 10**4], np.zeros(3, bool)
    without = script.answers(ByCorner(), images, counts, kana, copies="none")
    assert set(found) - set(without) == {f"mean of {n} places, 2 px apart" for n in (5, 9)}
    # A lone bright pixel counts .95 in one place; elsewhere dark corners say .27, .27 and .45.
    assert found["mean of 5 places, 2 px apart"].tolist() == [0, 1, 2]
    assert found["mean of 9 places, 2 px apart"].tolist() == [2, 2, 2]


def test_a_size_keeps_the_middle(script: ModuleType):
    images = np.zeros((1, 64, 64), np.uint8)
    images[0, 24:40, 24:40] = 255
    smaller, larger = (script.resized(images, side) for side in (56, 72))
    assert smaller.shape == larger.shape == images.shape
    np.testing.assert_array_equal(np.argwhere(smaller[0] > 127).min(axis=0), [25, 25])
    np.testing.assert_array_equal(np.argwhere(smaller[0] > 127).max(axis=0), [38, 38])
    np.testing.assert_array_equal(np.argwhere(larger[0] > 127).min(axis=0), [23, 23])
    np.testing.assert_array_equal(np.argwhere(larger[0] > 127).max(axis=0), [40, 40])


def test_sizes_are_averaged(script: ModuleType):
    images = np.zeros((2, 64, 64), np.uint8)
    images[:, :4, :4] = 255  # over the edge when larger; on black, away from the corner, if smaller
    kana = np.zeros(3, bool)
    found = script.answers(ByCorner(), images, [1, 1, 1], kana, copies="sizes")
    logits = [
        ByCorner().outputs(each)[0]
        for each in (images, *(script.resized(images, side) for side in (56, 72)))
    ]
    shares = [np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in logits]
    np.testing.assert_array_equal(found["mean of 3 sizes"], np.mean(shares, axis=0).argmax(axis=1))
    assert len({int(each[0].argmax()) for each in logits}) > 1


def test_dropped_images_come_back_as_mistakes(
    script: ModuleType, tiny_source: Path, tmp_path: Path, monkeypatch, capsys
):
    from data_tools import build
    from kkanji_jax.data.class_index import ClassIndex

    source, dataset = tmp_path / "source", tmp_path / "dataset"
    (source / "kkanji2").mkdir(parents=True)
    for folder in (tiny_source / "kkanji2").iterdir():
        (source / "kkanji2" / folder.name).symlink_to(folder)
    black = source / "kkanji2" / "U+6625"
    black.unlink()
    black.mkdir()
    for path in (tiny_source / "kkanji2" / "U+6625").iterdir():
        (black / path.name).write_bytes(path.read_bytes())
    Image.new("L", (64, 64)).save(black / "ffff000000000000.png")
    flags = ["--source", str(source), "--out", str(dataset), "--ratios", "60/40/0"]
    assert build.main([*flags, "--workers", "1"]) == 0
    index = ClassIndex.load(dataset / "index.json")
    images, labels = script.blanks(dataset)
    assert not images.any() and labels.tolist() == [index.id_of("U+6625")]

    monkeypatch.setattr(ByCorner, "num_classes", len(index))
    monkeypatch.setattr(script, "load", lambda _: ByCorner())
    counts = dict.fromkeys(index.codepoints, 9)
    trained = SimpleNamespace(class_index=index, train_counts=counts, weights="ema")
    monkeypatch.setattr(script, "load_trained", lambda _: trained)
    monkeypatch.setattr(script, "SUMMARIES", tmp_path / "kept")
    assert script.main(["--model", "x", "--dataset", str(dataset), "--add", "tiny"]) == 0
    rows = json.loads((tmp_path / "kept" / "tiny.json").read_text())["rows"]
    before, after = rows["as it is"]["top1"], rows["blank images put back"]["top1"]
    assert after["n"] == before["n"] + 1
    assert after["value"] * after["n"] == pytest.approx(before["value"] * before["n"])
    assert "blank images put back" in capsys.readouterr().out
