"""Somebody's own labelled images are scored, whatever the model has learnt of them."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax import predict
from kkanji_jax.answers.labelled_scores import Answer
from kkanji_jax.evaluate import main
from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.inputs.labelled_images import Labelled
from kkanji_jax.plots import own_confusions
from kkanji_jax.plots.fonts import find_font


@pytest.fixture(scope="module")
def crops(tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four springs, four summers, one summer said to be a spring, two dogs, one broken file."""
    folder = tmp_path_factory.mktemp("own") / "crops"
    summers = sorted((tiny_run.source / "U+590F").iterdir())
    springs = sorted((tiny_run.source / "U+6625").iterdir())
    placed = {"U+6625": [*springs[:4], summers[9]], "U+590F": summers[:4], "U+72AC": summers[4:6]}
    for codepoint, files in placed.items():
        (folder / codepoint).mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / codepoint / file.name)
    (folder / "U+6625" / "zz.png").write_text("no image")
    return folder


def score(tiny_run, images: Path, out: Path, *more: str) -> dict:
    flags = ["--model", str(tiny_run.workdir), "--backend", "onnx", "--out", str(out)]
    assert main(["--images", str(images), *flags, *more]) == 0
    return json.loads((out / "images.json").read_text(encoding="utf-8"))


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_folders_and_a_table_give_the_same_scores(tiny_run, crops: Path, tmp_path: Path, capsys):
    scores = score(tiny_run, crops, tmp_path / "out")
    out, err = capsys.readouterr()
    assert "apart: 2 images of 1 characters that the model lacks" in out and "犬 U+72AC" in out
    assert "zz.png" in err and "(image" not in err
    readings = rows_in(tmp_path / "out/images.csv")
    assert len(readings) == scores["num_images"] == 12 and scores["num_unreadable"] == 1

    # Counted again from the readings.
    inside = [r for r in readings if not r["error"] and r["codepoint"] != "U+72AC"]
    right = [r for r in inside if r["candidate_1"] == r["codepoint"]]
    assert (scores["top1"]["n"], scores["top1"]["value"]) == (9, len(right) / 9)
    among = [r for r in inside if r["codepoint"] in {r[f"candidate_{i}"] for i in range(1, 6)}]
    assert scores["top5"]["value"] == len(among) / 9
    assert 0.4 < scores["top1"]["value"] < 1  # one is labelled wrong
    assert scores["outside_index"]["characters"] == {"U+72AC": 2}
    (verdict,) = scores["verdicts"].values()  # no calibration: all have the same
    assert verdict["precision"]["n"] == 11 and verdict["num_outside_index"] == 2
    assert verdict["precision"]["value"] == len(right) / 11

    confusions = rows_in(tmp_path / "out/images_confusions.csv")
    assert sum(int(row["count"]) for row in confusions) == 11 - len(right)
    counts = [int(row["count"]) for row in confusions]
    assert counts == sorted(counts, reverse=True)

    lines = ["path,character"]
    lines += [
        f"{f.parent.name}/{f.name},{chr(int(f.parent.name[2:], 16))}" for f in crops.rglob("*.png")
    ]
    table = crops / "labels.csv"
    table.write_text("\n".join(sorted(lines, reverse=True)), encoding="utf-8")
    assert score(tiny_run, table, tmp_path / "again") == scores


def test_confusions_are_drawn_with_the_images_that_were_misread(tiny_run, crops, tmp_path: Path):
    """The drawing holds the misread glyph itself, in the column of what was misread."""
    score(tiny_run, crops, tmp_path / "out")
    readings = rows_in(tmp_path / "out/images.csv")
    wrong = [r for r in readings if r["candidate_1"] and r["candidate_1"] != r["codepoint"]]
    figure = own_confusions.draw(answers_of(readings), find_font())
    texts = [text.get_text() for text in figure.axes[0].texts]
    told = f"{wrong[0]['codepoint']} → {wrong[0]['candidate_1']}"
    assert any(text.startswith(told) for text in texts) and "misread" in texts
    drawn = [255 - np.asarray(image.get_array()) for image in figure.axes[0].images]
    for row in wrong:
        assert any((glyph == glyph_image(row["path"])).all() for glyph in drawn)
    with Image.open(tmp_path / "out/images_confusions.png") as saved:
        assert saved.height > 300 and np.asarray(saved.convert("L")).min() < 60


def test_crops_that_lie_on_their_side_are_turned_as_predict_turns_them(
    tiny_run, tmp_path: Path, capsys
):
    for codepoint in ("U+6625", "U+590F"):
        (tmp_path / "crops" / codepoint).mkdir(parents=True)
        for turn, file in enumerate(sorted((tiny_run.source / codepoint).iterdir())[:12]):
            turned = Image.open(file).rotate(90 * (turn % 4))
            turned.save(tmp_path / "crops" / codepoint / file.name)
    plain = score(tiny_run, tmp_path / "crops", tmp_path / "plain")
    scores = score(tiny_run, tmp_path / "crops", tmp_path / "turned", "--orient", "auto")
    assert (plain["orient"], scores["orient"]) == ("no", "auto")
    readings = rows_in(tmp_path / "turned/images.csv")
    assert sum("read after turning it" in row["remark"] for row in readings) >= 3
    assert not any(row["remark"] for row in rows_in(tmp_path / "plain/images.csv"))

    capsys.readouterr()
    flags = ["--model", str(tiny_run.workdir), "--backend", "onnx", "--format", "jsonl"]
    assert predict.main([str(tmp_path / "crops"), *flags, "--orient", "auto", "--top-k", "1"]) == 0
    rows = {row["path"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(rows) == len(readings) == 24
    for row in readings:
        expected = rows[row["path"]]
        told = (row["candidate_1"], row["remark"], row["verdict"])
        assert told == (expected["codepoint"], expected["remark"], expected["verdict"])


def test_images_of_a_dataset_are_not_turned(tmp_path: Path, capsys):
    assert main(["--dataset", str(tmp_path), "--orient", "auto"]) == 1
    assert "--orient is for --images" in capsys.readouterr().err


def answers_of(readings: list[dict[str, str]]) -> list[Answer]:
    return [
        Answer(
            Labelled(row["path"], row["codepoint"]),
            tuple(filter(None, (row[f"candidate_{rank}"] for rank in range(1, 6)))),
            row["verdict"],
            row["error"],
        )
        for row in readings
    ]


def test_nothing_misread_is_drawn_as_nothing(tiny_run):
    figure = own_confusions.draw([Answer(Labelled("a", "U+6625"), ("U+6625",))], find_font())
    assert "nothing to show" in [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("path,what\na,b\n", "expected a heading with path and codepoint"),
        ("path,codepoint\na.png,U+6625\nb.png,spring\n", "line 3: a code point is written"),
        ("path,codepoint\n", "no labelled images"),
    ],
)
def test_a_table_that_is_none_is_one_line(content: str, expected: str, tmp_path: Path, capsys):
    (tmp_path / "labels.csv").write_text(content)
    assert main(["--images", str(tmp_path / "labels.csv")]) == 1
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1


def test_a_folder_of_another_name_is_told(tmp_path: Path, capsys):
    (tmp_path / "haru").mkdir()
    assert main(["--images", str(tmp_path)]) == 1
    assert f"{tmp_path / 'haru'}: a code point is written" in capsys.readouterr().err
