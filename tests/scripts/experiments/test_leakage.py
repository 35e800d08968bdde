"""Leakage measured: the same steps on both protocols, scored on what each held out."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TINY = [
    "--config.model.variant=nano",
    "--config.model.image_px=16",
    "--config.batch_size=16",
    "--config.steps_per_dispatch=1",
]


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/leakage")


def test_a_source_without_characters_is_named(script: ModuleType, tmp_path: Path, capsys):
    arguments = ["--source", str(tmp_path), "--scratch", str(tmp_path / "scratch")]
    assert script.main(arguments) == 1
    assert f"error: {tmp_path}/kkanji2 has no folders U+XXXX" in capsys.readouterr().err


@pytest.mark.slow
def test_both_runs_take_the_same_steps_and_hold_out_their_own(
    script: ModuleType,
    tiny_source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(script, "PER_CLASS", 40)
    arguments = ["--source", str(tiny_source), "--scratch", str(tmp_path), "--", *TINY]
    assert script.main(arguments) == 0
    said = capfd.readouterr().out.splitlines()[-2:]
    assert [line.partition(":")[0] for line in said] == ["legacy", "honest"]

    def last_step(protocol: str) -> int:
        lines = (tmp_path / "runs" / f"leak-{protocol}" / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["step"]

    assert last_step("legacy") == last_step("honest") > 30
    legacy, honest = (
        json.loads((tmp_path / "runs" / f"leak-{name}" / "eval" / "val" / "eval.json").read_text())
        for name in ("legacy", "honest")
    )
    assert 12 <= legacy["num_examples"] <= 40  # about a tenth of 6 classes of 40 copies
    assert 5 <= honest["num_examples"] <= 26  # about a tenth of 6 classes of 24 originals
    assert script.main(arguments) == 0
    assert capfd.readouterr().out.splitlines() == said  # nothing was left to do
