"""The ablations: which classes are chosen, every row a run, and a table that is right."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/ablations")


def test_the_chosen_classes_lie_evenly(load_script: Callable[[str], ModuleType]):
    choose = load_script("experiments/some_classes").choose
    classes = [Path(str(number)) for number in range(10)]
    assert [path.name for path in choose(classes, 4)] == ["0", "2", "5", "7"]
    assert choose(classes, 99) == classes


def test_a_run_that_was_told_to_stop_is_not_scored(
    load_script: Callable[[str], ModuleType], tmp_path: Path
):
    require_finished = load_script("experiments/project_commands").require_finished
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"kind": "train", "step": 20, "total_steps": 30}\n')
    with pytest.raises(ValueError, match="at step 20 of 30; the same command goes on"):
        require_finished(tmp_path)
    with log.open("a") as file:
        file.write(
            '{"kind": "train", "step": 30, "total_steps": 30}\n{"kind": "eval", "step": 30}\n'
        )
    require_finished(tmp_path)


def test_every_row_changes_what_it_says(script: ModuleType):
    config = runpy.run_path(str(script.CONFIG))
    base = config["get_config"]("base").to_dict()
    from kkanji_jax.config import differences

    for row, changes in config["CHANGES"].items():
        lines = differences(base, config["get_config"](row).to_dict())
        assert [line.partition(":")[0] for line in lines] == list(changes)


def test_a_gain_is_over_the_seeds_that_both_have(
    script: ModuleType, load_script: Callable[[str], ModuleType]
):
    def run(seed: int, top1: float, macro: float) -> dict[str, Any]:
        score = {"n": 50, "ci95": [0.7, 0.9]}
        counts = {"classes": 9, "train_examples": 75, "steps": 30, "num_examples": 50}
        return {
            "seed": seed,
            "elapsed_s": 60.0,
            "top1": score | {"value": top1},
            **counts,
            "macro": score | {"value": macro},
        }

    rows = [
        {"name": "base", "changes": [], "runs": [run(0, 0.80, 0.5), run(1, 0.84, 0.6)]},
        {
            "name": "mixup",
            "changes": ["augment.mixup_alpha: 0.0 -> 0.2"],
            "runs": [run(1, 0.86, 0.55)],
        },
        {
            "name": "first_48px",
            "changes": ["epochs: 12.0 -> 8.0", "model.image_px: 64 -> 48"],
            "runs": [run(1, 0.80, 0.55)],
        },
        {
            "name": "then_64px",
            "changes": ["epochs: 12.0 -> 6.0", "init_from: None -> 'first_48px'"],
            "runs": [run(1, 0.85, 0.55)],
        },
    ]
    text = load_script("experiments/results_page").page(
        [], {"ablations": {"b0-9": {"hardware": "x", "rows": rows}}}
    )
    assert "| base | as it is | 80.0, 84.0 | 82.0 % |  | 55.0 % |  | 1 min |" in text
    assert "`augment.mixup_alpha: 0.0 -> 0.2` | 86.0 | 86.0 % | +2.0 | 55.0 % | -5.0 |" in text
    assert "- mixup or cutout" not in text and "- label smoothing" in text
    assert "- stem stride or input size" not in text


def test_a_row_comes_after_the_one_that_it_starts_from(script: ModuleType):
    config = runpy.run_path(str(script.CONFIG))
    ordered = script.with_first_stages(["then_64px", "mixup"], config["STARTS_FROM"])
    assert ordered == ["base", "first_48px", "then_64px", "mixup"]
    every = script.with_first_stages(list(config["CHANGES"]), config["STARTS_FROM"])
    assert every == list(config["CHANGES"])


@pytest.mark.slow
def test_it_goes_on_where_it_was_and_writes_the_table(
    script: ModuleType, tiny_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(script, "SUMMARIES", tmp_path / "kept")
    arguments = [
        "--source",
        str(tiny_source),
        "--scratch",
        str(tmp_path),
        "--rows",
        "mixup",
        "then_64px",
        "--seeds",
        "1",
        "--",
        "--config.model.variant=nano",
        "--config.model.image_px=16",
        "--config.epochs=1",
        "--config.batch_size=16",
        "--config.steps_per_dispatch=1",
    ]
    assert script.main(arguments) == 0
    kept = (tmp_path / "kept" / "b0-300.json").read_text()
    rows = json.loads(kept)["rows"]
    assert [(row["name"], row["changes"]) for row in rows] == [
        ("base", []),
        ("mixup", ["augment.mixup_alpha: 0.0 -> 0.2"]),
        ("first_48px", []),
        ("then_64px", ["init_from: None -> 'first_48px'"]),
    ]
    begun = json.loads((tmp_path / "runs" / "then_64px-0" / "config.json").read_text())
    assert begun["init_from"] == str(tmp_path / "runs" / "first_48px-0")
    assert rows[0]["runs"][0]["num_examples"] > 20
    assert script.main(arguments) == 0
    assert (tmp_path / "kept" / "b0-300.json").read_text() == kept
    capsys.readouterr()
    assert script.main([*arguments[:4], "--rows", "cutout"]) == 1
    assert "no such row: cutout" in capsys.readouterr().err
