"""What verdicts gain is counted by hand, on a network that sums pixels."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from kkanji_jax.evaluation.support import Outputs

CLASSES = 4


class BySums:
    """Features are the sums of the columns' sixteenths and the rows'; a class looks at some."""

    weights, step = "ema", 3
    kernel = np.repeat(np.eye(CLASSES), 4, axis=0).astype(np.float32)
    class_index = SimpleNamespace(digest="d", codepoints=[f"U+{n:04X}" for n in range(CLASSES)])
    trained = SimpleNamespace(params={"classifier": {"kernel": kernel}})

    def outputs(self, glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = glyphs.reshape(len(glyphs), 16, 4, 64).mean(axis=(2, 3), dtype=np.float32) / 16
        return features @ self.kernel, features


def split_of(n: int, rng: np.random.Generator) -> SimpleNamespace:
    labels = rng.integers(0, CLASSES, n).astype(np.int32)
    glyphs = rng.integers(0, 120, (n, 64, 64), np.uint8)
    for glyph, label in zip(glyphs, labels, strict=True):
        glyph[16 * label : 16 * label + 16] += np.uint8(rng.integers(20, 130))
    names = [f"{'char-shape' if i % 4 == 0 else 'kkanji'}/{i:06d}" for i in range(n)]
    return SimpleNamespace(images=glyphs, labels=labels, sample_ids=names)


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/verdicts")


def test_shares_are_counted_of_all_and_of_the_accepted(script: ModuleType):
    verdicts = np.array(["accept", "accept", "ask", "unknown", "accept"])
    told = script.told_of(verdicts, np.array([True, False, True, False, True]))
    found = {key: (told[key]["value"], told[key]["n"]) for key in told if key != "n"}
    assert told["n"] == 5
    assert found == {
        "accept": (0.6, 5),
        "accept_right": (2 / 3, 3),
        "accept_wrong": (0.2, 5),
        "unknown": (0.2, 5),
    }


def test_the_scores_that_were_tried_are_those_of_their_names(
    script: ModuleType, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(script, "_NUM_PRINCIPAL", 2)
    features, kernel = rng.normal(size=(200, 5)), rng.normal(size=(5, 3))
    tried = script.Tried(Outputs(features @ kernel, features), kernel, 2.0)
    row = rng.normal(size=5)
    found = tried(Outputs((row @ kernel)[None], row[None]))
    third, second, first = sorted(row @ kernel)
    best = int((row @ kernel).argmax())
    shares = np.exp((row @ kernel) / 2) / np.exp((row @ kernel) / 2).sum()
    length = np.sqrt((row**2).sum())
    centred = features - features.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    moved = row - features.mean(axis=0)
    outside = moved - axes[:2].T @ (axes[:2] @ moved)
    covariance = centred.T @ centred / 199
    precision = np.linalg.inv(covariance + 1e-3 * np.trace(covariance) / 5 * np.eye(5))
    expected = {
        "probability": shares.max(),
        "margin of the two largest logits": first - second,
        "entropy": (shares * np.log(shares)).sum(),
        "largest logit": first,
        "energy": np.log(np.exp(row @ kernel).sum()),
        "cosine of features and class weights": first / length / np.linalg.norm(kernel[:, best]),
        "length of the features": length,
        "distance from 512 principal axes": -np.linalg.norm(outside),
        "Mahalanobis distance": -moved @ precision @ moved,
    }
    assert found.keys() == expected.keys() and third <= second
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value), name


def test_both_ways_are_fitted_to_val_and_read_the_same_images(
    script: ModuleType, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    splits = {"val": split_of(400, rng), "test": split_of(200, rng)}
    strangers = SimpleNamespace(images=rng.integers(0, 120, (7, 64, 64), np.uint8))
    monkeypatch.setattr(script, "load", lambda model, backend: BySums())
    monkeypatch.setattr(script, "load_split", lambda dataset, name: splits[name])
    monkeypatch.setattr(script, "load_manifest", lambda dataset: {"fingerprint": "f"})
    monkeypatch.setattr(script, "load_unknown", lambda path, index, most: strangers)
    digest = SimpleNamespace(load=lambda path: SimpleNamespace(digest="d"))
    monkeypatch.setattr(script, "ClassIndex", digest)
    monkeypatch.setattr(script, "_NUM_PRINCIPAL", 4)
    monkeypatch.setattr(script, "SUMMARIES", tmp_path)
    flags = ["--dataset", "d", "--unknown", "u", "--add", "tiny"]
    assert script.main(flags) == 0
    found = json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))
    before, after = found["verdicts"].values()
    assert before.keys() == after.keys()
    assert {what: told["n"] for what, told in after.items()} == {
        "test": 200,
        "test, photographed": 50,
        "test, published": 150,
        "turned by 90°": 400,
        "turned by 180°": 200,
        "a half": 200,
        "outside the index": 7,
    }
    right = splits["test"].labels == BySums().outputs(splits["test"].images)[0].argmax(axis=1)
    accepted = before["test"]["accept"]["value"] * 200
    assert before["test"]["accept_wrong"]["value"] * 200 <= (~right).sum() < accepted
    assert [row["score"] for row in found["auroc"]][0] == "familiarity"
    assert {len(row["by_kind"]) for row in found["auroc"]} == {5}
    digest.load = lambda path: SimpleNamespace(digest="other")
    assert script.main(flags) == 1
