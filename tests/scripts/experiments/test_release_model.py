"""A model that is not ready, or has become worse where classes are small, is not released."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.resident import load_split
from kkanji_jax.inference.recogniser import load

GOLDEN = Path(__file__).parents[2] / "golden" / "bundle_v1"


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/release_model")


def reads(script: ModuleType, prefix: str, codepoint: str, before: int, after: int, n: int = 100):
    """`n` images of a class, of which so many were and are read right."""
    return [
        script.Read(f"{prefix}/{codepoint}/{i}", codepoint, i < before, i < after) for i in range(n)
    ]


COUNTS = {"U+3042": 60, "U+6625": 700, "U+6765": 3}


def test_a_part_that_falls_by_more_than_the_margin_is_named(script: ModuleType):
    found = reads(script, "kkanji", "U+6625", 99, 90) + reads(script, "kkanji", "U+6765", 50, 49)
    fallen = script.fallen_parts(script.changes(found, COUNTS), 0.02)
    assert fallen == [
        "500 or more training images: 0.9900 -> 0.9000 (n = 100)",
        "kanji: 0.7450 -> 0.6950 (n = 200)",
        "published: 0.7450 -> 0.6950 (n = 200)",
        "published kanji: 0.7450 -> 0.6950 (n = 200)",
    ]
    assert script.fallen_parts(script.changes(found, COUNTS), 0.1) == []


def test_a_loss_in_one_script_or_look_is_not_made_up_for_by_the_others(script: ModuleType):
    found = reads(script, "kkanji", "U+6625", 80, 95)
    found += reads(script, "char-shape", "U+3042", 10, 90)
    found += reads(script, "char-shape", "U+6625", 90, 80, n=100)
    fallen = script.fallen_parts(script.changes(found, COUNTS), 0.02)
    assert fallen == ["photographed kanji: 0.9000 -> 0.8000 (n = 100)"]


def test_a_class_that_only_the_new_model_knows_was_never_read_right(script: ModuleType):
    (size, kana, *_) = script.changes(reads(script, "char-shape", "U+3042", 0, 40), COUNTS)
    assert (size.part, size.before, size.after) == ("50-99 training images", 0.0, 0.4)
    assert (kana.part, kana.n) == ("kana", 100)


def test_both_models_are_asked_about_the_very_test_images(
    script: ModuleType, tmp_path: Path, tiny_dataset: Path
):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for packed in GOLDEN.glob("*.gz"):
        (bundle / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    test = load_split(tiny_dataset, "test")
    index = ClassIndex.load(tiny_dataset / "index.json")
    true = [index.codepoints[label] for label in test.labels]
    table = tmp_path / "predictions.csv"
    rows = [
        f"{sample_id},{codepoint},{codepoint if row % 2 else 'U+0041'}"
        for row, (sample_id, codepoint) in enumerate(zip(test.sample_ids, true, strict=True))
    ]
    head = "sample_id,codepoint,predicted_1"
    table.write_text("\n".join([head, *reversed(rows)]) + "\n", "utf-8")
    found = script.read_test(bundle, tiny_dataset, table)
    assert [read.sample_id for read in found] == list(test.sample_ids)
    assert [read.is_right for read in found] == [bool(row % 2) for row in range(len(rows))]
    said = load(bundle).predict_glyphs(test.images, top_k=1)
    assert [read.was_right for read in found] == [
        reading[0].codepoint == codepoint for reading, codepoint in zip(said, true, strict=True)
    ]
    table.write_text("\n".join([head, *rows[1:]]) + "\n", "utf-8")
    with pytest.raises(ValueError, match="is not of the test images"):
        script.read_test(bundle, tiny_dataset, table)


def test_an_evaluation_of_an_earlier_step_is_done_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kkanji_jax.saved.checkpoint.best_step", lambda workdir: 7)
    assert not script.is_evaluated(tmp_path, "val")
    path = tmp_path / "eval" / "val" / "eval.json"
    path.parent.mkdir(parents=True)
    for step in (6, 7):
        path.write_text(json.dumps({"checkpoint_step": step}), encoding="utf-8")
        assert script.is_evaluated(tmp_path, "val") == (step == 7)


def test_a_run_that_was_told_to_stop_is_not_released(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    record = {"kind": "train", "step": 40, "total_steps": 100}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert script.main([str(tmp_path), "--dataset", str(tmp_path)]) == 1
    assert "is at step 40 of 100" in capsys.readouterr().err
