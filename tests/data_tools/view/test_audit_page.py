"""The audit's page shows what was found, and what became of it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.inspect import main
from data_tools.plan.audit_pictures import NO_CLASS
from data_tools.view import audit_page
from data_tools.write.assemble import Options, assemble
from kkanji_jax.data.records import decode


class Checker(HTMLParser):
    """Every tag closed in its order; what was linked to is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def dataset(source: Any, tmp_path: Path) -> Path:
    source.add_kanji("U+6625", 12)
    source.add_kanji("U+6765", 2)
    black = np.zeros((64, 64), np.uint8)
    for codepoint in ("U+6625", "U+55DF"):
        source.add_file(f"kkanji2/{codepoint}/black.png", source.png(black))
    source.add_file("kkanji2/U+6625/zz.png", source.png(source.draw(0x6625 * 1000)))
    source.add_file("kkanji2/U+6765/<b>&.png", source.png(255 - source.draw(5)))
    source.add_file("kkanji2/U+6765/torn.png", b"torn")
    assemble(source.folder, tmp_path / "out", Options(skip_bad=True))
    return tmp_path / "out"


def test_the_page_is_one_sound_file_with_a_picture_of_each_finding(dataset: Path, tmp_path: Path):
    page = tmp_path / "audit.html"
    assert main([str(dataset), "--audit", str(page)]) == 0
    text = page.read_text("utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(checker.sources) == 2 + 2 + 1  # two blank, two of a pair, one inverted
    assert all(link.startswith("data:image/png;base64,") for link in checker.sources)
    assert "&lt;b&gt;&amp;" in text and "<b>" not in text
    for words in ("blank: 2", "duplicate within class: 1", "inverted: 1", "unreadable: 1"):
        assert words in text
    assert "嗟 U+55DF" in text and "no image passed the audit" in text
    assert "kkanji2/U+6765/torn.png: " in text and "zz (dropped)" in text
    manifest = json.loads((dataset / "manifest.json").read_text("utf-8"))
    assert f">{manifest['splits']['train']['num_examples']}<" in text


def test_a_long_rule_is_paged_and_nothing_lies_open_but_its_first_page(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit_page, "PICTURES_A_PAGE", 1)
    page = tmp_path / "audit.html"
    assert main([str(dataset), "--audit", str(page)]) == 0
    text = page.read_text("utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and len(checker.sources) == 5  # paging loses no picture
    blank = text.split("blank: 2")[1].split("inverted: 1")[0]
    assert "1 to 1" in blank and "2 to 2" in blank
    assert re.findall(r"<details name=\"blank\"( open)?>", blank) == [" open", ""]
    outer = re.findall(r"<details( open)?><summary><strong>", text)
    assert outer and set(outer) == {""}  # a reader opens what he wants to see


def test_classes_left_out_are_listed_by_their_reason(dataset: Path):
    report = json.loads((dataset / "audit.json").read_text("utf-8"))
    manifest = json.loads((dataset / "manifest.json").read_text("utf-8"))
    many = [
        {
            "codepoint": f"U+{0x4E00 + i:04X}",
            "character": chr(0x4E00 + i),
            "reason": reason,
            "num_found": 3,
            "num_passed": i,
        }
        for reason in ("too <few>", "none to train on")
        for i in range(3)
    ]
    text = audit_page.to_html(manifest, report | {"dropped_classes": many}, None)
    assert "Classes left out: 6" in text
    assert text.count("<strong>3</strong>") == 2 and "too &lt;few&gt;" in text
    assert text.count("丁 U+4E01 1 of 3") == 2


def test_the_pictures_are_a_record_of_what_was_found(dataset: Path):
    pictures = decode((dataset / "audit.record").read_bytes())
    assert set(pictures.sample_ids) == {
        "kkanji/U+55DF/black",
        "kkanji/U+6625/00",
        "kkanji/U+6625/black",
        "kkanji/U+6625/zz",
        "kkanji/U+6765/<b>&",
    }
    classes = dict(zip(pictures.sample_ids, pictures.class_ids.tolist(), strict=True))
    assert classes["kkanji/U+55DF/black"] == NO_CLASS
    assert classes["kkanji/U+6625/black"] == 0
    shown = dict(zip(pictures.sample_ids, pictures.images, strict=True))
    assert not shown["kkanji/U+6625/black"].any()
    np.testing.assert_array_equal(shown["kkanji/U+6625/00"], shown["kkanji/U+6625/zz"])


def test_a_rule_is_listed_and_drawn(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sheet = tmp_path / "sheet.png"
    assert main([str(dataset), "--rule", "blank", "--sheet", str(sheet)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 blank: an image whose pixels are all alike; dropped"
    assert lines[1:3] == ["kkanji/U+55DF/black", "kkanji/U+6625/black"]
    assert lines[3] == f"wrote {sheet}: 2 of 2 examples"
    assert main([str(dataset), "--rule", "unreadable", "--sheet", str(sheet)]) == 1
    assert "has kept no picture of what unreadable found" in capsys.readouterr().err


def test_a_dataset_made_before_pictures_were_kept_has_a_page_of_words(
    dataset: Path, tmp_path: Path
):
    (dataset / "audit.record").unlink()
    assert main([str(dataset), "--audit", str(tmp_path / "audit.html")]) == 0
    text = (tmp_path / "audit.html").read_text("utf-8")
    assert "<img" not in text and re.search(r"<li>kkanji/U\+6625/black</li>", text)


def test_counts_are_a_csv_of_every_class(dataset: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(dataset), "--counts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "codepoint,character,train,val,test,training_originals"
    rows = {line.split(",")[0]: line.split(",")[1:] for line in lines[1:]}
    assert rows.keys() == {"U+6625", "U+6765"} and rows["U+6625"][0] == "春"
    assert sum(int(number) for number in rows["U+6625"][1:4]) == 12


def test_a_copy_is_shown_beside_its_original_and_an_original_with_its_copies(
    source: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source.add_kanji("U+6625", 2)
    out, sheet = tmp_path / "out", tmp_path / "sheet.png"
    options = Options(per_class=6, engine="host", ratios=(100.0, 0.0, 0.0))
    assemble(source.folder, out, options)
    assert main([str(out), "--sample", "kkanji/U+6625/00#2", "--sheet", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "parent     kkanji/U+6625/00\n" in said and "wrote" in said and "2 of 2" in said
    assert main([str(out), "--sample", "kkanji/U+6625/00", "--sheet", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "copies     2 written out" in said and "3 of 3 examples" in said
    assert main([str(out), "--sample", "kkanji/U+6625/00#9"]) == 1
    assert "no example 'kkanji/U+6625/00#9'" in capsys.readouterr().err
