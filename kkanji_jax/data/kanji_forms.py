"""Other forms of a kanji: old, new and compatibility forms. They are never substituted.

The table `kanji_forms.tsv` is made by scripts/assets/make_kanji_forms.py; its first lines name the
sources.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.data.class_index import character_of

# What a form is to the one asked about, by the relation in the table: (of first, of second).
_RELATIONS = {"old-new": ("old", "new"), "compatibility-unified": ("compatibility", "unified")}


class Form(NamedTuple):
    """Another way to write a character: `relation` is old, new, compatibility or unified."""

    codepoint: str
    relation: str

    @property
    def character(self) -> str:
        """The form itself."""
        return character_of(self.codepoint)


def forms(codepoint: str) -> tuple[Form, ...]:
    """The other forms of a code point, in code point order; none for most characters.

    Relations are not followed further: one new form may stand for several old ones that are
    different characters (弁 for 辨, 瓣 and 辯).
    """
    return _table().get(codepoint, ())


def forms_of(codepoint: str) -> frozenset[str]:
    """The code points of `forms`."""
    return frozenset(form.codepoint for form in forms(codepoint))


@cache
def _table() -> dict[str, tuple[Form, ...]]:
    found: dict[str, set[Form]] = {}
    path = Path(__file__).with_name("kanji_forms.tsv")
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line:
            continue
        first, second, kind = line.split("\t")
        of_first, of_second = _RELATIONS[kind]
        found.setdefault(second, set()).add(Form(first, of_first))
        found.setdefault(first, set()).add(Form(second, of_second))
    return {codepoint: tuple(sorted(forms, key=_order)) for codepoint, forms in found.items()}


def _order(form: Form) -> tuple[int, str]:
    return ord(form.character), form.relation
