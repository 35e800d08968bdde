"""A model that is not ready, or has become worse where classes are small, is not released."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/release_model")


def bucket(least: int, most: int | None, top1: float | None, n: int = 100) -> dict:
    return {"min": least, "max": most, "top1": top1, "n": n}


def test_a_bucket_that_falls_by_more_than_the_margin_is_named(script: ModuleType):
    old = [bucket(5, 9, 0.50), bucket(10, 19, 0.70), bucket(500, None, 0.99)]
    new = [bucket(5, 9, 0.47), bucket(10, 19, 0.69), bucket(500, None, 0.90)]
    fallen = script.fallen_buckets(old, new, 0.02)
    assert fallen == [
        "5-9 training images: 0.5000 -> 0.4700",
        "500 or more training images: 0.9900 -> 0.9000",
    ]
    assert script.fallen_buckets(old, new, 0.1) == []


def test_a_bucket_without_images_before_or_after_says_nothing(script: ModuleType):
    empty, full = [bucket(1, 1, None, n=0)], [bucket(1, 1, 0.1)]
    assert script.fallen_buckets(empty, full, 0.02) == []
    assert script.fallen_buckets(full, empty, 0.02) == []
    assert script.fallen_buckets(full, [bucket(2, 4, 0.0)], 0.02) == []


def test_a_run_that_was_told_to_stop_is_not_released(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    record = {"kind": "train", "step": 40, "total_steps": 100}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert script.main([str(tmp_path), "--dataset", str(tmp_path)]) == 1
    assert "is at step 40 of 100" in capsys.readouterr().err
