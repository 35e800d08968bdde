"""Figures of an evaluation: drawn from what evaluate wrote, with ink where the images are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.data.resident import load_split
from kkanji_jax.plots import confused_glyphs, glyph_rows, reliability_diagram, risk_coverage, style
from kkanji_jax.plots.__main__ import main
from kkanji_jax.plots.evaluated import Pictures, load_evaluated, load_pictures
from kkanji_jax.plots.fonts import find_font

OF_A_SPLIT = ("long_tail", "reliability", "risk_coverage", "confused_glyphs")


def test_an_evaluated_run_gets_every_figure(evaluated_run: Path, tiny_run, tmp_path: Path):
    flags = ["--model", str(evaluated_run), "--dataset", str(tiny_run.dataset)]
    assert main([*flags, "--out", str(tmp_path)]) == 0
    for split in ("val", "test"):
        for name in OF_A_SPLIT:
            image = np.asarray(Image.open(tmp_path / f"{name}_{split}.png").convert("L"))
            assert 0.005 < (image < 250).mean() < 0.6, name


def test_what_only_the_card_tells_is_not_drawn(evaluated_run: Path, tmp_path: Path):
    workdir = tmp_path / "released"
    shutil.copytree(evaluated_run, workdir)
    before = [found.folder.name for found in load_evaluated(workdir)]
    (split, *_) = before
    shutil.copytree(workdir / "eval" / split, workdir / "eval" / "bundle")
    (workdir / "eval" / "page_crops").mkdir()
    crops = {"split": "photographs", "num_examples": 3, "weights": "ema", "protocol": "pages"}
    (workdir / "eval" / "page_crops" / "eval.json").write_text(json.dumps(crops))
    assert [found.folder.name for found in load_evaluated(workdir)] == before


def test_pictures_are_refused_for_a_dataset_that_was_not_evaluated(
    evaluated_run: Path, tiny_run, tmp_path: Path, capsys
):
    shutil.copytree(tiny_run.dataset, tmp_path / "other")
    manifest = json.loads((tmp_path / "other/manifest.json").read_text())
    (tmp_path / "other/manifest.json").write_text(json.dumps(manifest | {"fingerprint": "0" * 64}))
    flags = ["--model", str(evaluated_run), "--dataset", str(tmp_path / "other")]
    assert main([*flags, "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert "evaluate on it first" in err and err.count("\n") == 1


def test_pictures_are_those_of_the_predictions(evaluated_run: Path, tiny_run):
    from kkanji_jax.data.class_index import ClassIndex

    index = ClassIndex.load(tiny_run.dataset / "index.json")
    for split in load_evaluated(evaluated_run):
        pictures = load_pictures(split, tiny_run.dataset, index)
        shards = load_split(tiny_run.dataset, split.split)
        np.testing.assert_array_equal(pictures.images, shards.images)
        for row in split.table("predictions.csv"):
            place = pictures.row_of[row["sample_id"]]
            assert index.codepoints[pictures.labels[place]] == row["codepoint"]
            assert index.codepoints[pictures.predicted[place]] == row["predicted_1"]


def test_glyphs_stand_where_their_row_says_black_on_white(tmp_path: Path):
    black, white = np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)
    row = glyph_rows.GlyphRow(("春", "夏"), "x", ([white], [black, white]))
    font = find_font()
    with style.house_style(font):
        figure = glyph_rows.draw("t", "s", ("a", "b"), (1, 2), [row], font)
        path = style.save(figure, tmp_path / "rows.png")
    grey = np.asarray(Image.open(path).convert("L"))
    pitch = glyph_rows._GLYPH_INCHES * style.DPI
    first = glyph_rows._TEXT_INCHES * style.DPI
    second = first + pitch + glyph_rows._GAP_INCHES * style.DPI
    y = int((1.05 + 0.3) * style.DPI)
    # White strokes of the set become ink; a black image is paper.
    inks = [grey[y, int(x + pitch / 2)] for x in (first, second, second + pitch)]
    assert inks == [0, 255, 0]


def test_a_perfect_model_and_one_without_calibration_are_drawn_too(tmp_path: Path):
    rows = [{"n": 9, "confidence": 1.0, "accuracy": 1.0, "ci95": [0.66, 1.0]}]
    content = {
        "reliability": {"before": rows, "after": None},
        "ece": {"value": 0.0, "ci95": [0.0, 0.0]},
    }
    with style.house_style(find_font()):
        path = style.save(reliability_diagram.draw(content, "s"), tmp_path / "a.png")
    assert (np.asarray(Image.open(path).convert("L")) < 250).mean() > 0.005


def test_examples_are_other_images_and_those_read_aright_come_first(rng: np.random.Generator):
    labels, predicted = np.array([1, 1, 0, 1, 1]), np.array([0, 1, 0, 0, 1])
    pictures = Pictures(rng.integers(0, 256, (5, 64, 64), np.uint8), labels, predicted, {})
    assert confused_glyphs.examples(pictures, 1).tolist() == [1, 4, 0, 3]
    assert confused_glyphs.examples(pictures, 1, [0, 4]).tolist() == [1, 3]
    assert confused_glyphs.examples(pictures, 0, [2]).tolist() == []


def test_no_error_is_drawn_at_zero_per_cent():
    content = {
        "risk_coverage": {
            "aurc": {"value": 0.01, "ci95": [0.0, 0.02]},
            "curve": [[0.25, 0.0], [0.5, 0.0], [0.75, 0.01], [1.0, 0.04]],
            "ordered_by": "top-1 probability",
        },
        "num_examples": 100,
        "verdicts": [
            {
                "verdict": "accept",
                "accuracy": {"value": 1.0},
                "coverage": {"value": 0.4},
                "stated_accuracy": 1.0,
            }
        ],
    }
    with style.house_style(find_font()):
        (axes,) = risk_coverage.draw(content, "s").axes
        curve, point = axes.get_lines()
        assert np.asarray(curve.get_ydata()).tolist() == [0.0, 0.0, 0.01, 0.04]
        assert np.asarray(point.get_ydata()).tolist() == [0.0]
        assert axes.get_ylim()[0] == 0 and axes.get_yticklabels()[0].get_text() == "0 %"
        points = [(0.5, share) for share in (0.0, 0.01, 0.02, 0.04)]
        heights = axes.transData.transform(points)[:, 1]
    # Above the smallest share the axis is logarithmic.
    assert np.isclose(heights[3] - heights[2], heights[2] - heights[1])
    assert heights[1] - heights[0] > 20  # and zero stands clear of it


def test_a_subtitle_fits_a_reliability_diagram_of_one_part():
    rows = [{"n": 9, "confidence": 0.8, "accuracy": 0.7, "ci95": [0.6, 0.8]}]
    content = {
        "reliability": {"before": rows, "after": None},
        "ece": {"value": 0.1, "ci95": [0.0, 0.2]},
    }
    with style.house_style(find_font()):
        figure = reliability_diagram.draw(content, "run quickstart  ·  test: n = 841, EMA weights")
        figure.canvas.draw()
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.texts)


@pytest.mark.parametrize("least", [1.01e-5, 4e-5, 9e-5, 2.5e-4, 1e-3, 5e-3])
def test_no_two_shares_are_written_over_each_other_below_a_reliability_diagram(least: float):
    row = {"accuracy": 1.0, "ci95": [0.8, 1.0], "n": 60}
    rows = [row | {"confidence": 1 - least / 0.6}, row | {"confidence": 0.5}]
    score = {"value": 0.015, "ci95": [0.006, 0.026], "n": 120}
    content = {
        "reliability": {"before": rows, "after": rows},
        "ece": score,
        "ece_calibrated": score,
        "calibration": {"temperature": 1.0},
    }
    with style.house_style(find_font()):
        figure = reliability_diagram.draw(content, "s")
        figure.canvas.draw()
        for axes in figure.axes:
            extents = [label.get_window_extent() for label in axes.get_xticklabels()]
            extents.sort(key=lambda extent: extent.x0)
            for left, right in zip(extents, extents[1:], strict=False):
                assert left.x1 < right.x0
