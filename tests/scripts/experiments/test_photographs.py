"""Photographed characters: every one counts, and what was trained on is told apart."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.inference.reading import Candidate, Reading

MANIFEST = {
    "val_books": ["b1"],
    "test_books": ["b2"],
    "sources": [{"name": "kkanji"}, {"name": "char-shape", "books": ["b0", "b1", "b2"]}],
}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/photographs")


def test_a_book_has_its_role_in_the_dataset(script: ModuleType):
    roles = [script.role_of(book, MANIFEST) for book in ("b0", "b1", "b2", "b3")]
    assert roles == ["train book", "val book", "test book", "new book"]


def test_boxes_and_crops_are_read_with_their_book_and_code_point(
    script: ModuleType, tmp_path: Path
):
    page = np.full((60, 40), 230, np.uint8)
    page[10:30, 5:15] = 20
    Image.fromarray(page).save(tmp_path / "b2_00001_1.png")
    Image.open(tmp_path / "b2_00001_1.png").save(tmp_path / "b2_00001_1.jpg", quality=95)
    heading = "page,order,codepoint,char,x,y,w,h,source\n"
    (tmp_path / "boxes.csv").write_text(heading + "b2_00001_1,1,U+3042,あ,4,8,12,24,exact\n")
    (box,) = script.read_scans(tmp_path)
    assert (box.set_name, box.book, box.codepoint) == ("page_scans", "b2", "U+3042")
    assert np.asarray(box.image).shape[:2] == (24, 12)
    (tmp_path / "boxes.csv").write_text(heading + "b2_00001_1,1,U+3042,あ,90,8,12,24,exact\n")
    with pytest.raises(ValueError, match="the box is outside the page"):
        list(script.read_scans(tmp_path))
    (tmp_path / "labels.csv").write_text(
        "file,char,codepoint,page\nimg/a.jpg,春,U+6625,b3_00002_1\n"
    )
    (crop,) = script.read_crops(tmp_path)
    assert (crop.book, crop.codepoint, crop.image) == ("b3", "U+6625", tmp_path / "img/a.jpg")


def test_unknown_characters_and_blank_crops_are_misread(script: ModuleType):
    said = [("U+3042", "accept"), ("U+3042", "accept"), ("U+3042", "ask"), None, ("U+6625", "ask")]
    truth = ["U+3042", "U+3044", "U+3042", "U+3042", "U+6625"]
    readings = [
        Reading([], "unknown")
        if each is None
        else Reading([Candidate(chr(int(each[0][2:], 16)), each[0], 0.9, 1)], each[1])
        for each in said
    ]
    recogniser: Any = SimpleNamespace(
        predict=lambda images, top_k: readings,
        class_index=SimpleNamespace(codepoints=("U+3042", "U+6625")),
    )
    shown = [script.Shown("page_scans", "b2", codepoint, None) for codepoint in truth]
    kana, kanji = script.rows_of(shown, recogniser, MANIFEST)
    assert (kana["script"], kana["n"], kana["num_known"]) == ("kana", 4, 3)
    assert kana["top1"]["value"] == 0.5 and kana["role"] == "test book"
    accept = kana["verdicts"]["accept"]
    assert (accept["n"], accept["value"]) == (2, 0.5)
    assert (kanji["n"], kanji["top1"]["value"]) == (1, 1.0)


def test_of_character_shapes_only_held_out_books_are_read(script: ModuleType, tmp_path: Path):
    rows = ["a.jpg,U+3042,b0,exact,", "b.jpg,U+3042,b1,exact,", "c.jpg,U+3042,b2,derived,"]
    rows += ["d.jpg,U+3042,b2,exact,kmnist-test[5]"]
    text = "\n".join(["file,codepoint,book,boxes,same_character_in", *rows]) + "\n"
    (tmp_path / "crops.csv").write_text(text)
    found = list(script.read_shapes(tmp_path, MANIFEST))
    assert [(each.book, each.image.name) for each in found] == [("b1", "b.jpg"), ("b2", "c.jpg")]
    assert found[0].image.parent == tmp_path / "b1" / "characters" / "U+3042"
