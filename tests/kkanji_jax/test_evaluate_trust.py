"""What evaluate says of trust: verdicts, other weights, unknown characters, tables of classes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kkanji_jax.evaluate import main
from kkanji_jax.evaluation.calibration import CALIBRATED_VERDICTS, Calibration


def content_of(run: Path, split: str) -> dict:
    return json.loads((run / "eval" / split / "eval.json").read_text(encoding="utf-8"))


def rows_of(run: Path, split: str, name: str) -> list[dict[str, str]]:
    with (run / "eval" / split / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_val_writes_the_calibration_that_test_reports_on(evaluated_run: Path):
    calibration = Calibration.load(evaluated_run / "calibration.json")
    val, test = content_of(evaluated_run, "val"), content_of(evaluated_run, "test")
    assert calibration.weights == "ema" and calibration.fitted_on["checkpoint_step"] == 7
    assert calibration.fitted_on["num_examples"] == val["num_examples"]
    for content in (val, test):
        assert content["calibration"]["temperature"] == calibration.temperature
        rows = content["verdicts"]
        assert [row["verdict"] for row in rows] == list(CALIBRATED_VERDICTS)
        assert sum(row["accuracy"]["n"] for row in rows) == content["num_examples"]
        for row in rows:
            assert row["stated_accuracy"] == calibration.accuracy_of(row["verdict"])
    for row in val["verdicts"]:  # on val itself, what was stated is what is found
        assert row["accuracy"]["value"] == row["stated_accuracy"]
        assert row["coverage"]["value"] == row["stated_coverage"]


def test_a_temperature_changes_no_reading_and_lowers_the_loss_on_val(evaluated_run: Path):
    val = content_of(evaluated_run, "val")
    assert val["loss_calibrated"] <= val["loss"]["value"] + 1e-6
    assert val["risk_coverage"]["curve"][-1][1] == pytest.approx(1 - val["top1"]["value"])
    assert val["ece_calibrated"]["n"] == val["num_examples"]


def test_parts_sum_to_the_whole(evaluated_run: Path):
    test = content_of(evaluated_run, "test")
    for key in ("by_script", "by_look", "by_source", "by_class_size"):
        assert sum(row["n"] for row in test[key]) == test["num_examples"]
    (kanji,) = test["by_script"]
    assert kanji["name"] == "kanji" and kanji["top1"]["value"] == test["top1"]["value"]
    (published,) = test["by_look"]
    assert published["name"] == "published kanji" and published["verdicts"] == test["verdicts"]
    assert test["by_source"][0]["name"] == "kkanji" and test["official_tests"] == []
    assert test["variant_tolerant"]["top1"]["value"] >= test["top1"]["value"]


def test_raw_weights_stand_beside_the_averaged_ones(evaluated_run: Path):
    test = content_of(evaluated_run, "test")
    assert test["weights"] == "ema" and set(test["raw"]) >= {"top1", "macro", "ece"}
    assert test["raw"]["top1"]["value"] < test["top1"]["value"]  # raw weights are random here
    assert "raw" not in content_of(evaluated_run, "val")


def test_the_table_of_classes_follows_from_the_predictions(evaluated_run: Path):
    predictions = rows_of(evaluated_run, "test", "predictions.csv")
    pairs = [(row["codepoint"], row["predicted_1"]) for row in predictions]
    classes = rows_of(evaluated_run, "test", "per_class.csv")
    assert sum(int(row["n"]) for row in classes) == len(pairs)
    for row in classes:
        own = [read for written, read in pairs if written == row["codepoint"]]
        hits = own.count(row["codepoint"])
        assert (int(row["n"]), int(row["hits"])) == (len(own), hits)
        assert float(row["recall"]) == pytest.approx(hits / len(own), rel=1e-5)
        read_as = [read for _, read in pairs].count(row["codepoint"])
        assert int(row["num_predicted"]) == read_as
        if row["most_read_as"]:
            assert own.count(row["most_read_as"]) == int(row["most_read_as_count"])
    written = {row["sample_id"] for row in predictions if row["codepoint"] != row["predicted_1"]}
    assert {row["sample_id"] for row in rows_of(evaluated_run, "test", "suspects.csv")} <= written


def test_unknown_characters_are_told_and_a_stale_calibration_is_left_out(
    evaluated_run: Path, tiny_run, tmp_path: Path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    stale = json.loads((run / "calibration.json").read_text())
    stale["fitted_on"]["checkpoint_step"] = 6
    (run / "calibration.json").write_text(json.dumps(stale))
    rng = np.random.default_rng(5)
    folder = tmp_path / "others" / "U+4E00"
    folder.mkdir(parents=True)
    for number in range(7):
        canvas = Image.new("L", (64, 64), 0)
        points = [tuple(point) for point in rng.uniform(10, 54, (6, 2))]
        ImageDraw.Draw(canvas).line(points, fill=255, width=4)
        canvas.save(folder / f"{number}.png")
    flags = ["--model", str(run), "--dataset", str(tiny_run.dataset), "--out", str(tmp_path / "o")]
    assert main([*flags, "--unknown", str(folder.parent), "--most-unknown", "5"]) == 0
    out, err = capsys.readouterr()
    assert "fitted on step 6, not on 7" in err
    content = json.loads((tmp_path / "o" / "eval.json").read_text(encoding="utf-8"))
    assert content["calibration"] is None and content["verdicts"] is None
    unknown = content["unknown"]
    assert (unknown["n_unknown"], unknown["num_found"], unknown["classes"]) == (5, 7, 1)
    assert unknown["n_known"] == content["num_examples"] and unknown["verdicts"] is None
    for row in unknown["by_score"]:
        assert 0 <= row["auroc"]["value"] <= 1 and row["fpr95"]["n_unknown"] == 5
    assert "outside, top-1 probability: AUROC" in out
    assert main([*flags, "--most-unknown", "0"]) == 1
    assert "--most-unknown must be at least 1" in capsys.readouterr().err
    assert main([*flags, "--most-unknown", "5"]) == 1
    assert "--most-unknown bounds the images of --unknown" in capsys.readouterr().err
