"""The sheet shows what each step made of each picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from kkanji_jax.answers.steps_sheet import CELL_PX, FOOT_PX, GAP_PX, HEAD_PX, MAX_ROWS, StepsSheet
from kkanji_jax.glyphs.glyph_image import glyph_steps
from kkanji_jax.inputs.image_input import ImageInput


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top = HEAD_PX + row * (CELL_PX + FOOT_PX + GAP_PX)
    left = GAP_PX + column * (CELL_PX + GAP_PX)
    return sheet[top : top + CELL_PX, left : left + CELL_PX]


def test_each_step_of_each_picture_is_drawn_up_to_a_limit(tmp_path: Path):
    paper = np.full((128, 128), 220, np.uint8)
    paper[20:110, 50:70] = 40
    paper[0:6, 100:110] = 40  # a neighbour's stroke
    glyph = np.zeros((64, 64), np.uint8)
    glyph[10:50, 30:36] = 255
    sheet = StepsSheet(tmp_path / "steps.png")
    sheet.add_steps(ImageInput("春.png", box=(1, 2, 3, 4)), glyph_steps(paper))
    for _ in range(MAX_ROWS + 3):
        sheet.add_steps(ImageInput("glyph.png"), glyph_steps(glyph))
    sheet.save()
    drawn = np.asarray(Image.open(tmp_path / "steps.png").convert("L"))
    assert len(drawn) == HEAD_PX + MAX_ROWS * (CELL_PX + FOOT_PX + GAP_PX)
    np.testing.assert_array_equal(cell(drawn, 0, 0), paper)
    stroke = np.s_[0:6, 100:110]
    assert cell(drawn, 0, 2)[stroke].min() > 200 and cell(drawn, 0, 3)[stroke].max() == 0
    assert cell(drawn, 0, 4).max() == 255
    # A published glyph needs no step: paper between the first column and the last.
    assert cell(drawn, 1, 1).min() == 255 and cell(drawn, 1, 3).min() == 255
    assert not (tmp_path / "steps.png.unfinished").exists()
