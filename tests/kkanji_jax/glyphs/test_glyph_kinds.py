"""What real images have beside a character is not read with it; what cannot be read is said."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from kkanji_jax.glyphs.glyph_image import (
    BAND,
    CUT_OFF,
    FEW_PIXELS,
    RED_INK,
    SEVERAL,
    glyph_image,
    glyph_steps,
)
from kkanji_jax.glyphs.image_files import grey_of, load_picture
from kkanji_jax.glyphs.ink_lines import foreign_edges, ruled_lines
from kkanji_jax.glyphs.paper_and_ink import BLANK, UNCLEAR

PAPER, INK, VERMILION = (226, 208, 172), (52, 44, 40), (205, 62, 44)


def written(width: int = 130, height: int = 150, seed: int = 0) -> Image.Image:
    """Strokes of uneven width on grainy paper, with room round them."""
    strokes = Image.new("L", (width * 4, height * 4), 0)
    pen = ImageDraw.Draw(strokes)
    for points, broad in (
        (((0.2, 0.24), (0.5, 0.2), (0.8, 0.26)), 0.07),
        (((0.52, 0.12), (0.46, 0.5), (0.24, 0.86)), 0.08),
        (((0.5, 0.45), (0.66, 0.72), (0.82, 0.84)), 0.06),
    ):
        line = [(x * width * 4, y * height * 4) for x, y in points]
        pen.line(line, 255, round(broad * width * 4), "curve")
    share = np.asarray(strokes.resize((width, height)), float)[..., None] / 255
    pixels = np.array(PAPER) * (1 - share) + np.array(INK) * share
    pixels += np.random.default_rng(seed).normal(0, 3, (height, width, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def likeness(image: Image.Image | np.ndarray) -> float:
    """Intersection over union of the glyph's ink and the clean picture's."""
    one, other = (glyph_image(source) >= 128 for source in (image, written()))
    return float((one & other).sum() / (one | other).sum())


def ruled(*lines: tuple[tuple[int, int, int, int], int]) -> Image.Image:
    wide = ImageOps.expand(written(), 16, PAPER)
    for line, broad in lines:
        ImageDraw.Draw(wide).line(line, INK, broad)
    return wide


def sealed(tone: tuple[int, int, int] = VERMILION) -> Image.Image:
    """A transparent red ring and bar over the character."""
    mask = Image.new("L", (130, 150), 0)
    ImageDraw.Draw(mask).ellipse((15, 25, 115, 125), outline=255, width=8)
    ImageDraw.Draw(mask).line((20, 75, 110, 75), 255, 8)
    share = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.6)), float)[..., None] / 255
    pixels = np.asarray(written(), float) * (1 - share + share * np.array(tone) / 255)
    return Image.fromarray(pixels.astype(np.uint8))


def shaded(light: np.ndarray) -> Image.Image:
    return Image.fromarray((np.asarray(written(), float) * light).astype(np.uint8))


def in_frame(side: int, share: float, ink: int = 255) -> Image.Image:
    """White on black, as large as `share` of a black square."""
    grey = np.asarray(written().convert("L"), float)
    white = Image.fromarray(np.clip((190 - grey) * 2.2, 0, ink).astype(np.uint8))
    longest = round(side * share)
    white.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    sheet = Image.new("L", (side, side), 0)
    sheet.paste(white, ((side - white.width) // 2, (side - white.height) // 2))
    return sheet


HALF_DARK = np.where(np.arange(130) < 60, 0.55, 1.0)[None, :, None]
PICTURES = {
    "outline": ImageOps.expand(written(), 1, (90, 80, 70)),
    "white mat": ImageOps.expand(written(), 20, (255, 255, 255)),
    "black mat": ImageOps.expand(written(), 20, (0, 0, 0)),
    "letterbox": ImageOps.expand(written(), (0, 30), (0, 0, 0)),
    "strip": ImageOps.expand(written(), (6, 0, 0, 0), (18, 16, 15)),
    "rules at both sides": ruled(((6, 0, 7, 182), 3), ((154, 0, 153, 182), 2)),
    "cell": ruled(
        ((6, 0, 7, 182), 2), ((154, 0, 153, 182), 2), ((0, 7, 162, 7), 2), ((0, 174, 162, 174), 2)
    ),
    "cell whose left rule is the picture's side": ruled(
        ((0, 0, 2, 182), 4), ((154, 0, 153, 182), 2), ((0, 3, 162, 3), 3), ((0, 174, 162, 174), 2)
    ),
    "seal": sealed(),
    "shadow": shaded(HALF_DARK),
    "gradient": shaded(np.linspace(1, 0.35, 150)[:, None, None]),
    "dither": written().convert("1"),
    "half the frame of 64 px": in_frame(64, 0.5),
    "half a frame of 56 px": in_frame(56, 0.5),
    "grey ink on 64 px": in_frame(64, 0.95, 120),
    "10 bits": np.asarray(written().convert("L")).astype(np.uint16) * 4,
    "12 bits": np.asarray(written().convert("L")).astype(np.uint16) * 16,
    "uint16 of 8 bits": np.asarray(written().convert("L")).astype(np.uint16),
    "I of 8 bits": Image.fromarray(np.asarray(written().convert("L")).astype(np.int32)),
    "off-white on nothing": Image.merge(
        "LA", (Image.new("L", (150, 150), 240), in_frame(150, 0.9))
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_beside_the_character_is_not_read_with_it(name: str):
    assert likeness(PICTURES[name]) > 0.65, name


@pytest.mark.parametrize("angle", [-6, -3, 3, 6])
@pytest.mark.parametrize("tone", [(0, 0, 0), (255, 255, 255)])
def test_the_corners_of_a_turned_scan_are_no_ink(angle: int, tone: tuple[int, int, int]):
    turned = written().rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=tone)
    # Turned, the strokes lie otherwise: compared with those turned on paper that goes on.
    paper = written().rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=PAPER)
    one, other = glyph_image(turned) >= 128, glyph_image(paper) >= 128
    assert (one & other).sum() / (one | other).sum() > 0.8


def test_a_picture_of_one_paper_has_no_foreign_edge_and_no_rule():
    grey = np.asarray(written().resize((166, 192)).convert("L"))
    assert foreign_edges(grey) is None
    assert ruled_lines(grey < 120) is None


def test_reading_aids_and_a_cut_neighbour_are_left_out():
    aids = Image.new("RGB", (190, 150), PAPER)
    aids.paste(written(), (0, 0))
    for top in (10, 80):
        aids.paste(written().resize((42, 50)), (146, top))
    assert likeness(aids) > 0.8
    neighbour = Image.new("RGB", (130, 200), PAPER)
    neighbour.paste(written(), (0, 0))
    neighbour.paste(written().crop((0, 12, 130, 45)), (0, 167))
    assert likeness(neighbour) > 0.8


def test_grey_and_sepia_pictures_are_their_luminance_and_red_alone_is_lightened():
    sepia = np.asarray(written())
    np.testing.assert_array_equal(grey_of(sepia), np.asarray(written().convert("L")))
    red = np.asarray(sealed())
    luma = np.asarray(sealed().convert("L"))
    is_seal = (sepia[..., 0] > 150) & (red[..., 1] < 100)
    assert is_seal.sum() > 500
    assert luma[is_seal].mean() < 120 and grey_of(red)[is_seal].mean() > 185


@pytest.mark.parametrize(
    "picture, trouble",
    [
        (Image.new("L", (80, 90), 140), BLANK),
        (ImageOps.expand(Image.new("RGB", (80, 90), PAPER), 12, (0, 0, 0)), BLANK),
    ],
)
def test_a_picture_without_strokes_says_so(picture: Image.Image, trouble: str):
    steps = glyph_steps(load_picture(picture))
    assert steps.trouble == trouble and not steps.glyph.any()


def test_soft_noise_that_is_neither_ink_nor_paper_is_unclear():
    noise = np.random.default_rng(0).normal(128, 60, (600, 600))
    steps = glyph_steps(np.clip(noise, 0, 255).astype(np.uint8))
    assert steps.trouble in (UNCLEAR, BLANK) and not steps.glyph.any()


def test_remarks_tell_what_may_mislead():
    one = written()
    two = Image.new("RGB", (130, 320), PAPER)
    two.paste(one, (0, 0))
    two.paste(one, (0, 165))
    banded = one.copy()
    ImageDraw.Draw(banded).rectangle((0, 0, 40, 150), (12, 12, 12))
    seal = Image.new("RGB", (100, 100), PAPER)
    ImageDraw.Draw(seal).ellipse((20, 20, 80, 80), outline=VERMILION, width=6)
    small = one.copy()
    small.thumbnail((14, 14), Image.Resampling.LANCZOS)
    for picture, remark in (
        (two, SEVERAL),
        (one.crop((0, 0, 130, 75)), CUT_OFF),
        (banded, BAND),
        (seal, RED_INK),
        (small, FEW_PIXELS),
    ):
        steps = glyph_steps(load_picture(picture))
        assert remark in steps.remarks and not steps.trouble, remark
    assert glyph_steps(load_picture(one)).remarks == ()


@pytest.mark.parametrize(
    "box, is_banded",
    [
        ((0, 10, 130, 55), True),  # across, near a side
        ((0, 60, 130, 100), True),  # across the middle
        ((40, 0, 90, 150), True),
        ((10, 60, 120, 72), False),  # a stroke
        ((20, 60, 110, 100), False),  # not across
    ],
)
@pytest.mark.parametrize("tone, rim_px", [((14, 12, 10), 0), ((40, 40, 40), 3)])
def test_a_band_broader_than_strokes_across_the_picture_is_remarked(
    box, is_banded: bool, tone, rim_px: int
):
    picture = written()
    pen = ImageDraw.Draw(picture)
    if rim_px:
        pen.rectangle((box[0], box[1] - rim_px, box[2], box[3] + rim_px), (120, 110, 90))
    pen.rectangle(box, tone)
    assert (BAND in glyph_steps(load_picture(picture)).remarks) == is_banded


def test_a_letterbox_and_a_black_mat_are_no_bands():
    for border in ((0, 40), (40, 0), (30, 30)):
        steps = glyph_steps(load_picture(ImageOps.expand(written(), border, (0, 0, 0))))
        assert not steps.trouble and BAND not in steps.remarks, border


@pytest.mark.parametrize("side", range(8, 17))
def test_a_small_file_with_ink_is_never_blank(side: int):
    for size in ((side, side), (side // 2, side), (side, side // 2)):
        steps = glyph_steps(load_picture(written().resize(size, Image.Resampling.LANCZOS)))
        assert (steps.trouble, steps.remarks[0]) == ("", FEW_PIXELS)
