"""Rows come in batches, parse back from every format, and say no more than is known."""

import csv
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.answers.row_formats import RowFormat, write_rows
from kkanji_jax.answers.rows import Row, RowOptions, predict_rows
from kkanji_jax.data.kanji_forms import forms
from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.inference.neighbours import Neighbour
from kkanji_jax.inference.reading import Candidate, Reading
from kkanji_jax.inputs.image_input import ImageInput

COLUMNS = [
    "path",
    "rank",
    "character",
    "codepoint",
    "probability",
    "verdict",
    "error",
    "id",
    "box",
    "variants",
    "neighbours",
    "ink",
    "remark",
]


class CountingRecogniser:
    """Stands in for a network: reads all glyphs as spring, with their mean as the probability."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def outputs(self, glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.batches.append(len(glyphs))
        return glyphs.mean(axis=(1, 2))[:, None], glyphs.reshape(len(glyphs), -1)

    def readings_of(self, outputs: tuple, glyphs: np.ndarray, top_k: int, **more) -> list:
        return [Reading([Candidate("春", "U+6625", float(row[0]), 1)]) for row in outputs[0]]


def test_a_long_stream_is_read_in_batches_as_it_is_written(tiny_source: Path):
    files = sorted(str(path) for path in tiny_source.rglob("*.png"))
    drawn = 0

    def stream():
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            bad = number % 100 == 50
            yield ImageInput("gone.png") if bad else ImageInput(files[number % len(files)])

    counting = CountingRecogniser()
    rows = predict_rows(counting, stream(), RowOptions(1))  # pyright: ignore[reportArgumentType]
    first = next(rows)
    # The batch that is told, one in the network, one that is decoded; no more are held.
    assert 128 <= drawn <= 3 * 128 and first.path == files[0]
    rest = list(rows)
    assert drawn == 1000 and len(rest) == 999
    assert sum(counting.batches) == 990 and max(counting.batches) <= 128
    assert [i + 1 for i, row in enumerate(rest) if row.error] == list(range(50, 1000, 100))
    # Each row carries the answer for its own file, though bad ones were left out of the batch.
    for number, row in enumerate([first, *rest]):
        if not row.error:
            own = glyph_image(files[number % len(files)]).mean()
            assert row.probability == pytest.approx(own, abs=1e-3)


def test_an_error_of_the_network_reaches_the_reader(rng: np.random.Generator):
    class Broken(CountingRecogniser):
        def outputs(self, glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if self.batches:
                raise ValueError("the second batch is not read")
            return super().outputs(glyphs)

    found = [ImageInput("a.png", image=rng.integers(0, 256, (64, 64), np.uint8))] * 300
    rows = predict_rows(Broken(), found, RowOptions(1))  # pyright: ignore[reportArgumentType]
    for _ in range(128):
        next(rows)
    with pytest.raises(ValueError, match="the second batch is not read"):
        next(rows)


def test_an_error_of_what_finds_images_reaches_the_reader():
    def stream():
        yield ImageInput("gone.png")
        raise ValueError("no such page")

    rows = predict_rows(CountingRecogniser(), stream(), RowOptions(1))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="no such page"):
        next(rows)


def test_a_reader_who_stops_early_leaves_no_thread_behind(rng: np.random.Generator):
    image = rng.integers(0, 256, (64, 64), np.uint8)
    drawn = 0

    def stream():
        nonlocal drawn
        while True:
            drawn += 1
            yield ImageInput("a.png", image=image)

    rows = predict_rows(CountingRecogniser(), stream(), RowOptions(1))  # pyright: ignore[reportArgumentType]
    before = threading.active_count()
    next(rows)
    assert threading.active_count() > before
    rows.close()
    assert threading.active_count() == before and drawn <= 4 * 128


# --- output ------------------------------------------------------------------------------

FULL = Row(
    "page.jpg",
    1,
    "国",
    "U+56FD",
    0.5,
    "ask",
    "",
    "=1+2",
    (1, 2, 3, 4),
    forms("U+56FD"),
    (Neighbour("kkanji/U+56FD/0a", "U+56FD", 0.98765), Neighbour("k49-train/1", "U+3042", 0.5)),
)
AWKWARD = [
    Row('a,"b"\n.png', 1, "𤾣", "U+24FA3", 0.25, "", ""),
    Row("\x1b[31m.png", error="expected an image, got\ta page"),
    Row("bad \udcff name.png", 1, "一", "U+4E00", 1.0, "blank", ""),
    FULL,
]


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_awkward_names_parse_back(form: str):
    stream = io.StringIO()
    write_rows(AWKWARD, stream, RowFormat(form))
    text = stream.getvalue()
    if form == "csv":
        told = list(csv.DictReader(io.StringIO(text, newline="")))
    else:
        told = json.loads(text) if form == "json" else list(map(json.loads, text.splitlines()))
    assert [row["path"] for row in told] == [row.path for row in AWKWARD]
    assert told[0]["character"] == "𤾣" and told[1]["error"] == AWKWARD[1].error


@pytest.mark.parametrize(("form", "expected"), [("json", []), ("jsonl", None), ("csv", None)])
def test_no_rows_are_still_valid(form: str, expected: object):
    stream = io.StringIO()
    write_rows([], stream, RowFormat(form))
    if form == "json":
        assert json.loads(stream.getvalue()) == expected
    assert stream.getvalue() == {"json": "[]\n", "jsonl": "", "csv": ",".join(COLUMNS) + "\n"}[form]


def test_names_do_not_drive_the_terminal():
    stream = io.StringIO()
    write_rows(AWKWARD, stream, RowFormat("text"))
    text = stream.getvalue()
    assert "\x1b" not in text and len(text.splitlines()) == len(AWKWARD)


def test_what_is_known_beside_the_reading_is_told_in_every_format():
    told = {}
    for form in ("text", "csv", "jsonl"):
        stream = io.StringIO()
        write_rows([FULL], stream, RowFormat(form))
        told[form] = stream.getvalue()
    row = next(csv.DictReader(io.StringIO(told["csv"])))
    assert row["id"] == "=1+2" and row["box"] == "1 2 3 4"
    assert row["variants"] == "國 U+570B old"
    assert row["neighbours"] == "kkanji/U+56FD/0a U+56FD 0.9877; k49-train/1 U+3042 0.5000"
    content = json.loads(told["jsonl"])
    assert content["box"] == [1, 2, 3, 4]
    assert content["variants"] == [{"character": "國", "codepoint": "U+570B", "relation": "old"}]
    assert content["neighbours"][0] == {
        "sample_id": "kkanji/U+56FD/0a",
        "codepoint": "U+56FD",
        "similarity": 0.9877,
    }
    fields = told["text"].rstrip("\n").split("\t")
    assert fields[0] == "page.jpg#1,2,3,4 =1+2"
    assert fields[5:] == ["ask", row["variants"], row["neighbours"]]


class Sure:
    """Three candidates for each image, of a model that has a calibration."""

    def outputs(self, glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(glyphs), 3)), np.zeros((len(glyphs), 2))

    def readings_of(self, outputs: tuple, glyphs: np.ndarray, top_k: int, **more) -> list:
        shares = (0.6, 0.3, 0.1)
        found = [
            Candidate(c, f"U+{ord(c):04X}", p, r + 1)
            for r, (c, p) in enumerate(zip("国春夏", shares, strict=True))
        ]
        return [Reading(found, "accept") for _ in glyphs]


@pytest.mark.parametrize(("least", "kept"), [(0.0, 3), (0.3, 2), (0.5, 1), (0.7, 0)])
def test_improbable_candidates_are_left_out_and_their_image_is_unknown(
    least: float, kept: int, rng: np.random.Generator
):
    found = [ImageInput("a.png", image=rng.integers(0, 256, (64, 64), np.uint8))]
    rows = list(predict_rows(Sure(), found, RowOptions(min_probability=least)))  # pyright: ignore[reportArgumentType]
    if kept:
        assert [row.rank for row in rows] == [1, 2, 3][:kept]
        assert {row.verdict for row in rows} == {"accept"}
        assert [form.character for form in rows[0].variants] == ["國"]
    else:
        (row,) = rows
        assert (row.path, row.rank, row.verdict, row.error) == ("a.png", None, "unknown", "")


def crossed(width: int, height: int) -> np.ndarray:
    """Dark strokes on paper with a shadow, in the middle of the picture."""
    paper = np.tile(np.linspace(230, 190, width), (height, 1)).astype(np.uint8)
    middle_x, middle_y = width // 2, height // 2
    paper[middle_y - 70 : middle_y + 70, middle_x - 8 : middle_x + 8] = 40
    paper[middle_y - 10 : middle_y + 10, middle_x - 60 : middle_x + 60] = 40
    return paper


def rows_for(image: np.ndarray, **asked) -> list[Row]:
    found = [ImageInput("a.png", image=image)]
    return list(predict_rows(Sure(), found, RowOptions(1, **asked)))  # pyright: ignore[reportArgumentType]


def test_which_is_the_ink_is_found_or_told():
    dark = crossed(160, 180)
    assert [rows_for(image)[0].ink for image in (dark, 255 - dark)] == ["dark", "bright"]
    assert rows_for(dark, is_ink_bright=True)[0].ink == "bright"
    seen: dict[str, np.ndarray] = {}
    for name, told in (("found", None), ("told", False), ("wrongly", True)):
        rows_for(
            dark, is_ink_bright=told, on_steps=lambda _, s, name=name: seen.update({name: s.glyph})
        )
    np.testing.assert_array_equal(seen["found"], seen["told"])
    assert np.mean(np.abs(seen["found"].astype(int) - seen["wrongly"])) > 20


def test_an_image_of_two_characters_is_remarked_on():
    one = crossed(160, 180)
    assert rows_for(one)[0].remark == ""
    assert rows_for(np.concatenate([one, one]))[0].remark == "several characters"


def test_excel_gets_no_formula_and_other_readers_get_cells_untouched():
    names = ["=1+2", "+1", "-1", "@a", "\tx", "\rx", "1-2", "'=a"]
    rows = [Row(f"{name}.png", error=name, id=name, box=(-3, 1, 2, 2)) for name in names]
    for is_for_excel in (True, False):
        stream = io.StringIO(newline="")
        write_rows(rows, stream, RowFormat("csv", is_for_excel))
        text = stream.getvalue()
        assert text.startswith("\ufeff") == is_for_excel
        told = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
        for name, row in zip(names, told, strict=True):
            quote = "'" if is_for_excel and name[0] in "=+-@\t\r" else ""
            assert (row["id"], row["error"]) == (quote + name, quote + name)
            assert row["path"] == f"{quote}{name}.png"
            assert row["box"] == ("'" if is_for_excel else "") + "-3 1 2 2"


def test_a_bare_carriage_return_stays_in_its_cell():
    stream = io.StringIO(newline="")
    write_rows([Row("a\rb.png", error="x")], stream, RowFormat("csv"))
    assert '"a\rb.png",' in stream.getvalue()
    # Read as text files are by default, where a bare CR would end a line.
    assert len(list(csv.reader(io.StringIO(stream.getvalue(), newline="")))) == 2
