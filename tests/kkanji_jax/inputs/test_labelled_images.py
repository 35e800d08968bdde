"""Labelled images are found with the label that counts, and what is left out is said."""

import importlib.util
import shutil
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.inputs.labelled_images import find_labelled, open_labelled


def test_boxes_of_a_table_are_cut_out_of_their_pages(tiny_run, tmp_path: Path):
    lines = ["path,box,codepoint"]
    for name, codepoint in (("p1", "U+6625"), ("p2", "U+590F")):
        page = Image.new("L", (200, 64), 0)
        file = sorted((tiny_run.source / codepoint).iterdir())[0]
        page.paste(Image.open(file), (100, 0))
        page.save(tmp_path / f"{name}.png")
        lines.append(f"{name}.png,100 0 64 64,{codepoint}")
    lines += ["p1.png,900 0 9 9,U+6625", "gone.png,1 2 3 4,U+6625"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    first, second, outside, gone = find_labelled(tmp_path / "labels.csv")
    for item, codepoint in ((first, "U+6625"), (second, "U+590F"), (first, "U+6625")):
        file = sorted((tiny_run.source / codepoint).iterdir())[0]
        np.testing.assert_array_equal(open_labelled(item), np.asarray(Image.open(file)))
    assert first.path.endswith("p1.png#100,0,64,64") and gone.error == "no such file"
    with pytest.raises(ValueError, match="outside the page, which is 200 x 64"):
        open_labelled(outside)


def test_a_table_in_a_folder_wins_over_its_folders_and_nothing_is_left_out_unsaid(tmp_path: Path):
    drawn = Image.new("L", (30, 30), 255)
    for name in ("U+6625/a.png", "U+6625/b.png", "U+590F/c.png", "scans/d.png", "loose.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        drawn.save(tmp_path / name)
    (tmp_path / "U+6625" / "notes.txt").write_text("of somebody")
    shutil.copytree(tmp_path / "U+6625", tmp_path / "alone" / "U+6625")
    (tmp_path / "alone" / "loose.png").write_bytes(b"")
    (tmp_path / "alone" / ".hidden").write_bytes(b"")
    lines = ["path,character", "U+6625/b.png,夏", "scans/d.png,春", "scans,冬", "loose.png,"]
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")

    passed_over: Counter[str] = Counter()
    found = find_labelled(tmp_path, passed_over)
    told = [(str(Path(item.path).relative_to(tmp_path)), item.codepoint) for item in found]
    assert told == [
        ("U+6625/b.png", "U+590F"),
        ("scans/d.png", "U+6625"),
        ("scans", "U+51AC"),
        ("U+590F/c.png", "U+590F"),
        ("U+6625/a.png", "U+6625"),
    ]
    assert [item.error for item in found] == ["", "", "a folder, and not an image", "", ""]
    assert passed_over == {".txt": 1}

    passed_over = Counter()
    assert len(find_labelled(tmp_path / "alone", passed_over)) == 2
    assert passed_over == {".txt": 1, "outside the folders named U+XXXX": 1}


def count_opened(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], "weakref.WeakSet[Any]"]:
    """The PDF files that are opened from now on, in order, and those that are open."""
    pypdfium2 = pytest.importorskip("pypdfium2")
    opened, still_open = [], weakref.WeakSet()

    class Counted(pypdfium2.PdfDocument):
        def __init__(self, path: str) -> None:
            super().__init__(path)
            opened.append(Path(path).name)
            still_open.add(self)

    monkeypatch.setattr(pypdfium2, "PdfDocument", Counted)
    return opened, still_open


def save_pdf(path: Path, num_pages: int) -> None:
    pages = [Image.new("L", (100 + 10 * number, 90), 255) for number in range(num_pages)]
    pages[0].save(path, save_all=True, append_images=pages[1:], resolution=300)


def test_a_pdf_is_opened_once_for_all_its_labels_and_one_is_open_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened, still_open = count_opened(monkeypatch)
    for name, num_pages in (("a.pdf", 3), ("b.pdf", 2)):
        save_pdf(tmp_path / name, num_pages)
    lines = ["path,box,codepoint"]
    for left in range(40):
        lines += [f"a.pdf#{number},{left} 0 40 40,U+6625" for number in (1, 2, 3)]
    lines += ["b.pdf#1,,U+6625", "b.pdf#2,,U+6625", "b.pdf#3,,U+6625", "b.pdf,,U+6625"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    *boxes, first, second, beyond, unnamed = find_labelled(tmp_path / "labels.csv")
    assert opened == ["a.pdf", "b.pdf"] and len(still_open) == 1
    assert len(boxes) == 120 and boxes[1].path.endswith("a.pdf#2#0,0,40,40")
    assert [item.error for item in (*boxes, first, second)] == [""] * 122
    assert "b.pdf has 2 pages, expected page 3" in beyond.error
    assert unnamed.error == "has 2 pages: name one"
    shapes = [open_labelled(item).size for item in (first, second)]
    assert shapes == [(100, 90), (110, 90)] and len(opened) == 2
    for item in boxes:
        assert open_labelled(item).shape[:2] == (40, 40)
    assert open_labelled(second).size == (110, 90)
    assert opened == ["a.pdf", "b.pdf", "a.pdf", "b.pdf"] and len(still_open) == 1


def test_pdfs_in_folders_named_by_code_point_are_not_all_kept_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, still_open = count_opened(monkeypatch)
    (tmp_path / "U+6625").mkdir()
    for number in range(3):
        save_pdf(tmp_path / "U+6625" / f"{number}.pdf", 2)
    found = find_labelled(tmp_path)
    assert [Path(item.path).name for item in found][:3] == ["0.pdf#1", "0.pdf#2", "1.pdf#1"]
    assert len(found) == 6 and len(still_open) == 1
    assert [open_labelled(item).size for item in found] == 3 * [(100, 90), (110, 90)]
    assert len(still_open) == 1


def test_a_page_whose_boxes_are_labelled_is_not_one_character_of_its_folder(tmp_path: Path):
    (tmp_path / "U+6625").mkdir()
    for name in ("page.png", "other.png"):
        Image.new("L", (90, 90), 255).save(tmp_path / "U+6625" / name)
    lines = ["path,box,codepoint", "U+6625/page.png,0 0 64 64,U+590F", "./U+6625/page.png,,U+51AC"]
    names = ["page.png#0,0,64,64", "page.png", "other.png"]
    if importlib.util.find_spec("pypdfium2"):
        save_pdf(tmp_path / "U+6625" / "book.pdf", 1)
        lines.append("U+6625/book.pdf,0 0 64 64,U+590F")
        names.insert(2, "book.pdf#0,0,64,64")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    assert [Path(item.path).name for item in find_labelled(tmp_path)] == names


def test_what_a_system_left_beside_the_folders_is_no_class_and_is_not_counted(tmp_path: Path):
    for name in ("U+6625", "__MACOSX"):
        (tmp_path / name).mkdir()
        Image.new("L", (30, 30), 255).save(tmp_path / name / "a.png")
    for name in ("Thumbs.db", ".DS_Store", "readme.md"):
        (tmp_path / name).touch()
    passed_over: Counter[str] = Counter()
    (found,) = find_labelled(tmp_path, passed_over)
    assert found.codepoint == "U+6625"
    assert passed_over == {"outside the folders named U+XXXX": 1}
