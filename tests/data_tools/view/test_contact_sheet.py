"""A sheet shows every pixel it was given, and never an empty box for a character."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_tools.view import contact_sheet
from data_tools.view.contact_sheet import draw_augmented_sheet, draw_sheet, drawable, find_font
from kkanji_jax.augment.policy import get_policy

MARGIN, GAP, LINE = contact_sheet.MARGIN_PX, contact_sheet.GAP_PX, contact_sheet.LINE_PX


def cell(sheet: Image.Image, row: int, column: int, image_px: int, scale: int, lines: int, head=0):
    """The pixels that the sheet shows for one image, back at their own size."""
    side = image_px * scale
    left = MARGIN + column * (side + 2 + GAP) + 1
    top = MARGIN + head + row * (side + 2 + lines * LINE + GAP) + 1
    shown = np.asarray(sheet.crop((left, top, left + side, top + side)))
    assert (shown[..., :1] == shown).all(), "images stay gray"
    assert (
        shown.reshape(image_px, scale, image_px, scale, 3)
        == shown[::scale, None, ::scale][:, :, :, None]
    ).all(), "a pixel is a square of one shade"
    return shown[::scale, ::scale, 0]


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_every_pixel_of_every_image_is_on_the_sheet(rng: np.random.Generator, scale: int):
    images = list(rng.integers(0, 256, (7, 16, 16), dtype=np.uint8))
    sheet = draw_sheet(images, [f"image {i}\nline two" for i in range(7)], 3, scale=scale)
    for position, image in enumerate(images):
        assert (cell(sheet, *divmod(position, 3), 16, scale, 2) == image).all()


def test_a_title_moves_the_images_down_and_few_images_make_a_narrow_sheet():
    image = np.full((16, 16), 200, np.uint8)
    plain, titled = draw_sheet([image], [""], 8), draw_sheet([image], [""], 8, "title")
    assert plain.size == (2 * MARGIN + 34, 2 * MARGIN + 34)
    head = titled.height - plain.height
    assert head > 0 and (cell(titled, 0, 0, 16, 2, 0, head) == image).all()


def test_images_of_two_sizes_share_a_sheet(rng: np.random.Generator):
    images = [rng.integers(0, 256, (px, px), dtype=np.uint8) for px in (16, 8)]
    sheet = draw_sheet(images, ["", ""], 2)
    assert (cell(sheet, 0, 0, 16, 2, 0) == images[0]).all()


def test_sheets_without_images_or_with_other_captions_are_refused():
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="not 0 and 0"):
        draw_sheet([], [], 3)
    with pytest.raises(ValueError, match="not 1 and 2"):
        draw_sheet([image], ["a", "b"], 3)
    with pytest.raises(ValueError, match="not 0 and 2"):
        draw_sheet([image], ["a"], 0)


def test_characters_without_a_glyph_appear_as_code_points():
    assert drawable("春 U+6625") == "春 U+6625"
    assert drawable("\U0001b002 U+1B002") == "U+1B002"
    assert drawable("a\U0001b002b") == "aU+1B002b"
    assert drawable("\ufa45 U+FA45") == "\ufa45 U+FA45", (
        "a compatibility ideograph is not normalised"
    )


def test_no_character_is_drawn_as_the_empty_box():
    font = find_font(32)

    def drawn(text: str) -> bytes:
        canvas = Image.new("L", (80, 60))
        ImageDraw.Draw(canvas).text((4, 4), text, 255, font)
        return canvas.tobytes()

    box = drawn("\U0001b002")
    assert all(drawn(character) != box for character in "春一御来龍あん𠮟")
    assert drawn(drawable("\U0001b002")) != box


def test_without_a_font_for_kanji_every_kanji_is_its_code_point(monkeypatch: pytest.MonkeyPatch):
    cached = (contact_sheet._coverage, contact_sheet.find_font)
    monkeypatch.setattr(contact_sheet, "_font_path", lambda: None)
    for function in cached:
        function.cache_clear()
    try:
        assert drawable("春 U+6625, 3") == "U+6625, 3"
        assert drawable("春") == "U+6625"
        assert draw_sheet([np.zeros((8, 8), np.uint8)], ["春"], 1, "春").width > 0
    finally:
        for function in cached:
            function.cache_clear()


def test_a_long_caption_stays_under_its_image():
    image = np.zeros((64, 64), np.uint8)
    sheet = draw_sheet([image, image], ["long " * 50, ""], 2)
    pixels = np.asarray(sheet)[MARGIN + 130 :, MARGIN + 130 + GAP :]
    assert (pixels == pixels[-1, -1]).all(), "the space under the second image is empty"


def test_an_augmented_sheet_begins_each_row_with_the_original(rng: np.random.Generator):
    images = list(rng.integers(0, 256, (2, 32, 32), dtype=np.uint8))
    sheet = draw_augmented_sheet(images, ["a", "b"], get_policy("glyph_safe"), 0)
    head = contact_sheet.TITLE_PX + 22
    for row in range(4):
        assert (cell(sheet, row, 0, 32, 2, 1, head) == images[row // 2]).all()
        assert (cell(sheet, row, 1, 32, 2, 1, head) != images[row // 2]).any()
    one, other = (cell(sheet, row, 1, 32, 2, 1, head) for row in (0, 1))
    assert (one != other).any(), "two engines, two draws"
