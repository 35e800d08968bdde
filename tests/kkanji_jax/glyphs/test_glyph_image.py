"""Any image becomes the glyph that the network knows, and a glyph that is one stays as it is."""

import io
import os
import tarfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

import kkanji_jax
from kkanji_jax.glyphs.glyph_image import (
    glyph_image,
    is_blank,
    normalise_glyph,
)
from kkanji_jax.glyphs.image_files import MAX_PIXELS, load_image, open_image
from kkanji_jax.glyphs.published_form import is_published_form

INK, PAPER = (52, 44, 40), (226, 208, 172)


def brushed(px: int = 200, ink: int = 255, paper: int = 0) -> Image.Image:
    """Strokes of uneven width that reach near the edges, antialiased."""
    sheet = Image.new("L", (px * 2, px * 2), paper)
    pen = ImageDraw.Draw(sheet)
    for points, width in (
        (((0.1, 0.2), (0.5, 0.15), (0.9, 0.22)), 0.09),
        (((0.5, 0.03), (0.45, 0.5), (0.2, 0.95)), 0.1),
        (((0.5, 0.45), (0.7, 0.8), (0.93, 0.9)), 0.07),
    ):
        pen.line([(x * px * 2, y * px * 2) for x, y in points], ink, round(width * px * 2), "curve")
    return sheet.resize((px, px), Image.Resampling.LANCZOS)


def photographed(px: int = 200, seed: int = 0, shadow: float = 0.0) -> Image.Image:
    """The same strokes in ink on coloured paper with grain, a shadow, and a JPEG's losses."""
    share = np.asarray(brushed(px), float)[..., None] / 255
    colours = np.array(PAPER) * (1 - share) + np.array(INK) * share
    light = 1 - shadow * np.linspace(0, 1, px)[None, :, None]
    grain = np.random.default_rng(seed).normal(0, 5, (px, px, 1))
    image = Image.fromarray(np.clip(colours * light + grain, 0, 255).astype(np.uint8))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return Image.open(stream)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of the ink of two glyphs."""
    a, b = first >= 128, second >= 128
    return float((a & b).sum() / (a | b).sum())


def bundled_glyphs() -> list[np.ndarray]:
    archive = Path(kkanji_jax.__file__).parent / "demo" / "kkanji.tar"
    with tarfile.open(archive) as tar:
        members = [m for m in tar if m.isfile() and m.name.endswith(".png")][::20]
        files = [tar.extractfile(member) for member in members]
        return [np.asarray(Image.open(io.BytesIO(file.read()))) for file in files if file]


# --- what is a glyph already --------------------------------------------------------


def test_the_bundled_images_pass_through_unchanged():
    glyphs = bundled_glyphs()
    assert len(glyphs) > 50
    for glyph in glyphs:
        np.testing.assert_array_equal(glyph_image(glyph), glyph)


def test_codhs_images_pass_through_unchanged(real_source: Path):
    files = sorted((real_source / "kkanji2").rglob("*.png"))[::60]
    refused = [f for f in files if not is_published_form(load_image(f))]
    # One image in 127,000 has ink along most of its border.
    assert len(refused) <= 1 and len(files) > 1000
    for file in files:
        if file not in refused:
            np.testing.assert_array_equal(glyph_image(file), np.asarray(Image.open(file)))


def test_an_all_black_published_image_passes_through_and_is_blank():
    black = np.zeros((64, 64), np.uint8)
    np.testing.assert_array_equal(glyph_image(black), black)
    assert is_blank(black)


def test_a_28_px_image_is_enlarged_as_datasets_have_it():
    small = np.asarray(brushed(28))
    expected = Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(glyph_image(small), np.asarray(expected))


@pytest.mark.parametrize("px", [64, 28])
def test_the_negative_of_a_published_image_is_turned_and_otherwise_unchanged(px: int):
    white_on_black = np.asarray(brushed(px))
    assert is_published_form(white_on_black)
    assert not is_published_form(255 - white_on_black)
    np.testing.assert_array_equal(glyph_image(255 - white_on_black), glyph_image(white_on_black))


# --- photographs ---------------------------------------------------------------------


@pytest.mark.parametrize("shadow", [0.0, 0.3, 0.5])
def test_ink_on_coloured_paper_gives_the_strokes_whatever_the_light(shadow: float):
    clean = normalise_glyph(np.asarray(brushed(200)))
    glyph = glyph_image(photographed(shadow=shadow))
    assert overlap(glyph, clean) > 0.85
    assert np.median(glyph) <= 4 and glyph.max() == 255  # the grain of the paper, next to nothing


def test_turning_the_polarity_gives_the_same_glyph():
    dark = np.asarray(photographed().convert("L"))
    assert overlap(normalise_glyph(dark), normalise_glyph(255 - dark)) > 0.97


@given(st.integers(0, 40), st.integers(20, 215))
def test_contrast_and_brightness_do_not_matter(ink: int, contrast: int):
    faint = np.asarray(brushed(100, ink=ink, paper=ink + contrast))
    strong = np.asarray(brushed(100, ink=0, paper=255))
    assert overlap(normalise_glyph(faint), normalise_glyph(strong)) > 0.9


def test_a_loose_crop_gives_nearly_the_glyph_of_a_tight_one():
    loose = Image.new("RGB", (420, 360), PAPER)
    loose.paste(photographed(200), (90, 60))
    assert overlap(glyph_image(loose), glyph_image(photographed(200))) > 0.8


def test_a_narrow_crop_is_padded_and_never_squashed():
    narrow = np.full((160, 40), 230, np.uint8)
    narrow[10:150, 15:25] = 30
    glyph = glyph_image(narrow)
    rows, columns = (np.flatnonzero((glyph >= 128).any(axis=axis)) for axis in (1, 0))
    assert rows[-1] - rows[0] > 58 and columns[-1] - columns[0] < 8
    assert abs(columns.mean() - 31.5) < 1.5


def test_a_speck_of_dust_does_not_shrink_the_character():
    clean = brushed(200, ink=20, paper=230)
    dusty = Image.new("L", (300, 300), 230)
    dusty.paste(clean, (50, 50))
    dusty.paste(40, (4, 4, 7, 7))
    assert overlap(glyph_image(dusty), glyph_image(clean)) > 0.85


@pytest.mark.parametrize("size", [(64, 64), (200, 150), (31, 400), (1, 1), (3, 2000)])
def test_an_evenly_coloured_image_is_blank(size: tuple[int, int]):
    for colour in (0, 77, 255):
        assert is_blank(glyph_image(Image.new("L", size, colour)))


def test_paper_with_grain_and_shadow_but_no_ink_is_blank():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        paper = np.linspace(225, 150, 140)[None, :] + rng.normal(0, 6, (120, 140))
        assert is_blank(normalise_glyph(np.clip(paper, 0, 255).astype(np.uint8)))


def test_one_thin_stroke_is_not_blank():
    paper = np.full((100, 100), 220, np.uint8)
    paper[48:52, 10:90] = 60
    assert not is_blank(normalise_glyph(paper))


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(0, 2**32 - 1),
)
def test_any_pixels_of_any_size_give_a_64_px_glyph(height: int, width: int, seed: int):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    before = noise.copy()
    glyph = normalise_glyph(noise)
    assert glyph.shape == (64, 64) and glyph.dtype == np.uint8
    np.testing.assert_array_equal(noise, before)


# --- every kind of file ------------------------------------------------------------------


def test_every_mode_is_read_as_the_same_grey(tmp_path: Path):
    grey = np.asarray(brushed(90, ink=30, paper=230).filter(ImageFilter.GaussianBlur(1)))
    image = Image.fromarray(grey)
    alpha = Image.merge("LA", (Image.new("L", image.size, 0), Image.fromarray(255 - grey)))
    saved = {
        "grey.png": image,
        "rgb.png": image.convert("RGB"),
        "rgba.png": image.convert("RGBA"),
        "palette.png": image.convert("P"),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "cmyk.jpg": image.convert("CMYK"),
        "grey.tif": image,
        "grey.webp": image.convert("RGB"),
        "ink_on_nothing.png": alpha,
    }
    for name, content in saved.items():
        content.save(tmp_path / name, lossless=True)  # only WebP asks
        read = load_image(tmp_path / name).astype(int)
        tolerance = 24 if name.endswith("jpg") else 1  # a JPEG loses, the others round
        assert read.shape == grey.shape
        assert np.abs(read - grey.astype(int)).max() <= tolerance, name


def test_one_bit_images_are_0_and_255(tmp_path: Path):
    brushed(64).convert("1", dither=Image.Dither.NONE).save(tmp_path / "one.png")
    assert set(np.unique(load_image(tmp_path / "one.png"))) == {0, 255}


def test_white_ink_on_nothing_is_seen_too():
    white = Image.new("L", (80, 80), 255)
    image = Image.merge("LA", (white, brushed(80)))
    assert overlap(glyph_image(image), glyph_image(brushed(80))) > 0.95


def test_a_photograph_is_turned_upright(tmp_path: Path):
    image = brushed(100, ink=20, paper=230)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    read = load_image(tmp_path / "turned.jpg").astype(int)
    assert np.abs(read - np.asarray(image).astype(int)).mean() < 3


@pytest.mark.parametrize(
    "make",
    [
        lambda grey: grey,
        lambda grey: grey[..., None],
        lambda grey: np.repeat(grey[..., None], 3, axis=2),
        lambda grey: grey / 255.0,
        lambda grey: (grey / np.float32(255.0)).astype(np.float32),
        lambda grey: grey.astype(np.uint16) * 257,
        lambda grey: np.asfortranarray(grey),
    ],
)
def test_arrays_of_every_kind_are_read_as_the_same_grey(make):
    grey = np.asarray(brushed(50, ink=30, paper=230))
    assert np.abs(load_image(make(grey)).astype(int) - grey.astype(int)).max() <= 1


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 5), np.uint8),
        np.zeros((5, 5, 2), np.uint8),
        np.zeros((2, 5, 5, 3), np.uint8),
        np.zeros((5, 5), np.int64),
        np.full((5, 5), 200.0),
        np.full((5, 5), np.nan),
        np.zeros((1, MAX_PIXELS + 1), np.uint8),
    ],
)
def test_an_array_that_is_no_image_is_refused(array: np.ndarray):
    with pytest.raises(ValueError, match="expected"):
        load_image(array)


def _file_of(form: str) -> bytes:
    stream = io.BytesIO()
    brushed(100).save(stream, form)
    return stream.getvalue()


def damaged_files() -> dict[str, bytes]:
    stream = io.BytesIO()
    brushed(100).save(stream, "PNG")
    png = stream.getvalue()
    stream = io.BytesIO()
    Image.new("L", (4200, 4200)).save(stream, "PNG")
    too_large = stream.getvalue()
    stream = io.BytesIO()
    brushed(40).save(stream, "GIF", save_all=True, append_images=[Image.new("L", (40, 40))])
    animated = stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(np.ones((8, 8), np.float32)).save(stream, "TIFF")
    floats = stream.getvalue()
    claims_30000 = png[:16] + (30000).to_bytes(4) * 2 + png[24:]
    return {
        "empty.png": b"",
        "page.png": b"<html>not found</html>",
        "cut.png": png[: len(png) // 2],
        "cut.jpg": _file_of("JPEG")[:200],
        "cut.webp": _file_of("WEBP")[:100],
        "flipped.png": png[:60] + bytes([png[60] ^ 255]) + png[61:],
        "large.png": too_large,
        "bomb.png": claims_30000,
        "animated.gif": animated,
        "floats.tif": floats,
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }


@pytest.mark.parametrize("name", list(damaged_files()))
def test_a_file_that_cannot_be_used_is_named_with_the_reason(name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(damaged_files()[name])
    with pytest.raises(ValueError, match=f"expected .*{name}") as told:
        load_image(path)
    if name == "empty.png" or name.startswith("cut"):
        assert f"{name} is damaged: " in str(told.value)


def test_a_file_is_opened_without_touching_the_filters_that_all_threads_share(tmp_path: Path):
    class Stream(io.BytesIO):
        def read(self, *args):
            seen.append(warnings.filters)
            return super().read(*args)

    stream, seen, filters = io.BytesIO(), [], warnings.filters
    brushed(100).save(stream, "PNG")
    with open_image(Stream(stream.getvalue()), "a stream"):
        assert seen and all(found is filters for found in seen)


def test_a_page_larger_than_pillow_thinks_safe_is_opened_without_a_warning():
    with open_image(io.BytesIO(b"P5 10000 9500 255\n"), "page.pgm", 100_000_000) as page:
        assert page.size == (10000, 9500)
    with pytest.raises(ValueError, match=r"at most 90000000 pixels, page.pgm has 10000 x 9500"):
        open_image(io.BytesIO(b"P5 10000 9500 255\n"), "page.pgm", 90_000_000)


def test_a_file_that_can_be_read_only_once_is_an_image_too(tmp_path: Path):
    pipe, stream = tmp_path / "pipe.png", io.BytesIO()
    brushed(100).save(stream, "PNG")
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(stream.getvalue(),))
    writer.start()
    np.testing.assert_array_equal(load_image(pipe), load_image(brushed(100)))
    writer.join()
