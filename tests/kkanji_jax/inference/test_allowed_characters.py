"""A list of characters, in whatever layout, restricts the answer to those that the model knows."""

from pathlib import Path

import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.scripts import script_of
from kkanji_jax.inference.allowed_characters import characters_in, characters_of

INDEX = ClassIndex.from_codepoints(["U+3042", "U+6625", "U+590F", "U+FA19", "U+24FA3", "U+1B002"])


def test_scripts_are_told_apart():
    told = {c: script_of(f"U+{ord(c):04X}") for c in "あゝアㇰ𛀂春々〇𤾣神A。"}
    assert "".join(c for c, script in told.items() if script == "kana") == "あゝアㇰ𛀂"
    assert "".join(c for c, script in told.items() if script == "kanji") == "春々〇𤾣神"
    assert "".join(c for c, script in told.items() if script == "other") == "A。"


def test_a_script_is_what_the_model_knows_of_it():
    assert characters_of("kana", INDEX).known == {"あ", "𛀂"}
    assert characters_of("kanji", INDEX).known == {"春", "夏", "\ufa19", "𤾣"}
    with pytest.raises(ValueError, match="knows no kana"):
        characters_of("kana", ClassIndex.from_codepoints(["U+6625"]))


def test_a_file_lists_characters_or_code_points_and_nothing_is_normalised(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_text("\ufeff春, U+24FA3\n\nU+3042\t秋 神", encoding="utf-8")
    told = characters_of(str(path), INDEX)
    assert told.known == {"春", "𤾣", "あ"}
    assert told.lacking == (",", "神", "秋")  # 神 is U+795E, not U+FA19
    path.write_text("\ufa19", encoding="utf-8")
    assert characters_of(str(path), INDEX) == (frozenset("\ufa19"), ())


RANGES = {
    "U+3041-U+3050": ("あ", ""),
    "あ-お 犬": ("あ", "犬"),
    "お-あ": ("あ", ""),  # from either end
    "U+590F-春": ("夏春", ""),
    "u+6625": ("春", ""),
    "春 - 夏": ("春夏", "-"),
    "-春-": ("春", "-"),
    "か\u3099あ": ("あ", "が"),
    "春\U000e0100夏\ufe00": ("春夏", ""),
    "U+6625U+590F春春": ("春夏", ""),
    "𤾢-𤾤": ("𤾣", ""),
}


def test_a_range_is_what_the_model_knows_of_it_and_a_marked_kana_is_one_character():
    for text, (known, lacking) in RANGES.items():
        told = characters_in(text, INDEX, "the list")
        assert (told.known, "".join(told.lacking)) == (set(known), lacking), text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "must be kanji, kana or a file"),
        (b"ABC", "none of the 3"),
        (b"\x8ft", "not UTF-8"),
        (b"U+D800", "list: a code point .* surrogate"),
        (b"U+FFFFFF", "list: a code point .* at most U.10FFFF"),
        (b"0-9 x", "none of the 1 characters and 1 ranges"),
    ],
)
def test_what_is_no_list_is_named(content: bytes | None, expected: str, tmp_path: Path):
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        characters_of(str(tmp_path / "list"), INDEX)
