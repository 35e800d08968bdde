"""The nearest training images, by the whole features' cosine or close to it; built once."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.inference import neighbours as neighbours_lib
from kkanji_jax.inference.neighbours import NeighbourIndex, build_index, cached_index
from kkanji_jax.inference.recogniser import load
from kkanji_jax.predict import main


def outputs_of(glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stands in for a network: features are fixed projections of the pixels."""
    kernel = np.random.default_rng(5).normal(size=(4096, 300)).astype(np.float32)
    return np.zeros((len(glyphs), 2)), glyphs.reshape(len(glyphs), -1) / np.float32(255) @ kernel


def clusters(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    centres = rng.integers(0, 256, (count, 64, 64)).repeat(size, 0)
    return np.clip(centres + rng.normal(0, 25, centres.shape), 0, 255).astype(np.uint8)


def test_the_nearest_are_those_of_the_whole_features(rng: np.random.Generator):
    images = clusters(rng, 30, 40)
    ids, codepoints = (
        [f"s/{i:06d}" for i in range(1200)],
        [f"U+{0x4E00 + i // 40:04X}" for i in range(1200)],
    )
    index = build_index(outputs_of, images, ids, codepoints)
    assert index.vectors.dtype == np.float16 and index.vectors.shape == (1200, 128)
    queries = clusters(np.random.default_rng(0), 30, 40)[::40]
    features = outputs_of(queries)[1]
    unit = features - index.mean
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    whole = outputs_of(images)[1] - index.mean
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    likeness = unit @ whole.T
    for number, found in enumerate(index.nearest(features, 5)):
        assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
        assert {n.codepoint for n in found} == {f"U+{0x4E00 + number:04X}"}
        # What half precision and 128 components leave of the exact order.
        exact = likeness[number][[ids.index(n.sample_id) for n in found]]
        assert exact.min() > np.sort(likeness[number])[-40]


def test_an_image_is_its_own_nearest_and_more_are_asked_than_there_are(rng: np.random.Generator):
    images = rng.integers(0, 256, (7, 64, 64), np.uint8)
    index = build_index(outputs_of, images, list("abcdefg"), ["U+4E00"] * 7)
    for number, found in enumerate(index.nearest(outputs_of(images)[1], 99)):
        assert len(found) == 7 and found[0].sample_id == "abcdefg"[number]
        assert found[0].similarity == pytest.approx(1, abs=2e-3)


def test_the_index_is_built_once_and_found_again(tiny_run, tmp_path: Path, monkeypatch, capsys):
    run = Path(shutil.copytree(tiny_run.workdir, tmp_path / "run"))
    recogniser = load(run, backend="onnx")
    with pytest.raises(ValueError, match="needs --dataset DATASET: 0 indexes"):
        cached_index(recogniser, None)
    index = cached_index(recogniser, tiny_run.dataset)
    assert "once" in capsys.readouterr().err
    (kept,) = run.glob("neighbours-*.npz")
    assert index.sample_ids[0].startswith("kkanji/")

    def not_again(*args):
        raise AssertionError("built again")

    monkeypatch.setattr(neighbours_lib, "build_index", not_again)
    for dataset in (tiny_run.dataset, None):
        again = cached_index(recogniser, dataset)
        np.testing.assert_array_equal(again.vectors, index.vectors)
    # Other weights of the same run have other neighbours.
    with pytest.raises(ValueError, match="0 indexes"):
        cached_index(load(run, weights="raw", backend="onnx"), None)
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(ValueError, match="remove it, and give --dataset"):
        NeighbourIndex.load(kept)


def test_a_bundle_is_not_written_into(tiny_run, tmp_path: Path, monkeypatch, capsys):
    from kkanji_jax.export.__main__ import main as export

    bundle = tmp_path / "bundle"
    assert export(["--model", str(tiny_run.workdir), "--out", str(bundle)]) == 0
    before = sorted(path.name for path in bundle.iterdir())
    monkeypatch.setenv("KKANJI_CACHE", str(tmp_path / "cache"))
    splits = csv.DictReader((tiny_run.dataset / "splits.csv").read_text().splitlines())
    learnt = next(row["sample_id"] for row in splits if row["split"] == "train")
    file = tiny_run.source / f"{learnt.removeprefix('kkanji/')}.png"
    arguments = [str(file), "--model", str(bundle), "--backend", "onnx", "--neighbours", "2"]
    capsys.readouterr()
    assert main([*arguments, "--dataset", str(tiny_run.dataset), "--top-k", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    told = first.split("\t")[-1].split("; ")
    assert len(told) == 2 and told[0].startswith(learnt) and float(told[0].split()[-1]) > 0.999
    assert "kkanji/" not in second  # on the best row only
    assert sorted(path.name for path in bundle.iterdir()) == before
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_without_a_cache_the_index_of_a_bundle_is_made_each_time(
    tiny_run, tmp_path: Path, monkeypatch
):
    from kkanji_jax.export.__main__ import main as export

    bundle = tmp_path / "bundle"
    assert export(["--model", str(tiny_run.workdir), "--out", str(bundle)]) == 0
    monkeypatch.setenv("KKANJI_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recogniser = load(bundle, backend="onnx")
    assert len(cached_index(recogniser, tiny_run.dataset).sample_ids) > 50
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ValueError, match="KKANJI_CACHE=off keeps no index"):
        cached_index(recogniser, None)
