"""splits.csv says which sample is where, and is checked."""

import hashlib
from pathlib import Path

import pytest

from data_tools.plan.split import (
    SplitRow,
    check_rows,
    make_rows,
    read_earlier,
    read_left_out,
    read_splits,
    to_csv,
)
from data_tools.read.catalogue import Original


def make_original(number: int, codepoint: str = "U+6625", source: str = "kkanji") -> Original:
    digest = hashlib.sha256(f"{codepoint} {number}".encode()).hexdigest()
    return Original(f"{source}/{codepoint}/{number}", codepoint, source, b"", digest)


def test_equal_pixels_in_two_splits_are_a_leak():
    rows = [
        SplitRow("a", "U+6625", "train", "0" * 64, "a"),
        SplitRow("b", "U+6625", "val", "0" * 64, "b"),
    ]
    with pytest.raises(ValueError, match="a in train and b in val have the same pixels"):
        check_rows(rows)
    check_rows([row._replace(split="train") for row in rows])
    with pytest.raises(ValueError, match="a comes twice"):
        check_rows([rows[0], rows[0]])


def test_rows_survive_their_file(tmp_path: Path):
    codepoints = ("U+3042", "U+6625", "U+20B9F")
    made = [make_original(number, codepoint) for codepoint in codepoints for number in range(3)]
    rows = make_rows(made, ["train", "val", "test"] * 3)
    path = tmp_path / "splits.csv"
    path.write_text(to_csv(rows), "utf-8")
    assert read_splits(path) == rows and b"\r" not in path.read_bytes()
    first_line = path.read_text("utf-8").splitlines()[0]
    assert first_line == "sample_id,codepoint,split,pixels_sha256,parent_id"


@pytest.mark.parametrize("name", ["a\rb", "a\r", "a\nb", "a\r\n", 'a"b', "a,b"])
def test_ids_with_line_breaks_survive_their_file(name: str, tmp_path: Path):
    row = SplitRow(name, "U+6625", "train", "0" * 64, name)
    path = tmp_path / "splits.csv"
    path.write_bytes(to_csv([row, row]).encode())
    assert read_splits(path) == [row, row]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must have a column 'sample_id'"),
        ("sample_id,split\na,train\n", "must have a column 'codepoint'"),
        (
            "sample_id,codepoint,split\na,U+6625,training\n",
            "line 2: the split must be train, val or test",
        ),
        ("sample_id,codepoint,split\na,6625,train\n", "did you mean U\\+6625"),
        ("sample_id,codepoint,split\na,U+6625\n", "not ''"),
    ],
)
def test_a_wrong_splits_file_is_refused_by_name(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "splits.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=f"splits.csv: .*{reason}"):
        read_splits(path)
    with pytest.raises(ValueError, match="no file"):
        read_splits(tmp_path / "nowhere.csv")


def write_earlier(path: Path, *rows: SplitRow) -> Path:
    path.write_text(to_csv(rows), "utf-8")
    return path


def test_earlier_splits_are_matched_with_the_source_and_the_rest_reported(tmp_path: Path):
    made = [make_original(number) for number in range(3)]
    rows = make_rows(made, ["train", "val", "test"])
    gone = SplitRow("kkanji/U+6625/gone", "U+6625", "val", "", "kkanji/U+6625/gone")
    path = write_earlier(tmp_path / "splits.csv", *rows[:2], gone)
    earlier, absent = read_earlier(path, made)
    assert earlier == {rows[0].sample_id: "train", rows[1].sample_id: "val"}
    assert absent == ["kkanji/U+6625/gone"]


def test_only_three_columns_of_earlier_splits_must_be_there(tmp_path: Path):
    path = tmp_path / "splits.csv"
    path.write_text("split,sample_id,codepoint\nval,kkanji/U+6625/0,U+6625\n", "utf-8")
    assert read_earlier(path, [make_original(0)]) == ({"kkanji/U+6625/0": "val"}, [])


def test_earlier_splits_of_other_pixels_or_labels_are_refused(tmp_path: Path):
    made = [make_original(0), make_original(1)]
    row = make_rows(made, ["train", "val"])[0]
    path = tmp_path / "splits.csv"
    with pytest.raises(ValueError, match="is U\\+6765 there, U\\+6625 in the source"):
        read_earlier(write_earlier(path, row._replace(codepoint="U+6765")), made)
    with pytest.raises(ValueError, match="has other pixels in the source"):
        read_earlier(write_earlier(path, row._replace(pixels_sha256="0" * 64)), made)
    with pytest.raises(ValueError, match="lists 1 samples twice"):
        read_earlier(write_earlier(path, row, row), made)
    equal = [made[0], made[1]._replace(pixels_sha256=made[0].pixels_sha256)]
    with pytest.raises(ValueError, match="puts equal pixels in two splits"):
        read_earlier(write_earlier(path, *make_rows(equal, ["train", "val"])), equal)


def test_a_list_of_samples_to_leave_out_may_say_why(tmp_path: Path):
    path = tmp_path / "left_out.csv"
    path.write_text("sample_id,reason\na/1,twice\na/2,\n", "utf-8")
    assert read_left_out(path) == {"a/1": "twice", "a/2": ""}
    path.write_text("sample_id\na/1\n", "utf-8")
    assert read_left_out(path) == {"a/1": ""}
    path.write_text("name\na/1\n", "utf-8")
    with pytest.raises(ValueError, match="left_out.csv: must have a column 'sample_id'"):
        read_left_out(path)
    with pytest.raises(ValueError, match="no file .*nowhere.csv"):
        read_left_out(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("row", ["blurred", "blurred,"])
def test_a_line_without_a_sample_to_leave_out_is_named(tmp_path: Path, row: str):
    path = tmp_path / "left_out.csv"
    path.write_text(f"reason,sample_id\nfaint,kkanji/U+6625/1\n{row}\n")
    with pytest.raises(ValueError, match="left_out.csv: line 3 has no sample_id"):
        read_left_out(path)
