"""A font that has the characters, or their code points where the font lacks them."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.data.class_index import codepoint_of

FONT_VARIABLE = "KKANJI_FONT"
LATIN_FAMILY = "DejaVu Sans"  # ships inside matplotlib


class Font(NamedTuple):
    """Font families for matplotlib's fallback per glyph, and the code points that they have."""

    families: tuple[str, ...]
    drawable: frozenset[int]

    def text_of(self, character: str) -> str:
        """The character itself, or `U+XXXX` if the font would draw an empty box."""
        return character if ord(character) in self.drawable else codepoint_of(character)


def find_font() -> Font:
    """The font file named by KKANJI_FONT, or the IPAex Gothic that the package depends on.

    Registers it with matplotlib. ValueError if KKANJI_FONT does not name a font. Without any
    Japanese font it is a Latin one, so that every character is shown as its code point.
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
