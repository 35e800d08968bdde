"""A page is told from one character, however large that is."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from kkanji_jax.answers.rows import RowOptions, predict_rows
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.inputs.page_check import PAGE, looks_like_page


@pytest.fixture
def page(rng: np.random.Generator) -> Image.Image:
    """Twelve columns of twenty characters of a few strokes each, on paper of uneven grey."""
    paper = rng.normal(0, 6, (1600, 1200)) + np.linspace(180, 230, 1200)[None]
    image = Image.fromarray(np.clip(paper, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for left in range(60, 1140, 90):
        for top in range(60, 1540, 74):
            for stroke in rng.integers(0, 50, (4, 4)):
                x1, y1, x2, y2 = map(int, stroke)
                draw.line((left + x1, top + y1, left + x2, top + y2), fill=40, width=6)
    return image


def one_character(rng: np.random.Generator) -> Image.Image:
    paper = np.clip(rng.normal(215, 12, (1600, 1200)), 0, 255).astype(np.uint8)
    image = Image.fromarray(paper)
    draw = ImageDraw.Draw(image)
    for top in range(200, 1400, 120):
        draw.line((200, top, 1000, top + 60), fill=40, width=40)
    draw.line((600, 100, 560, 1500), fill=40, width=50)
    return image


def test_a_page_is_told_upright_turned_negative_and_in_colour(page: Image.Image):
    assert looks_like_page(np.asarray(page))
    assert looks_like_page(np.asarray(page.rotate(4, fillcolor=200)))
    assert looks_like_page(np.asarray(page.rotate(90, expand=True)))
    assert looks_like_page(np.asarray(ImageOps.invert(page)))
    assert looks_like_page(np.asarray(page.convert("RGB")))


def test_one_character_is_none_and_neither_is_noise_or_paper(rng: np.random.Generator):
    assert not looks_like_page(np.asarray(one_character(rng)))
    assert not looks_like_page(np.asarray(ImageOps.invert(one_character(rng))))
    for spread in (0, 10, 60):
        noise = np.clip(rng.normal(200, spread, (1500, 1500)), 0, 255).astype(np.uint8)
        assert not looks_like_page(noise)


def test_a_small_picture_is_none(page: Image.Image):
    assert not looks_like_page(np.asarray(page.resize((300, 400))))


class Never:
    """Stands in for a network that is not to be asked."""

    def outputs(self, glyphs: np.ndarray) -> None:
        raise AssertionError(f"{len(glyphs)} glyphs were read")


def test_a_page_without_boxes_is_a_row_that_says_so(page: Image.Image):
    (row,) = predict_rows(Never(), [ImageInput("p.png", image=page)], RowOptions())  # pyright: ignore
    assert row.error == PAGE and row.rank is None and row.character is None
