"""Turned images are read by predict's own rule, and every image is counted where it belongs."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import kkanji_jax
from kkanji_jax.inference.orientation import TURNED
from kkanji_jax.inference.recogniser import Candidate, Reading, load


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/turned_images")


def test_readings_are_those_of_predict_however_an_image_lies(script: ModuleType):
    recogniser = load(backend="onnx")
    demo = Path(kkanji_jax.__file__).parent / "demo"
    glyphs = []
    for pixels in np.load(demo / "k49-test-imgs.npz")["arr_0"][:6]:
        glyphs.append(np.kron(pixels, np.ones((2, 2), np.uint8)))
    glyphs = [np.pad(glyph, 4) for glyph in glyphs]
    shown = [script.Shown("published", "U+3042", glyph) for glyph in glyphs]
    reads = script.read_turned(recogniser, shown)
    assert len(reads) == 24
    num_turned = 0
    for turn, lies in enumerate(script.LIES):
        found = [read for read in reads if read.lies == lies]
        turned = np.stack([np.rot90(glyph, turn) for glyph in glyphs])
        assert [read.plain for read in found] == recogniser.predict(turned, 1)
        assert [read.auto for read in found] == recogniser.predict(turned, 1, orient="auto")
        num_turned += sum(any(r in TURNED[1:] for r in read.auto.remarks) for read in found)
    assert num_turned


def reading(codepoint: str, verdict: str, *remarks: str) -> Reading:
    if not codepoint:
        return Reading([], verdict, remarks)
    return Reading([Candidate(chr(int(codepoint[2:], 16)), codepoint, 0.9, 1)], verdict, remarks)


def test_each_image_is_counted_in_its_look_and_in_its_script(script: ModuleType):
    kana = script.Shown("photographed", "U+3042", None)
    kanji = script.Shown("photographed", "U+6625", None)
    mark = script.Shown("published", "U+309E", None)
    other = script.Shown("published", "U+25CB", None)
    right, wrong = reading("U+3042", "accept"), reading("U+3044", "accept")
    reads = [
        script.Read(kana, "upright", right, right),
        script.Read(kana, "upright", right, reading("U+3044", "ask", TURNED[2])),
        script.Read(kana, "turned 180°", wrong, reading("U+3042", "ask", TURNED[2])),
        script.Read(kanji, "upright", wrong, wrong),
        script.Read(mark, "upright", reading("", "blank"), reading("", "blank")),
        script.Read(other, "upright", wrong, reading("U+3044", "unknown", "few pixels")),
    ]
    rows = {(row["look"], row["script"], row["lies"]): row for row in script.rows_of(reads)}
    assert list(rows) == [
        ("published", "all", "upright"),
        ("published", "kana", "upright"),
        ("photographed", "all", "upright"),
        ("photographed", "all", "turned 180°"),
        ("photographed", "kanji", "upright"),
        ("photographed", "kana", "upright"),
        ("photographed", "kana", "turned 180°"),
    ]
    told = {**rows["photographed", "all", "upright"]}
    assert {name: told.pop(name) for name in ("look", "script", "lies")}
    assert told == {
        "n": 3,
        "right": 2,
        "right_auto": 1,
        "accepts": 3,
        "accepts_lost": 1,
        "wrong_accepts": 1,
        "wrong_accepts_auto": 1,
        "turned": 1,
        "right_turned": 1,
    }
    lying = rows["photographed", "kana", "turned 180°"]
    assert (lying["right"], lying["right_auto"], lying["turned"]) == (0, 1, 1)
    assert (lying["wrong_accepts"], lying["wrong_accepts_auto"], lying["right_turned"]) == (1, 0, 0)
    whole = rows["published", "all", "upright"]
    assert (whole["n"], whole["right"], whole["accepts_lost"], whole["turned"]) == (2, 0, 1, 0)
    line = script.table(rows.values()).splitlines()[4]
    shares = "66.7 | 33.3 | 33.3 | 33.3 | 1 of 3"
    assert line.startswith(f"| photographed | all | upright | 3 | {shares}")


def test_a_count_of_none_is_refused(script: ModuleType, tmp_path: Path, capsys):
    assert script.main([str(tmp_path), "--n", "0"]) == 1
    assert "expected an --n of at least 1, got 0" in capsys.readouterr().err
