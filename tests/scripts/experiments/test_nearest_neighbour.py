"""The floor: near copies are found, and the scores are those of the images' own classes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/nearest_neighbour")


def test_a_faint_shifted_copy_is_nearest_to_its_original(
    script: ModuleType, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(script, "_TRAIN_ROWS", 7)  # several parts, the last one smaller
    blocks = 255 * (rng.random((40, 8, 8)) < 0.3).astype(np.uint8)
    train = blocks.repeat(8, axis=1).repeat(8, axis=2)
    chosen = rng.permutation(40)[:15]
    test = (0.6 * np.roll(train[chosen], 1, axis=2)).astype(np.uint8)
    np.testing.assert_array_equal(script.nearest(train, test), chosen)


def test_scores_are_kept_with_their_n(
    script: ModuleType, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(script, "SUMMARIES", tmp_path)
    assert script.main([str(tiny_dataset), "--add", "tiny"]) == 0
    kept = json.loads((tmp_path / "tiny.json").read_text())
    manifest = json.loads((tiny_dataset / "manifest.json").read_text())
    n = manifest["splits"]["test"]["num_examples"]
    assert kept["top1"]["n"] == kept["macro"]["n"] == n
    assert f"n={n}" in capsys.readouterr().out and 0 <= kept["macro"]["value"] <= 1
    assert script.main([str(tmp_path)]) == 1
