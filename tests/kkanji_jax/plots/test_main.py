"""A run's log in, figures out: written, legible, the same twice, and whole for odd runs too."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.plots.__main__ import main

FIGURES = {
    "loss_curve.png",
    "accuracy_curve.png",
    "precision_recall_curve.png",
    "learning_curves.png",
    "top_misclassifications.png",
}
# A kana, a kanji, one outside the BMP, a hentaigana that no common font has, a compatibility form.
CODEPOINTS = ("U+3042", "U+6625", "U+24FA3", "U+1B002", "U+FA19", "U+4E00")


def evaluation(step: int, accuracy: float, matrix: list[list[int]], **more: object) -> dict:
    line = {"kind": "eval", "step": step, "epoch": step / 10, "weights": "ema"}
    for split in ("train", "val"):
        for name in ("accuracy", "precision", "recall"):
            line[f"{split}_{name}"] = accuracy
        line[f"{split}_loss"] = 2.0 / step
    return line | {
        "val_macro_accuracy": accuracy * 0.8,
        "val_num_examples": sum(cell[2] for cell in matrix),
        "val_confusion_matrix": matrix,
        **more,
    }


def make_run(folder: Path, lines: list[dict], torn: str = "") -> Path:
    folder.mkdir(parents=True)
    ClassIndex.from_codepoints(CODEPOINTS).save(folder / "index.json")
    text = "".join(json.dumps(line) + "\n" for line in lines) + torn
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return folder


def ink(path: Path) -> float:
    """Share of pixels that are not paper."""
    return float((np.asarray(Image.open(path).convert("L")) < 250).mean())


MATRIX = [[true, read, 40 if true == read else 1 + true] for true in range(6) for read in range(6)]


def test_every_figure_is_drawn_and_has_something_on_it(tmp_path: Path, capsys, caplog):
    train = {"kind": "train", "step": 5, "epoch": 0.5, "loss": 3.0, "accuracy": 0.1}
    lines = [train, *(evaluation(10 * i, 0.2 * i, MATRIX) for i in range(1, 5))]
    run = make_run(tmp_path / "run", lines)
    assert main(["--model", str(run)]) == 0
    assert {path.name for path in (run / "plots").iterdir()} == FIGURES
    for name in FIGURES:
        assert 0.01 < ink(run / "plots" / name) < 0.6, name
    assert set(capsys.readouterr().out.split()) == {str(run / "plots" / name) for name in FIGURES}
    assert not caplog.records  # matplotlib logs the fonts that it does not find


def test_the_same_run_gives_the_same_bytes(tmp_path: Path):
    run = make_run(tmp_path / "run", [evaluation(10, 0.5, MATRIX), evaluation(20, 0.6, MATRIX)])
    for out in ("first", "second"):
        assert main(["--model", str(run), "--out", str(tmp_path / out)]) == 0
    for name in FIGURES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize(
    ("lines", "torn"),
    [
        ([evaluation(10, 0.3, MATRIX)], ""),
        ([evaluation(10, 0.0, MATRIX)], '{"kind": "eval", "st'),
        ([evaluation(10, 1.0, [[0, 0, 5], [1, 1, 7]])], ""),
        ([evaluation(10 * i, 1 - 0.5 / i**3, MATRIX) for i in range(1, 60)], ""),
        (
            [evaluation(20, 0.4, MATRIX), evaluation(10, 0.2, MATRIX), evaluation(20, 0.5, MATRIX)],
            "",
        ),
        ([evaluation(10, 0.9, MATRIX, train_loss=None, train_accuracy=None)], "\n"),
    ],
    ids=["one point", "torn line", "no error", "close to one", "resumed", "no train scores"],
)
def test_odd_runs_are_drawn_too(lines: list[dict], torn: str, tmp_path: Path):
    run = make_run(tmp_path / "run", lines, torn)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["--model", str(run)]) == 0
    assert not [str(warning.message) for warning in caught]  # a glyph missing is a warning
    assert {path.name for path in (run / "plots").iterdir()} == FIGURES


def test_the_long_tail_is_drawn_of_every_evaluated_split(tmp_path: Path):
    run = make_run(tmp_path / "run", [evaluation(10, 0.5, MATRIX)])
    rows = [
        {"min": 1, "max": 1, "classes": 4, "n": 9, "top1": 0.2, "ci95": [0.05, 0.5]},
        {"min": 2, "max": 4, "classes": 0, "n": 0, "top1": None, "ci95": None},
        {"min": 500, "max": None, "classes": 2, "n": 90, "top1": 1.0, "ci95": [0.96, 1.0]},
    ]
    for split in ("test", "val"):
        folder = run / "eval" / split
        folder.mkdir(parents=True)
        content = {"split": split, "num_examples": 99, "weights": "raw", "by_class_size": rows}
        content["protocol"] = "honest"
        (folder / "eval.json").write_text(json.dumps(content))
    assert main(["--model", str(run)]) == 0
    drawn = {path.name for path in (run / "plots").iterdir()} - FIGURES
    assert drawn == {"long_tail_test.png", "long_tail_val.png"}


def test_the_long_tail_of_a_run_never_evaluated_comes_from_its_validation(tiny_run, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(tiny_run.workdir / "checkpoints", target_is_directory=True)
    (run / "index.json").write_bytes((tiny_run.workdir / "index.json").read_bytes())
    (run / "metrics.jsonl").write_text(json.dumps(evaluation(10, 0.5, MATRIX)) + "\n")
    assert main(["--model", str(run)]) == 0
    assert {path.name for path in (run / "plots").iterdir()} == FIGURES | {"long_tail_val.png"}


def test_the_best_evaluation_is_by_the_metric_of_the_run(tmp_path: Path, monkeypatch):
    lines = [
        evaluation(10, 0.6, MATRIX, val_loss=0.9),
        evaluation(20, 0.9, MATRIX, val_loss=0.5),
        evaluation(30, 0.8, MATRIX, val_loss=0.4),
    ]
    run = make_run(tmp_path / "run", lines)
    subtitles = []
    draw = "kkanji_jax.plots.top_misclassifications.draw"
    monkeypatch.setattr(draw, lambda *args: subtitles.append(args[3]) or stand_in(*args))
    assert main(["--model", str(run), "--evaluation", "best"]) == 0
    (run / "config.json").write_text('{"best_metric": "val_loss"}')
    assert main(["--model", str(run), "--evaluation", "best"]) == 0
    assert main(["--model", str(run)]) == 0
    assert ["epoch 2)" in subtitles[0], "epoch 3)" in subtitles[1]] == [True, True]
    assert "last evaluation (epoch 3)" in subtitles[2]
    assert all("EMA weights" in s and f"n = {6 * 40 + 5 * 21}" in s for s in subtitles)


def stand_in(*args: object):
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))


def test_other_formats_stand_beside_png(tmp_path: Path, capsys):
    run = make_run(tmp_path / "run", [evaluation(10, 0.5, MATRIX)])
    assert main(["--model", str(run), "--figure-format", "png", "svg", "pdf"]) == 0
    expected = {Path(name).with_suffix(s) for name in FIGURES for s in (".png", ".svg", ".pdf")}
    assert {Path(path.name) for path in (run / "plots").iterdir()} == expected
    assert len(capsys.readouterr().out.splitlines()) == len(expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no metrics.jsonl"),
        ("", "no evaluation yet"),
        ('{"kind": "train", "step": 1}\n', "no evaluation yet"),
        ('{"kind": "ev\n{"kind": "train", "step": 1}\n', "line 1 is damaged"),
    ],
)
def test_a_run_without_a_log_to_draw_is_one_line(content, expected: str, tmp_path: Path, capsys):
    (tmp_path / "run").mkdir()
    if content is not None:
        (tmp_path / "run/metrics.jsonl").write_text(content)
    assert main(["--model", str(tmp_path / "run")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and expected in err


@pytest.mark.parametrize("name", ["config.json", "eval/test/eval.json"])
def test_a_damaged_file_of_a_run_is_named(name: str, tmp_path: Path, capsys):
    run = make_run(tmp_path / "run", [evaluation(10, 0.5, MATRIX)])
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text('{"split": "te')
    assert main(["--model", str(run)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {run / name} is damaged: ")
