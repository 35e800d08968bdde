"""Code points and class ids."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.data.class_index import ClassIndex, character_of, codepoint_of, parse_codepoint

CHARACTERS = st.characters(exclude_categories=["Cs"])
# U+FA19 is U+795E under Unicode normalisation; U+20B9F sorts before U+3402 as text.
TRICKY = ["U+3402", "U+20B9F", "U+FA19", "U+795E", "U+3042", "U+10FFFF", "U+0041"]


@given(CHARACTERS)
def test_a_character_and_its_code_point_are_each_others(character: str):
    codepoint = codepoint_of(character)
    assert parse_codepoint(codepoint) == codepoint
    assert character_of(codepoint) == character


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("u+5927", "U+5927 (大)"),
        ("5927", "U+5927 (大)"),
        ("U5927", "U+5927 (大)"),
        ("0x5927", "U+5927 (大)"),
        ("U+5927 copy", "U+5927 (大)"),
        ("U+05927", "U+5927 (大)"),
        ("U+fa19", "U+FA19"),
        ("大", "U+5927 (大)"),
        ("U+20b9f", "U+20B9F"),
    ],
)
def test_a_name_near_a_code_point_is_refused_with_a_suggestion(text: str, suggestion: str):
    with pytest.raises(ValueError) as err:
        parse_codepoint(text)
    assert f"did you mean {suggestion}" in str(err.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "U+",
        "U+D800",
        "U+DFFF",
        "U+110000",
        "U+０１２３",
        "U+5927_0",
        "U+5927\n",
        "kanji",
        "大小",
    ],
)
def test_what_is_no_code_point_is_refused_without_a_guess(text: str):
    with pytest.raises(ValueError) as err:
        parse_codepoint(text)
    assert "did you mean" not in str(err.value) or "U+5927" in str(err.value)
    assert "U+6625" in str(err.value)  # how one is written


@pytest.mark.parametrize("text", ["", "ab", "か\u3099"])
def test_only_one_character_has_a_code_point(text: str):
    with pytest.raises(ValueError):
        codepoint_of(text)


def test_ids_follow_code_point_order_not_text_order():
    index = ClassIndex.from_codepoints(TRICKY)
    numbers = [int(codepoint[2:], 16) for codepoint in index.codepoints]
    assert numbers == sorted(numbers) and len(index) == len(TRICKY)
    assert index.id_of("U+3402") < index.id_of("U+20B9F")
    assert sorted(TRICKY) != list(index.codepoints)


def test_compatibility_ideographs_stay_classes_of_their_own(tmp_path: Path):
    ClassIndex.from_codepoints(["U+FA19", "U+795E"]).save(tmp_path / "index.json")
    loaded = ClassIndex.load(tmp_path / "index.json")
    assert [loaded.character(i) for i in range(2)] == ["\u795e", "\ufa19"]
    assert (
        "\ufa19 (U+FA19)"
        in json.loads((tmp_path / "index.json").read_text("utf-8"))["codepoint_to_id"]
    )


@given(st.lists(CHARACTERS, unique=True, max_size=30), st.randoms())
def test_an_index_survives_json_and_the_order_it_was_given_in(
    characters: list[str], shuffler: random.Random
):
    codepoints = [codepoint_of(character) for character in characters]
    index = ClassIndex.from_codepoints(codepoints)
    shuffler.shuffle(codepoints)
    assert ClassIndex.from_codepoints(codepoints * 2) == index
    assert ClassIndex.from_json(json.loads(json.dumps(index.to_json()))) == index
    for class_id, codepoint in enumerate(index.codepoints):
        assert index.id_of(codepoint) == class_id
        assert codepoint_of(index.character(class_id)) == codepoint


def test_the_digest_is_of_the_code_points_one_a_line():
    # printf 'U+3042\nU+6625\n' | sha256sum
    expected = "248cd9269baf943b802a991ad0a10329f7cbab987501189cc5d94e680a1a443e"
    assert ClassIndex(("U+3042", "U+6625")).digest == expected


def test_the_file_keeps_the_shape_of_the_original(tmp_path: Path):
    ClassIndex(("U+3042", "U+6625")).save(tmp_path / "index.json")
    content = json.loads((tmp_path / "index.json").read_text("utf-8"))
    assert content["codepoint_to_id"] == {"あ (U+3042)": 0, "春 (U+6625)": 1}
    assert content["version"] == 1


def _saved(tmp_path: Path) -> Path:
    path = tmp_path / "index.json"
    ClassIndex(("U+3042", "U+6625")).save(path)
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("あ (U+3042)", "い (U+3042)"),
        ("あ (U+3042)", "い (U+3044)"),
        ("あ (U+3042)", "U+3042"),
        ('"version": 1', '"version": 2'),
        (": 0", ": 1"),
        (": 1\n", ": 2\n"),
        ('"digest": "2', '"digest": "3'),
        ("{", "["),
        ("codepoint_to_id", "codepoints"),
    ],
)
def test_a_changed_index_is_refused_by_file_name(tmp_path: Path, old: str, new: str):
    path = _saved(tmp_path)
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError, match="index.json"):
        ClassIndex.load(path)


def test_a_missing_or_undecodable_index_is_refused_by_file_name(tmp_path: Path):
    with pytest.raises(ValueError, match="index.json is missing"):
        ClassIndex.load(tmp_path / "index.json")
    (tmp_path / "index.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="index.json"):
        ClassIndex.load(tmp_path / "index.json")


def test_unsorted_or_doubled_code_points_are_no_index():
    for codepoints in (("U+6625", "U+3042"), ("U+6625", "U+6625")):
        with pytest.raises(ValueError, match="in code point order"):
            ClassIndex(codepoints)


def test_what_an_index_does_not_hold_is_refused():
    index = ClassIndex(("U+3042",))
    with pytest.raises(ValueError, match="U\\+6625 is not among the 1 classes"):
        index.id_of("U+6625")
    with pytest.raises(ValueError, match="did you mean U\\+6625"):
        index.id_of("6625")
    for class_id in (-1, 1):
        with pytest.raises(ValueError, match="class id"):
            index.character(class_id)
