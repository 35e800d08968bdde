"""The page of results: what is committed is what the summaries say, the bad ones too."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/results")


def summary_of_100(script: ModuleType) -> dict[str, Any]:
    (found,) = (found for found in script.load_summaries() if found["name"] == "b0-100")
    return found


def test_the_committed_page_is_what_the_summaries_give(script: ModuleType):
    told = script.page(script.load_summaries(), script.load_tables())
    assert told == script.PAGE.read_text(encoding="utf-8")
    assert script.main(["--check"]) == 0


def test_every_score_of_the_page_has_its_n_and_every_run_its_commands(script: ModuleType):
    text = script.PAGE.read_text(encoding="utf-8")
    for summary in script.load_summaries():
        if summary["axis"] is not None:
            continue
        section = text.split(f"## {summary['name']}\n")[1].split("\n## ")[0]
        for command in summary["commands"]:
            assert command in section
        assert any("kkanji_jax.evaluate" in command for command in summary["commands"])
        for content in summary["splits"].values():
            row = f"{content['num_examples']:,} | {100 * content['top1']['value']:.1f} %"
            assert row in section
        for row in summary["splits"]["test"]["by_class_size"]:
            assert not row["classes"] or f"| {row['n']:,} |" in section


def test_no_summary_tells_where_its_files_lay(script: ModuleType):
    for path in script.SUMMARIES.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'"/|[ =]/(tmp|home|root|Users)\b', text), path


def test_a_bad_result_stays_and_an_axis_is_tested_only_by_a_run(script: ModuleType):
    good = summary_of_100(script)
    bad: dict[str, Any] = copy.deepcopy(good) | {"name": "b0-worse", "axis": "label smoothing"}
    bad["splits"]["test"]["top1"] = {"value": 0.0123, "n": 7946, "ci95": [0.01, 0.02]}
    text = script.page([good, bad])
    compared = text.split("## Comparison: label smoothing\n")[1].split("\n## ")[0]
    assert "| test | 7,946 | 1.2 % (1.0–2.0) |" in compared
    assert all(command in compared for command in bad["commands"])
    untested = text.split("## Not tested")[1]
    assert "label smoothing" not in untested and "- cosine head" in untested
    assert "- label smoothing" in script.page([good])
    with pytest.raises(ValueError, match="no such axis: luck"):
        script.page([bad | {"axis": "luck"}])


def test_a_stale_page_is_told(script: ModuleType, monkeypatch, tmp_path: Path, capsys):
    stale = tmp_path / "RESULTS.md"
    stale.write_text("# Results\n")
    monkeypatch.setattr(script, "PAGE", stale)
    assert script.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().out
    assert stale.read_text() == "# Results\n"  # --check writes nothing
    assert script.main([]) == 0 and script.main(["--check"]) == 0


def test_a_summary_takes_its_numbers_from_the_run(script: ModuleType, tmp_path: Path):
    from kkanji_jax.config import default_config

    run = tmp_path / "run"
    (run / "eval" / "test").mkdir(parents=True)
    config = default_config().to_dict()
    config["optim"]["lr_peak"] = 0.5
    config["data"]["dataset"] = "/somewhere/else"
    content = copy.deepcopy(summary_of_100(script)["splits"]["test"]) | {
        "dataset_fingerprint": "f" * 64,
        "protocol": "honest",
        "pool_official": [],
    }
    content["unknown"]["source"] = "/somewhere"
    last = {"kind": "eval", "step": 9, "examples": 90, "epoch": 1.5, "elapsed_s": 60.0}
    (run / "config.json").write_text(json.dumps(config))
    (run / "env.json").write_text(json.dumps({"commit": "c", "versions": {}}))
    (run / "metrics.jsonl").write_text('{"kind": "train"}\n' + json.dumps(last) + "\n")
    (run / "eval/test/eval.json").write_text(json.dumps(content))
    args = SimpleNamespace(name=None, title="t", hardware="h", axis=None, command=["x"], remark=[])
    summary = script.summary_of(run, args)
    assert summary["config_differences"] == ["optim.lr_peak: 0.001 -> 0.5"]
    assert summary["training"]["image_steps"] == 90 and summary["training"]["steps"] == 9
    assert summary["splits"]["test"]["top1"] == content["top1"]
    assert "somewhere" not in json.dumps(summary)
    assert "9 × 10" in script.page([summary])
    (run / "eval/test").rename(run / "eval/val")
    compared = script.summary_of(run, SimpleNamespace(**vars(args) | {"axis": "legacy protocol"}))
    assert list(compared["splits"]) == ["val"] and compared["dataset"]["protocol"] == "honest"
    assert "| val | 7,946 |" in script.page([compared])
    with pytest.raises(ValueError, match=r"run kkanji_jax\.evaluate first"):
        script.summary_of(run, args)


def test_another_version_of_a_summary_is_refused(script: ModuleType, tmp_path: Path):
    (tmp_path / "a.json").write_text('{"version": 9}')
    with pytest.raises(ValueError, match="expected version 1, got 9"):
        script.load_summaries(tmp_path)
