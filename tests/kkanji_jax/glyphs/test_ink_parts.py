"""Parts of the ink: what belongs to the character, and what its neighbours left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.glyphs.ink_parts import (
    find_parts,
    holds_several,
    meets_one_side_alone,
    without_strays,
)


def flooded(is_ink: np.ndarray) -> np.ndarray:
    """Labels by flooding from each pixel in turn: slow, and plainly right."""
    labels = np.zeros(is_ink.shape, int)
    for seed in zip(*np.nonzero(is_ink), strict=True):
        if labels[seed]:
            continue
        label, waiting = labels.max() + 1, [seed]
        while waiting:
            y, x = waiting.pop()
            inside = 0 <= y < is_ink.shape[0] and 0 <= x < is_ink.shape[1]
            if not inside or labels[y, x] or not is_ink[y, x]:
                continue
            labels[y, x] = label
            waiting += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return labels


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_parts_are_those_that_flooding_finds(height: int, width: int, share: float, seed: int):
    is_ink = np.random.default_rng(seed).random((height, width)) < share
    parts, expected = find_parts(is_ink), flooded(is_ink)
    np.testing.assert_array_equal(parts.labels, expected)
    assert len(parts.areas) == expected.max()
    for number in range(1, expected.max() + 1):
        ys, xs = np.nonzero(expected == number)
        box = [parts.tops, parts.bottoms, parts.lefts, parts.rights]
        assert [side[number - 1] for side in box] == [
            ys.min(),
            ys.max() + 1,
            xs.min(),
            xs.max() + 1,
        ]
        assert parts.areas[number - 1] == len(ys)


def character() -> np.ndarray:
    """A cross that nearly fills the frame."""
    soft = np.zeros((192, 150), np.uint8)
    soft[20:170, 60:85] = 255
    soft[80:100, 15:135] = 255
    return soft


def test_the_end_of_a_neighbours_stroke_is_removed_with_its_rim():
    clean, soiled = character(), character()
    soiled[:14, 100:120] = 90  # the grey rim of
    soiled[:12, 102:118] = 255
    np.testing.assert_array_equal(without_strays(soiled), clean)


@pytest.mark.parametrize(
    "part",
    [
        np.s_[0:12, 0:100],  # as much as a stroke
        np.s_[0:60, 120:126],  # reaches far into the frame
        np.s_[30:40, 110:120],  # touches no border
    ],
)
def test_what_may_belong_to_the_character_stays(part: tuple[slice, slice]):
    soft = character()
    soft[part] = 255
    np.testing.assert_array_equal(without_strays(soft), soft)


def test_a_stroke_of_the_character_that_touches_the_border_stays():
    soft = character()
    soft[170:, 60:85] = 255
    np.testing.assert_array_equal(without_strays(soft), soft)


def test_two_characters_one_under_the_other_are_several():
    two = np.concatenate([character()[20:170], np.zeros((20, 150), np.uint8), character()[20:170]])
    assert holds_several(two) and holds_several(two.T)


def test_one_character_is_not_several():
    three = np.zeros((190, 150), np.uint8)  # 三: gaps, but no taller than wide
    for top in (10, 80, 160):
        three[top : top + 20, 10:140] = 255
    dotted = np.zeros((192, 40), np.uint8)  # a long stroke over a dot
    dotted[:150, 5:35] = 255
    dotted[170:, 5:35] = 255
    for soft in (character(), three, dotted, np.zeros((192, 96), np.uint8)):
        assert not holds_several(soft)


@pytest.mark.parametrize("num_turns", range(4))
def test_half_a_character_touches_the_side_where_it_was_cut_and_no_other(num_turns: int):
    half, tight = character()[:90], character()[20:170, 15:135]
    assert meets_one_side_alone(np.rot90(half, num_turns).copy())
    assert not meets_one_side_alone(np.rot90(character(), num_turns).copy())
    assert not meets_one_side_alone(np.rot90(tight, num_turns).copy())
