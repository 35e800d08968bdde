"""A table of labels is read as it was meant, or refused with its line."""

from pathlib import Path

import pytest

from kkanji_jax.data.label_table import Label, read_labels


def read(tmp_path: Path, text: str) -> list[Label]:
    table = tmp_path / "labels.csv"
    table.write_text(text, encoding="utf-8")
    return read_labels(table)


def test_paths_boxes_and_characters_are_read(tmp_path: Path):
    text = "\ufeffpath,box,character,note\np1.jpg,3 4 50 60,春,x\n"
    text += "p1.jpg,'-2 0 9 9,U+590F,\n'=a.png,,夏,\n"
    assert read(tmp_path, text) == [
        Label("p1.jpg", "U+6625", (3, 4, 50, 60), 2),
        Label("p1.jpg", "U+590F", (-2, 0, 9, 9), 3),
        Label("=a.png", "U+590F", None, 4),
    ]
    assert [label.name for label in read(tmp_path, text)][::2] == ["p1.jpg#3,4,50,60", "=a.png"]


def test_a_label_that_is_quoted_for_a_spreadsheet_is_the_character(tmp_path: Path):
    (label,) = read(tmp_path, "path,character\na,'=\n")
    assert label.codepoint == "U+003D"


def test_a_label_in_any_of_its_columns_is_taken(tmp_path: Path):
    table = tmp_path / "labels.csv"
    table.write_text("path,codepoint,character\na,U+6625,\nb,,春\nc,U+6625,春\n", "utf-8")
    assert {label.codepoint for label in read_labels(table)} == {"U+6625"}
    assert len(read_labels(table)) == 3


def test_a_workbook_is_told(tmp_path: Path):
    (tmp_path / "labels.csv").write_bytes(b"PK\x03\x04\x14\0\x06\0")
    with pytest.raises(ValueError, match="labels.csv is a workbook or an archive: save the table"):
        read_labels(tmp_path / "labels.csv")


LINES = "path{0}Character\n頁一.png{0}春\n頁二.png{0}夏\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
def test_what_spreadsheets_save_is_read(delimiter: str, encoding: str, tmp_path: Path):
    table = tmp_path / "labels.csv"
    expected = [Label("頁一.png", "U+6625", None, 2), Label("頁二.png", "U+590F", None, 3)]
    table.write_bytes(LINES.format(delimiter).encode(encoding))
    assert read_labels(table) == expected
    table.write_bytes(f"\nsep={delimiter}\n{LINES.format(delimiter)}".encode(encoding))
    assert read_labels(table) == [each._replace(line=each.line + 2) for each in expected]


def test_a_kana_with_its_mark_and_a_form_of_a_character_are_one_character(tmp_path: Path):
    text = "path,codepoint,character\na,,か\u3099\nb,U+8FBB,辻\U000e0100\nc,,\ufa19\ufe00\n"
    told = [label.codepoint for label in read(tmp_path, text)]
    assert told == ["U+304C", "U+8FBB", "U+FA19"]


def test_a_line_without_a_label_is_no_label(tmp_path: Path):
    assert [each.line for each in read(tmp_path, "path,codepoint\na,\nb,U+6625\nc, \n")] == [3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "path,box,label\na,1 2 3,春\n",
            "line 2: expected a box of four numbers, x y w h, got '1 2 3'",
        ),
        ("path,label\na,春\nb,春\na,夏\n", "line 4: a is labelled in line 2 already"),
        (
            "path,codepoint,character\na,U+6625,春\nb,U+6625,夏\n",
            "line 3: its codepoint U+6625 and character 夏 differ",
        ),
        ("path,label\na,春夏\n", "line 2: expected one character or a code point"),
        ("path,label\na,か゛\n", "for label, got 'か゛'"),
        ("path,label\na,u+6625\n", "did you mean U+6625"),
        ("path,label\n,春\n", "line 2: it labels 春, but names no image"),
        ('path,label\n"a,春\nb,夏\n', "line 3: a quote that opens in line 2 never closes"),
        ("what,label\na,春\n", "expected a heading with path and codepoint"),
    ],
)
def test_what_is_no_label_is_told_with_its_line(tmp_path: Path, text: str, expected: str):
    with pytest.raises(ValueError, match="labels.csv") as told:
        read(tmp_path, text)
    assert expected in str(told.value)
