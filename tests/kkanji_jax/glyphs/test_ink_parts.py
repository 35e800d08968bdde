"""Parts of the ink: what belongs to the character, and what its neighbours left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.glyphs.ink_parts import (
    find_parts,
    holds_several,
    is_cut_by_side,
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
def test_half_a_character_is_cut_by_the_side_and_a_whole_one_is_not(num_turns: int):
    half = character()[:90]
    assert is_cut_by_side(np.rot90(half, num_turns).copy())
    assert not is_cut_by_side(np.rot90(character(), num_turns).copy())


def reaching_the_side(end_px: int, cross_px: int = 110) -> np.ndarray:
    """A cross whose upright stroke, 24 px broad, narrows within 12 px to `end_px` at the side."""
    soft = np.zeros((130, 130), np.uint8)
    soft[50:70, 65 - cross_px // 2 : 65 + cross_px // 2] = 255
    for row in range(20, 130):
        breadth = end_px + min(24 - end_px, 2 * (129 - row))
        soft[row, 65 - breadth // 2 : 65 + breadth // 2] = 255
    return soft


@pytest.mark.parametrize("num_turns", range(4))
@pytest.mark.parametrize("end_px, is_cut", [(24, True), (22, True), (12, False), (4, False)])
def test_a_stroke_that_narrows_towards_the_side_is_not_cut(
    num_turns: int, end_px: int, is_cut: bool
):
    soft = np.rot90(reaching_the_side(end_px), num_turns).copy()
    assert is_cut_by_side(soft) == is_cut


def test_ink_that_meets_one_side_alone_is_cut_if_it_is_long():
    long = reaching_the_side(12, cross_px=50)  # 110 px long, 50 px broad
    assert is_cut_by_side(long)
    assert not is_cut_by_side(np.pad(long, ((0, 1), (0, 0))))  # meets no side
    assert not is_cut_by_side(long[19:])  # all but meets the opposite side as well
    assert not is_cut_by_side(reaching_the_side(12, cross_px=70))  # is not long
