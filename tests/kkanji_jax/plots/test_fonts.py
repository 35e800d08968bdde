"""Characters are drawn where a font has them, and named where none does: never an empty box."""

from pathlib import Path

import matplotlib
import pytest
from matplotlib import font_manager

from kkanji_jax.plots.fonts import FONT_VARIABLE, find_font


def test_the_font_of_the_package_has_kana_and_kanji_and_says_what_it_lacks():
    settings = dict(matplotlib.rcParams)
    font = find_font()
    assert [font.text_of(c) for c in "あ春國々𠮟"] == list("あ春國々𠮟")
    assert font.text_of("𛀂") == "U+1B002" and font.text_of("\U0002ffff") == "U+2FFFF"
    assert dict(matplotlib.rcParams) == settings  # found, without changing matplotlib


def test_a_font_named_by_the_environment_is_used(monkeypatch):
    path = font_manager.findfont("DejaVu Serif")
    monkeypatch.setenv(FONT_VARIABLE, path)
    font = find_font()
    assert font.families == ("DejaVu Sans", "DejaVu Serif")
    assert font.text_of("A") == "A" and font.text_of("春") == "U+6625"


def test_a_named_font_that_is_none_is_an_error(monkeypatch, tmp_path: Path):
    (tmp_path / "font.ttf").write_text("no font")
    for name in ("font.ttf", "missing.ttf"):
        monkeypatch.setenv(FONT_VARIABLE, str(tmp_path / name))
        with pytest.raises(ValueError, match=f"expected a font file, cannot read .*{name}"):
            find_font()


def test_without_any_japanese_font_every_character_becomes_its_code_point(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    font = find_font()
    assert font.families == ("DejaVu Sans",) and font.text_of("春") == "U+6625"
