"""A font that has the characters, found wherever the project runs; a code point where none does."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.data.class_index import codepoint_of

FONT_VARIABLE = "KKANJI_FONT"
LATIN_FAMILY = "DejaVu Sans"  # ships inside matplotlib


class Font(NamedTuple):
    """Families for matplotlib's glyph-wise fallback, and the code points they can draw."""

    families: tuple[str, ...]
    drawable: frozenset[int]

    def text_of(self, character: str) -> str:
        """The character itself, or `U+XXXX` where it would come out as an empty box."""
        return character if ord(character) in self.drawable else codepoint_of(character)


def find_font() -> Font:
    """The font file named by KKANJI_FONT, or the IPAex Gothic that the package depends on.

    Registers it with matplotlib. ValueError if KKANJI_FONT names no font; without any Japanese
    font, one that draws Latin only, so that every character becomes its code point.
    """
    from matplotlib import font_manager, ft2font

    families: list[str] = []
    drawable: set[int] = set()
    for path in font_files():
        try:
            drawable |= ft2font.FT2Font(str(path)).get_charmap().keys()
            font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError) as err:
            raise ValueError(f"expected a font file, cannot read {path}: {err}") from err
        families.append(font_manager.FontProperties(fname=str(path)).get_name())
    return Font((LATIN_FAMILY, *dict.fromkeys(families)), frozenset(drawable))


def font_files() -> Sequence[Path]:
    """The file named by KKANJI_FONT, or those of the package that brings a Japanese font."""
    named = os.environ.get(FONT_VARIABLE)
    if named:
        return [Path(named)]
    # Located, not imported: importing matplotlib_fontja changes matplotlib's settings.
    spec = importlib.util.find_spec("matplotlib_fontja")
    folders = (spec.submodule_search_locations or []) if spec else []
    return sorted(path for folder in folders for path in Path(folder).rglob("*.ttf"))
