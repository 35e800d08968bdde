"""Odd copies are the examples turned and halved, and which ones follows from their ids."""

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.evaluation import odd_copies as copies_lib
from kkanji_jax.evaluation.odd_copies import half_of, odd_copies
from kkanji_jax.glyphs.glyph_image import glyph_image


@pytest.fixture
def glyphs(rng: np.random.Generator) -> np.ndarray:
    """Two blots each, one above and one below, of other sizes."""
    made = np.zeros((6, 64, 64), np.uint8)
    for glyph in made:
        top, left = rng.integers(2, 8, 2)
        glyph[top : top + 14, left : left + 40] = 255
        glyph[40 : 40 + int(rng.integers(8, 18)), 30:50] = 255
    return made


def test_an_example_is_turned_three_times_and_halved_once(glyphs: np.ndarray):
    names = [f"kkanji/{n:06d}" for n in range(6)]
    found = odd_copies(glyphs, names, ["published"] * 6)
    np.testing.assert_array_equal(found.rows, [*range(6)] * 4)
    for number in range(6):
        for turns in (1, 2, 3):
            expected = np.rot90(glyphs[number], turns)
            np.testing.assert_array_equal(found.glyphs[6 * (turns - 1) + number], expected)
    assert any((found.glyphs[18 + number] != glyphs[number]).any() for number in range(6))


def test_copies_follow_from_the_id_and_not_from_the_others(glyphs: np.ndarray):
    names = [f"kkanji/{n:06d}" for n in range(6)]
    every = odd_copies(glyphs, names, ["published"] * 6)
    one = odd_copies(glyphs[4:5], names[4:5], ["photographed"])
    for copy in range(4):
        np.testing.assert_array_equal(one.glyphs[copy], every.glyphs[6 * copy + 4])


def test_no_group_has_more_copies_than_allowed(glyphs: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copies_lib, "MOST_COPIED", 2)
    names = [f"kkanji/{n:06d}" for n in range(6)]
    found = odd_copies(glyphs, names, ["published"] * 5 + ["photographed"])
    chosen = set(found.rows.tolist())
    assert len(chosen) == 3 and 5 in chosen and len(found.rows) == 12


@pytest.mark.parametrize("which", range(4))
def test_a_half_is_what_a_cut_out_half_looks_like(glyphs: np.ndarray, which: int):
    rows, columns = copies_lib._HALVES[which]
    cut = 255 - np.repeat(np.repeat(glyphs[0][rows, columns], 3, axis=0), 3, axis=1)
    expected = glyph_image(Image.fromarray(cut)).astype(int)
    # Enlarged smoothly there and in blocks here: edges differ, and not what is shown.
    assert np.abs(half_of(glyphs[0], which).astype(int) - expected).mean() < 12
    others = [half_of(glyphs[0], other).astype(int) for other in range(4) if other != which]
    assert all(np.abs(expected - other).mean() > 12 for other in others)
