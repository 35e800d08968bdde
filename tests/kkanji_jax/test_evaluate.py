"""The door from a model and a dataset to scores: what it writes is what the model says."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.resident import load_split
from kkanji_jax.evaluate import main
from kkanji_jax.evaluation import calibration_fit
from kkanji_jax.files import read_json, write_json
from kkanji_jax.inference.recogniser import load
from kkanji_jax.reporting.score_table import score_table


def evaluated(tiny_run, out: Path, *flags: str) -> tuple[dict, list[dict], list[dict]]:
    argv = ["--model", str(tiny_run.workdir), "--dataset", str(tiny_run.dataset)]
    assert main([*argv, "--out", str(out), *flags]) == 0
    content = json.loads((out / "eval.json").read_text(encoding="utf-8"))
    tables = []
    for name in ("predictions.csv", "confusions.csv"):
        with (out / name).open(encoding="utf-8", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    return content, *tables


@pytest.fixture(scope="module")
def told(tiny_run, tmp_path_factory: pytest.TempPathFactory):
    return evaluated(tiny_run, tmp_path_factory.mktemp("eval"))


def test_every_example_of_the_split_is_in_the_table_once(tiny_run, told):
    content, predictions, _ = told
    split = load_split(tiny_run.dataset, "test")
    assert [row["sample_id"] for row in predictions] == list(split.sample_ids)
    index = ClassIndex.load(tiny_run.dataset / "index.json")
    assert [index.id_of(row["codepoint"]) for row in predictions] == split.labels.tolist()
    assert content["num_examples"] == len(predictions) == content["top1"]["n"]
    assert content["num_classes"] == 6 and content["split"] == "test"


def test_scores_follow_from_the_table(told):
    content, predictions, confusions = told
    hits = [row["codepoint"] == row["predicted_1"] for row in predictions]
    assert content["top1"]["value"] == pytest.approx(np.mean(hits))
    assert content["top1"]["value"] > 0.3  # six classes: chance is a sixth
    top5 = [row["codepoint"] in [row[f"predicted_{i}"] for i in range(1, 6)] for row in predictions]
    assert content["top5"]["value"] == pytest.approx(np.mean(top5))
    assert sum(int(row["count"]) for row in confusions) == hits.count(False)
    for row in confusions:
        pairs = [(p["codepoint"], p["predicted_1"]) for p in predictions]
        assert pairs.count((row["true"], row["predicted"])) == int(row["count"])
        assert ord(row["true_character"]) == int(row["true"][2:], 16)
    counts = [int(row["count"]) for row in confusions]
    assert counts == sorted(counts, reverse=True)


def test_the_recogniser_says_the_same_of_the_same_images(tiny_run, told):
    _, predictions, _ = told
    images = list(load_split(tiny_run.dataset, "test").images)
    for row, candidates in zip(predictions, load(tiny_run.workdir).predict(images), strict=True):
        probabilities = [float(row[f"probability_{c.rank}"]) for c in candidates]
        assert [c.probability for c in candidates] == pytest.approx(probabilities, abs=1e-4)
        assert candidates[0].codepoint == row["predicted_1"]


def test_neither_batch_size_nor_padding_changes_a_score(tiny_run, told, tmp_path: Path):
    again, *_ = evaluated(tiny_run, tmp_path, "--batch-size", "8")
    for name in ("top1", "top5", "macro"):
        assert again[name] == told[0][name]
    assert again["loss"]["value"] == pytest.approx(told[0]["loss"]["value"], rel=1e-5)


def test_the_table_on_screen_states_split_n_weights_and_interval(told):
    content = told[0]
    text = score_table(content)
    assert f"test  n={content['num_examples']}  EMA weights  step 7  6 classes" in text
    low, high = content["macro"]["ci95"]
    assert f"{content['macro']['value']:.4f}   [{low:.4f}, {high:.4f}]" in text
    assert "10-19 (6 classes)" in text


def test_another_build_is_scored_with_a_warning_and_raw_weights_when_asked_for(
    tiny_run, told, tmp_path: Path, capsys
):
    shutil.copytree(tiny_run.dataset, tmp_path / "other")
    manifest = json.loads((tmp_path / "other/manifest.json").read_text())
    (tmp_path / "other/manifest.json").write_text(json.dumps(manifest | {"command": "another"}))
    other = tiny_run._replace(dataset=tmp_path / "other")
    raw, *_ = evaluated(other, tmp_path / "out", "--weights", "raw", "--of", "val")
    assert "may have been training images" in capsys.readouterr().err
    assert told[0]["is_dataset_of_training"] and not raw["is_dataset_of_training"]
    assert (told[0]["weights"], raw["weights"], raw["split"]) == ("ema", "raw", "val")
    assert raw["top1"]["value"] < told[0]["top1"]["value"]


def refusal(capsys, *argv: str) -> str:
    assert main(list(argv)) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_a_dataset_of_other_classes_is_refused(tiny_run, tmp_path: Path, capsys):
    shutil.copytree(tiny_run.dataset, tmp_path / "other")
    index = ClassIndex.load(tiny_run.dataset / "index.json")
    other = ClassIndex.from_codepoints([*index.codepoints[1:], "U+4E00"])
    other.save(tmp_path / "other/index.json")
    manifest = read_json(tmp_path / "other/manifest.json")
    write_json(tmp_path / "other/manifest.json", manifest | {"class_index_digest": other.digest})
    argv = ["--model", str(tiny_run.workdir), "--dataset", str(tmp_path / "other")]
    assert "6 classes" in (text := refusal(capsys, *argv)) and "5 in common" in text


def test_what_cannot_be_evaluated_is_one_line(tiny_run, tmp_path: Path, capsys):
    dataset = ["--dataset", str(tiny_run.dataset)]
    assert "is a bundle, which is not written into" in refusal(capsys, *dataset)  # the package's
    assert "no model at" in refusal(capsys, *dataset, "--model", str(tmp_path / "none"))
    model = ["--model", str(tiny_run.workdir)]
    assert "no dataset at" in refusal(capsys, *model, "--dataset", str(tmp_path / "none"))
    assert "--batch-size" in refusal(capsys, *model, *dataset, "--batch-size", "0")
    for flag, value in (("--backend", "onnx"), ("--orient", "auto")):
        assert f"{flag} is for --images" in refusal(capsys, *model, *dataset, flag, value)
    for flag, value in (("--of", "val"), ("--batch-size", "9"), ("--most-unknown", "9")):
        argv = ("--images", str(tmp_path), flag, value)
        assert f"{flag} is for --dataset" in refusal(capsys, *argv)


def test_scores_are_shown_before_a_model_that_cannot_be_written_to_is_told(
    tiny_run, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    def read_only(path: Path, content: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("kkanji_jax.evaluation.run.write_json", read_only)
    argv = ["--model", str(tiny_run.workdir), "--dataset", str(tiny_run.dataset), "--of", "val"]
    assert main([*argv, "--out", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "val  n=" in out and "top-1" in out
    assert "Read-only file system" in err and str(tmp_path) in err.splitlines()[-1]


def test_of_a_large_val_a_part_is_enough_for_the_calibration(
    tiny_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = load_split(tiny_run.dataset, "val")
    monkeypatch.setattr(calibration_fit, "LEAST_EXAMPLES", 5)
    found = []
    for most in (len(whole.labels), len(whole.labels) - 4):
        run = tmp_path / f"run{most}"
        shutil.copytree(tiny_run.workdir, run)
        monkeypatch.setattr(calibration_fit, "MOST_EXAMPLES", most)
        argv = ["--model", str(run), "--dataset", str(tiny_run.dataset), "--of", "val"]
        assert main(argv) == 0
        calibration = read_json(run / "calibration.json")
        assert calibration["fitted_on"]["num_examples"] == most
        scores = read_json(run / "eval" / "val" / "eval.json")
        assert scores["num_examples"] == len(whole.labels)
        found.append((calibration, scores))
    (of_all, scores), (of_part, scores_of_part) = found
    assert of_all["temperature"] != of_part["temperature"]
    for key in ("top1", "macro", "loss", "ece"):
        assert scores[key] == scores_of_part[key]
    assert scores["ece_calibrated"] != scores_of_part["ece_calibrated"]
    for row in scores_of_part["verdicts"]:  # given to all of val
        assert row["coverage"]["n"] == len(whole.labels)


def test_the_part_of_val_depends_on_ids_alone(monkeypatch: pytest.MonkeyPatch):
    names = [f"k49-train/{number:06d}" for number in range(300)]
    assert calibration_fit.rows_to_fit(names).tolist() == list(range(300))
    monkeypatch.setattr(calibration_fit, "MOST_EXAMPLES", 60)
    rows = calibration_fit.rows_to_fit(names)
    assert len(set(rows.tolist())) == 60 and rows.tolist() == sorted(rows.tolist())
    turned = names[::-1]
    assert {turned[row] for row in calibration_fit.rows_to_fit(turned)} == {names[r] for r in rows}
    assert 15 < (rows < 150).sum() < 45  # from all of the split
