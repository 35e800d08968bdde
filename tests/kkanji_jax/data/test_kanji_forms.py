"""Old and new forms are named both ways; nothing is ever replaced by another form."""

import unicodedata

import pytest

from kkanji_jax.data.class_index import parse_codepoint
from kkanji_jax.data.kanji_forms import _table, forms, forms_of


def told(character: str) -> list[tuple[str, str]]:
    return [(form.character, form.relation) for form in forms(f"U+{ord(character):04X}")]


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        ("国", [("國", "old")]),
        ("國", [("国", "new")]),
        ("弁", [("瓣", "old"), ("辨", "old"), ("辯", "old")]),
        ("辨", [("弁", "new")]),  # not 辯: one new form, different characters
        ("\ufa19", [("神", "unified")]),
        ("神", [("\ufa19", "compatibility")]),
        ("龍", [("竜", "new"), ("\uf9c4", "compatibility")]),
        ("春", []),
        ("あ", []),
    ],
)
def test_forms_are_those_a_dictionary_names(character: str, expected: list):
    assert told(character) == expected


def test_the_table_is_canonical_symmetric_and_reflexive_nowhere():
    assert len(_table()) > 2000
    for codepoint, found in _table().items():
        assert parse_codepoint(codepoint) == codepoint
        for form in found:
            assert form.codepoint != codepoint
            assert codepoint in forms_of(form.codepoint)
            opposite = {
                "old": "new",
                "new": "old",
                "compatibility": "unified",
                "unified": "compatibility",
            }[form.relation]
            assert (codepoint, opposite) in {
                (f.codepoint, f.relation) for f in forms(form.codepoint)
            }


def test_compatibility_forms_are_unicodes_own():
    for codepoint, found in _table().items():
        for form in found:
            if form.relation == "unified":
                character = chr(int(codepoint[2:], 16))
                assert unicodedata.normalize("NFC", character) == form.character
