"""The characters an answer is restricted to: a script, or a list in a file."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.data.class_index import ClassIndex, character_of, codepoint_of, composed
from kkanji_jax.data.scripts import script_of

NAMED = ("kanji", "kana")
MOST_TOLD = 40  # characters in one line
_ONE = r"U\+[0-9A-F]{4,6}|[^\s-]"
_ITEM = re.compile(rf"({_ONE})(?:-({_ONE}))?|-", re.IGNORECASE)


class Characters(NamedTuple):
    """Characters that were asked for: those that a model knows, and those that it lacks, sorted."""

    known: frozenset[str]
    lacking: tuple[str, ...] = ()


def characters_of(expected: str, class_index: ClassIndex) -> Characters:
    """Those of `expected`: `kanji`, `kana`, or a UTF-8 file, as `characters_in` reads its text.

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

    A range, as ぁ-ん or U+3041-U+3093, is those of its characters that the model knows. `composed`
    says what is one character. ValueError if the text holds nothing that the model knows.
    """
    known = frozenset(character_of(codepoint) for codepoint in class_index.codepoints)
    listed: set[str] = set()
    ranged: set[str] = set()
    num_ranges = 0
    for item in _ITEM.finditer(composed(text)):
        try:
            first, last = (each and _character(each) for each in item.groups())
        except ValueError as err:
            raise ValueError(f"{where}: {err}") from err
        if last:
            num_ranges += 1
            least, most = sorted((first, last))
            ranged |= {character for character in known if least <= character <= most}
        else:
            listed.add(first or item[0])
    if not (listed | ranged) & known:
        ranges = f" and {num_ranges} ranges" if num_ranges else ""
        raise ValueError(
            f"none of the {len(listed)} characters{ranges} in {where} is among the model's "
            f"{len(known)}"
        )
    return Characters(frozenset(listed & known | ranged), tuple(sorted(listed - known)))


def told_lacking(lacking: Sequence[str], where: str) -> str:
    """The characters in `where` that the model lacks, in one line."""
    told = " ".join(f"{c} {codepoint_of(c)}" for c in lacking[:MOST_TOLD])
    rest = f" and {len(lacking) - MOST_TOLD:,} more" if len(lacking) > MOST_TOLD else ""
    return f"the model lacks {len(lacking):,} of the characters in {where}: {told}{rest}"


def _character(item: str) -> str:
    return item if len(item) == 1 else character_of(item.upper())
