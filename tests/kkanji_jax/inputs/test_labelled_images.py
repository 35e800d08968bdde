"""Labelled images are found with the label that counts, and what is left out is said."""

import shutil
from collections import Counter
from pathlib import Path

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
