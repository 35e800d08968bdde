"""The characters an answer is restricted to: a script, or a list in a file."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.data.class_index import ClassIndex, character_of
from kkanji_jax.data.scripts import script_of

NAMED = ("kanji", "kana")
_CODEPOINT = re.compile(r"U\+[0-9A-F]{4,6}")


class Characters(NamedTuple):
    """Characters that were asked for: those that a model knows, and those that it lacks, sorted."""

    known: frozenset[str]
    lacking: tuple[str, ...] = ()


def characters_of(expected: str, class_index: ClassIndex) -> Characters:
    """Those of `expected`: `kanji`, `kana`, or a UTF-8 file of characters or U+XXXX, in any layout.

    ValueError if the file holds nothing that the model knows.
    """
    if expected in NAMED:
        known = (c for c in class_index.codepoints if script_of(c) == expected)
        chosen = frozenset(character_of(codepoint) for codepoint in known)
        if not chosen:
            raise ValueError(f"this model knows no {expected}")
        return Characters(chosen)
    path = Path(expected)
    if not path.is_file():
        raise ValueError(f"--chars must be kanji, kana or a file of characters, not {expected!r}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise ValueError(f"{path} is not UTF-8: save the list of characters as UTF-8") from err
    return characters_in(text, class_index, str(path))


def characters_in(text: str, class_index: ClassIndex, where: str) -> Characters:
    """Those of a text of characters or U+XXXX, in any layout, which `where` names in errors.

    ValueError if it holds nothing that the model knows.
    """
    listed = frozenset(_listed(text))
    known = frozenset(character_of(codepoint) for codepoint in class_index.codepoints)
    if not listed & known:
        raise ValueError(
            f"none of the {len(listed)} characters in {where} is among the model's {len(known)}"
        )
    return Characters(listed & known, tuple(sorted(listed - known)))


def _listed(text: str) -> Iterable[str]:
    yield from (character_of(codepoint) for codepoint in _CODEPOINT.findall(text))
    for character in _CODEPOINT.sub(" ", text):
        if not character.isspace():
            yield character
