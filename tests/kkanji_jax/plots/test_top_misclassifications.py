"""The largest confusions, in an order that does not depend on the file's."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.plots.fonts import Font, find_font
from kkanji_jax.plots.style import house_style, save
from kkanji_jax.plots.top_misclassifications import Confusion, draw, most_frequent

MATRIX = [[0, 0, 90], [0, 1, 3], [0, 2, 5], [1, 1, 2], [1, 0, 3], [2, 2, 40], [2, 0, 1]]


def texts(figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def test_confusions_are_ordered_by_count_then_by_what_the_class_loses():
    expected = [
        Confusion(0, 2, 5, 98),
        Confusion(1, 0, 3, 5),  # three of five weigh more than three of 98
        Confusion(0, 1, 3, 98),
        Confusion(2, 0, 1, 41),
    ]
    for seed in range(5):
        shuffled = random.Random(seed).sample(MATRIX, len(MATRIX))
        assert most_frequent(shuffled) == expected
    assert most_frequent(MATRIX, most=1) == expected[:1]


def test_the_figure_names_both_characters_their_count_and_the_class():
    index = ClassIndex.from_codepoints(["U+3042", "U+6625", "U+1B002"])
    font = find_font()
    with house_style(font):
        drawn = texts(draw(MATRIX, index, font, "run x  ·  val: n = 144"))
    assert {"あ", "春", "U+3042", "U+6625", "5 of 98", "3 of 5"} <= set(drawn)
    assert "𛀂" not in drawn and "U+1B002" in drawn  # no font has it
    assert any("run x" in text and "12 errors in 144 examples" in text for text in drawn)


def test_without_a_japanese_font_code_points_stand_for_characters():
    index = ClassIndex.from_codepoints(["U+3042", "U+6625", "U+1B002"])
    font = Font(("DejaVu Sans",), frozenset())
    with house_style(font):
        drawn = texts(draw(MATRIX, index, font, ""))
    assert not {"あ", "春"} & set(drawn) and {"U+3042", "U+6625"} <= set(drawn)


def test_a_hundred_confusions_show_fifty_in_two_columns():
    index = ClassIndex.from_codepoints([f"U+{0x4E00 + i:04X}" for i in range(101)])
    matrix = [[i, i + 1, 1 + i % 7] for i in range(100)]
    font = find_font()
    with house_style(font):
        figure = draw(matrix, index, font, "")
    assert len(figure.axes) == 2
    assert sum(len(axes.patches) for axes in figure.axes) == 50


@pytest.mark.parametrize("num_confusions", [0, 1, 7, 25, 26, 60])
def test_no_text_is_cut_and_no_band_is_empty(num_confusions: int, tmp_path: Path):
    index = ClassIndex.from_codepoints([f"U+{0x4E00 + i:04X}" for i in range(101)])
    matrix = [[i, i, 5] for i in range(101)]
    matrix += [[i, i + 1, num_confusions - i] for i in range(num_confusions)]
    font = find_font()
    with house_style(font):
        figure = draw(matrix, index, font, "run with a long name  ·  val: n = 144, EMA weights")
        path = save(figure, tmp_path / "figure.png")
        figure.canvas.draw()  # at the resolution of `figure.bbox`
    canvas = figure.bbox
    for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]:
        if text.get_text():
            box = text.get_window_extent()
            assert box.x0 >= canvas.x0 and box.x1 <= canvas.x1, text.get_text()
            assert box.y0 >= canvas.y0 and box.y1 <= canvas.y1, text.get_text()
    rows = (np.asarray(Image.open(path).convert("L")) < 250).any(axis=1)
    gaps = np.diff(np.flatnonzero(np.concatenate([[True], rows, [True]])))
    assert gaps.max() < 0.5 * 160  # half an inch
