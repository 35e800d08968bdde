"""The review sheet holds what was read, cannot be broken by a name, and goes where it may."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax import predict
from kkanji_jax.answers.rows import Row
from kkanji_jax.glyphs.glyph_image import glyph_steps
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.reporting import review_sheet
from kkanji_jax.reporting.review_sheet import ReviewSheet


@pytest.fixture
def steps(rng: np.random.Generator):
    return glyph_steps(rng.integers(0, 256, (40, 30), np.uint8))


def items_in(out: Path) -> list[dict]:
    html = out.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(data)


def test_images_have_their_candidates_and_paths_beside_the_sheet(steps, tmp_path: Path):
    out = tmp_path / "reviews" / "a.html"
    sheet = ReviewSheet(out)
    path = str(tmp_path / "scans" / "p</script><b>.jpg")
    rows = [
        Row(path, 1, "春", "U+6625", 0.7, "ask", id="7", box=(1, 2, 3, 4), remark="few pixels"),
        Row(path, 2, "夏", "U+590F", 0.2, "ask", id="7", box=(1, 2, 3, 4)),
        Row("gone.jpg", error="no such file"),
        Row(path, verdict="blank"),
    ]
    for _ in range(2):
        sheet.add_steps(ImageInput(path), steps)
    for row in rows:
        sheet.add_row(row)
    sheet.save()
    first, second = items_in(out)
    assert first["path"] == second["path"] == "../scans/p</script><b>.jpg"
    assert first["candidates"] == [["春", 0.7], ["夏", 0.2]] and second["candidates"] == []
    assert (first["box"], first["id"], first["remark"]) == ("1 2 3 4", "7", "few pixels")
    html = out.read_text(encoding="utf-8")
    assert html.count("<script") == 2 and "Could not be read and not shown: 1." in html
    assert not re.search(r"(src|href)=\"?(http|//)", html)


def test_the_address_of_an_image_stays_what_it_is(steps, tmp_path: Path):
    sheet = ReviewSheet(tmp_path / "a.html")
    address = "https://example.org/iiif/p1/full/max/0/default.jpg"
    sheet.add_steps(ImageInput(address), steps)
    sheet.add_row(Row(address, 1, "春", "U+6625", 0.7))
    sheet.save()
    assert [item["path"] for item in items_in(tmp_path / "a.html")] == [address]


def test_what_has_no_room_is_counted(steps, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(review_sheet, "MOST", 2)
    sheet = ReviewSheet(tmp_path / "a.html")
    for number in range(4):
        sheet.add_steps(ImageInput(f"{number}.png"), steps)
        sheet.add_row(Row(f"{number}.png", 1, "春", "U+6625", 0.7))
        sheet.add_row(Row(f"{number}.png", 2, "夏", "U+590F", 0.1))
    sheet.save()
    assert (sheet.num_images, sheet.num_left_out) == (2, 2)
    holds = f"{tmp_path / 'a.html'} holds the first 2 images; 2 more have no room on it"
    assert capsys.readouterr().err == f"{holds}: read them apart\n"
    told = [(item["path"], len(item["candidates"])) for item in items_in(tmp_path / "a.html")]
    assert told == [("0.png", 2), ("1.png", 2)] or [n for _, n in told] == [2, 2]
    assert "No room on this sheet: 2 more" in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["crops", "--review", "crops.htm"], "--review must end in .html"),
        (["-", "--review", "a.html"], "give a path instead of -"),
        (["crops", "--review", "a.html", "--out", "a.html"], "--out and --review name one file"),
        (["crops", "--boxes", "b.html", "--review", "b.html"], "is read, as --boxes"),
    ],
)
def test_it_is_written_nowhere_else(flags, expected: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crops").mkdir()
    (tmp_path / "b.html").write_text("x,y,w,h\n")
    assert predict.main(flags) == 1
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1
    assert (tmp_path / "b.html").read_text() == "x,y,w,h\n"
