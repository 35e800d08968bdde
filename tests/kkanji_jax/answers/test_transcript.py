"""Pages as text and as TEI: what stands in them, that TEI's schema takes it, that it resumes."""

import json
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.answers.page_readings import PagesOfRows
from kkanji_jax.answers.row_formats import RowFormat, row_of_json
from kkanji_jax.answers.rows import Row
from kkanji_jax.answers.transcript import written_as
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages.box_files import read_boxes

SCHEMA = Path(__file__).parents[2] / "golden" / "tei_subset.rng"
TEI = "{http://www.tei-c.org/ns/1.0}"
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
SIZE = (400, 500)
ABOUT = {"version": "0.1.0", "model": "3165ac"}


def _read(
    path: str, box: tuple[int, int, int, int], *candidates: tuple[str, float], verdict: str = ""
) -> tuple[ImageInput, list[Row]]:
    """A box and its rows; without candidates, `verdict` is an error."""
    item = ImageInput(path, id=f"{path} <{box[0]}> & \x01", box=box, page_size=SIZE)
    first = Row(path, id=item.id, box=box)
    if not candidates:
        return item._replace(error=verdict), [first._replace(error=verdict)]
    rows = [
        first._replace(
            rank=rank,
            character=character,
            codepoint=f"U+{ord(character):04X}",
            probability=probability,
            verdict=verdict,
            remark="several characters" if verdict == "ask" else "",
        )
        for rank, (character, probability) in enumerate(candidates, 1)
    ]
    return item, rows


PAGE = "scans/p 1%.jpg"
READ = [
    _read(PAGE, (300, 10, 60, 60), ("春", 0.99), ("夏", 0.01), verdict="accept"),
    _read(PAGE, (100, 100, 60, 60), ("秋", 0.9), verdict="accept"),
    _read(PAGE, (302, 100, 60, 60), ("は", 0.5), ("ほ", 0.25), verdict="ask"),
    _read(PAGE, (300, 190, 60, 60), ("𛀁", 0.1), verdict="unknown"),
    _read(PAGE, (100, 10, 60, 60), verdict="the box is outside the page, which is 1 x 1"),
    (ImageInput("two.jpg", "no such file"), [Row("two.jpg", error="no such file")]),
    (
        ImageInput("gone", "names a page that is not given", box=(1, 2, 3, 4)),
        [Row("gone", error="names a page that is not given", box=(1, 2, 3, 4))],
    ),
    _read("https://x.org/a%20b", (0, 0, 9, 9), ("冬", 0.9), verdict="accept"),
]


def _document(name: str, read: Sequence[tuple[ImageInput, list[Row]]] = tuple(READ)) -> str:
    pages = PagesOfRows()
    assert list(pages.watched(item for item, _ in read)) == [item for item, _ in read]
    return "".join(written_as(name, pages, ABOUT, [rows for _, rows in read]))


def test_a_line_for_each_column_and_a_form_feed_between_pages(capsys: pytest.CaptureFixture):
    assert _document("transcript") == "春〓〓\n〓秋\n\f\n\f\n冬\n"
    told = capsys.readouterr().err
    assert "two.jpg: no such file" in told and "gone: names a page that is not given" in told
    assert f"{PAGE}: the box is outside the page" in told


def test_columns_of_the_file_are_kept_in_its_order():
    lines = ["b", "a", "b", "b", "a"]
    read = [
        (item._replace(line=line), rows) for (item, rows), line in zip(READ[:5], lines, strict=True)
    ]
    assert _document("transcript", read) == "春〓〓\n秋〓\n"


def _validated(text: str) -> ET.Element:
    """The document, if TEI's schema takes it.

    libxml2 does not know kanji for letters (of their range it has the ends only), which the
    pattern of assertedValue asks for: a candidate is replaced by the first kanji for it.
    """
    etree = pytest.importorskip("lxml.etree")
    known = re.sub('assertedValue="."', 'assertedValue="一"', text)
    schema = etree.RelaxNG(etree.parse(str(SCHEMA)))
    assert schema.validate(etree.fromstring(known.encode())), schema.error_log
    return ET.fromstring(text)


def test_tei_is_valid_and_holds_text_zones_and_candidates():
    root = _validated(_document("tei"))
    texts = ["".join(ab.itertext()).split() for ab in root.iter(f"{TEI}ab")]
    assert texts == [["春〓〓", "〓秋"], [], ["冬"]]
    urls = [graphic.get("url") for graphic in root.iter(f"{TEI}graphic")]
    assert urls == ["scans/p%201%25.jpg", "two.jpg", "https://x.org/a%20b"]
    zones = {zone.get(XML_ID): zone for zone in root.iter(f"{TEI}zone")}
    for character in root.iter(f"{TEI}c"):
        assert (character.get("facs") or "").removeprefix("#") in zones
    surface = next(root.iter(f"{TEI}surface"))
    assert (surface.get("lrx"), surface.get("lry")) == ("400", "500")
    whole = zones["p1l1"]
    assert [whole.get(key) for key in ("ulx", "uly", "lrx", "lry")] == ["300", "10", "362", "250"]
    assert zones["p1l1z2"].get("n") == f"{PAGE} <302> & \\x01"
    targets = {character.get(XML_ID): character for character in root.iter(f"{TEI}c")}
    note = next(note for note in root.iter(f"{TEI}note") if note.get("type") == "candidates")
    asked = targets[(note.get("target") or "").removeprefix("#")]
    assert (asked.text, asked.get("type")) == ("〓", "ask")
    assert note.text == "は U+306F 0.5000; ほ U+307B 0.2500 (several characters)"
    told = [(c.get("assertedValue"), c.get("degree")) for c in note]
    assert told == [("は", "0.5000"), ("ほ", "0.2500")]
    errors = [note.text for note in root.iter(f"{TEI}note") if note.get("type") == "error"]
    assert errors == ["the box is outside the page, which is 1 x 1", "no such file"]


def test_tei_of_nothing_is_valid():
    root = _validated(_document("tei", [READ[6]]))
    assert not list(root.iter(f"{TEI}pb"))


def test_boxes_are_read_back_from_tei_in_its_order(tmp_path: Path):
    (tmp_path / "p.xml").write_text(_document("tei", READ[:4]), encoding="utf-8")
    boxes = read_boxes(tmp_path / "p.xml")
    assert [(box.left, box.top, box.width, box.height) for box in boxes] == [
        (300, 10, 60, 60),
        (302, 100, 60, 60),
        (300, 190, 60, 60),
        (100, 100, 60, 60),
    ]
    assert [box.line for box in boxes] == ["p1l1"] * 3 + ["p1l2"]
    assert {box.image for box in boxes} == {"p 1%.jpg"} and not any(b.trouble for b in boxes)


def test_rows_come_back_from_json_lines_as_they_were():
    for _, rows in READ:
        for row in rows:
            assert row_of_json(RowFormat("jsonl").text_of(row, True)) == row


# The door without JAX, with verdicts.
VERDICTS = """
Reading.verdict = "accept"
Spring.accuracy_of = lambda self, verdict: 0.99
"""
SLOW = """
import time
from kkanji_jax.answers import partial_rows, rows
rows.BATCH_SIZE = 16
partial_rows.COMMIT_S = 0.05
Spring.outputs = lambda self, glyphs: (time.sleep(0.1), (glyphs, glyphs))[1]
"""
RUN = """
from kkanji_jax.predict import run
run()
"""


@pytest.fixture
def page(tmp_path: Path, rng: np.random.Generator) -> list[str]:
    """Arguments that read a page of twelve columns of forty boxes, on blank paper."""
    Image.fromarray(rng.integers(200, 256, (2000, 700), np.uint8)).save(tmp_path / "page.png")
    places = [(50 + 50 * column, 10 + 45 * row) for row in range(40) for column in range(12)]
    lines = [f"{x},{y},40,40,{number}" for number, (x, y) in enumerate(places)]
    (tmp_path / "boxes.csv").write_text("\n".join(["x,y,w,h,id", *lines]) + "\n")
    return [str(tmp_path / "page.png"), "--boxes", str(tmp_path / "boxes.csv")]


def _start(code: str, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("form", ["transcript", "tei"])
def test_a_stopped_transcript_goes_on_and_is_the_same(
    form: str, page: list[str], tmp_path: Path, without_jax: str
):
    out = tmp_path / "out"
    arguments = [*page, "--format", form, "--out", str(out)]
    state = tmp_path / "out.partial.json"
    process = _start(without_jax + VERDICTS + SLOW + RUN, *arguments)
    while process.poll() is None:
        if state.exists() and json.loads(state.read_text())["tally"]["num_images"]:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 143 and "the same command goes on" in told and not out.exists()
    done = json.loads(state.read_text())["tally"]["num_images"]
    assert 0 < done < 480
    process = _start(without_jax + VERDICTS + RUN, *arguments)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert not state.exists() and not (tmp_path / "out.partial").exists()
    resumed = out.read_text(encoding="utf-8")
    process = _start(without_jax + VERDICTS + RUN, *page, "--format", form)
    printed, _ = process.communicate(timeout=300)
    assert printed == resumed
    if form == "transcript":
        assert resumed == ("春" * 40 + "\n") * 12
    else:
        assert sum(1 for _ in _validated(resumed).iter(f"{TEI}c")) == 480


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ([], VERDICTS, "--format tei is of pages: give --boxes"),
        (["--boxes"], "Spring.accuracy_of = lambda self, verdict: None", "is not calibrated"),
    ],
)
def test_a_transcript_without_boxes_or_verdicts_is_refused(
    arguments: list[str], code: str, expected: str, page: list[str], without_jax: str
):
    given = [page[0], *(page[1:] if arguments else []), "--format", "tei"]
    process = _start(f"{without_jax}\n{code}\n{RUN}", *given)
    printed, told = process.communicate(timeout=300)
    assert process.returncode == 1 and expected in told and not printed
