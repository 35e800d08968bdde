"""Folders to the bottom, in order, and nothing that is no image."""

import io
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.glyphs.image_files import load_image
from kkanji_jax.inputs.box_crops import crops_of
from kkanji_jax.inputs.finding import find_images
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages.box import Box


def test_links_that_run_in_a_circle_and_unreadable_folders_end(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/back").symlink_to(tmp_path, target_is_directory=True)
    for name in ("b.PNG", "a/c.jpg", "a/d.tiff", ".hidden.png", "e.md"):
        (tmp_path / name).touch()
    (tmp_path / "f.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "g.png").symlink_to(tmp_path / "b.PNG")
    passed_over: Counter[str] = Counter()
    found = list(find_images([str(tmp_path)], passed_over))
    named = {os.path.relpath(f.path, tmp_path): f.error for f in found}
    assert list(named) == ["a/c.jpg", "a/d.tiff", "b.PNG", "f.png", "g.png"]
    assert {name for name, error in named.items() if error} == {"f.png"}
    assert named["f.png"] == "a link to nothing"
    assert passed_over == {"links to folders": 1, ".md": 1}


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".jfif", "JPEG"),
        (".jpe", "JPEG"),
        (".mpo", "MPO"),
        (".pnm", "PPM"),
        (".j2k", "JPEG2000"),
        (".JFIF", "JPEG"),
    ],
)
def test_rarer_suffixes_are_read_in_folders(suffix: str, kind: str, tmp_path: Path):
    image = Image.new("L", (20, 30), 200)
    image.putpixel((3, 3), 0)
    more = {"save_all": True, "append_images": [image]} if kind == "MPO" else {}
    image.save(tmp_path / f"a{suffix}", format=kind, **more)
    (found,) = find_images([str(tmp_path)])
    assert load_image(found.source()).shape == (30, 20)


def test_paths_stay_in_the_order_in_which_they_are_named(tmp_path: Path):
    names = [str(tmp_path / name) for name in ("10.png", "9.png", "1.png", "9.png")]
    for name in names:
        Path(name).touch()
    assert [found.path for found in find_images(names)] == names


def test_what_a_folder_without_images_holds_is_counted(tmp_path: Path):
    for name in ("a.txt", "b.txt", "c.docx", "d"):
        (tmp_path / name).touch()
    (found,) = find_images([str(tmp_path)])
    assert found.error == "no images in this folder (but 2 .txt, 1 .docx, 1 without a suffix)"
    (tmp_path / "inner").mkdir()
    _, inner = find_images([str(tmp_path), str(tmp_path / "inner")])
    assert inner.error == "no images in this folder"


# --- HEIC and PDF -------------------------------------------------------------------------------


def drawn(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), (240, 235, 220))
    image.paste((20, 20, 30), (width // 4, height // 8, width // 2, height // 2))
    return image


def test_heic_photographs_are_read(tmp_path: Path):
    pillow_heif = pytest.importorskip("pillow_heif")
    expected = drawn(120, 160)
    pillow_heif.from_pillow(expected).save(tmp_path / "a.HEIC", quality=100)
    (tmp_path / "b.heic").write_bytes(b"no image")
    good, bad = find_images([str(tmp_path)])
    grey = load_image(good.source()).astype(int)
    assert grey.shape == (160, 120)
    assert np.abs(grey - np.asarray(expected.convert("L"))).mean() < 3
    with pytest.raises(ValueError, match=r"cannot read .*b\.heic"):
        bad.source()


def test_a_pdf_is_its_pages_in_order_at_300_dpi(tmp_path: Path):
    pytest.importorskip("pypdfium2")
    first, second = drawn(300, 600), drawn(450, 150)
    path = tmp_path / "本.pdf"
    first.save(path, save_all=True, append_images=[second], resolution=300)
    found = list(find_images([str(tmp_path)]))
    assert [os.path.basename(f.path) for f in found] == ["本.pdf#1", "本.pdf#2"]
    for one, expected in zip(found, (first, second), strict=True):
        grey = load_image(one.source()).astype(int)
        assert grey.shape == (expected.height, expected.width)
        assert np.abs(grey - np.asarray(expected.convert("L"))).mean() < 4
    (named,) = find_images([f"{path}#2"])
    assert named.path == f"{path}#2" and load_image(named.source()).shape == (150, 450)
    (gone,) = find_images([f"{path}#3"])
    assert "has 2 pages, expected page 3" in gone.error
    boxes = [Box(75, 10, 30, 30, "on 1", "本.pdf#1"), Box(0, 0, 9, 9, "on 2", "本#2")]
    crops = list(crops_of(find_images([str(path)]), boxes))
    assert [(os.path.basename(c.path), c.id, c.error) for c in crops] == [
        ("本.pdf#1", "on 1", ""),
        ("本.pdf#2", "on 2", ""),
    ]


def test_a_pdf_that_is_damaged_is_named(tmp_path: Path):
    pytest.importorskip("pypdfium2")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    (found,) = find_images([str(tmp_path / "a.pdf")])
    assert "cannot read" in found.error and "a.pdf" in found.error


@pytest.mark.parametrize(
    ("name", "package", "extra"), [("a.heic", "pillow_heif", "heif"), ("a.pdf", "pypdfium2", "pdf")]
)
def test_a_missing_package_is_named_with_its_extra(
    name: str, package: str, extra: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).touch()
    (found,) = find_images([str(tmp_path)])
    with pytest.raises(ValueError) as told:
        raise ValueError(found.error) if found.error else found.source()
    assert f'pip install "kkanji_jax[{extra}]"' in str(told.value) and name in str(told.value)


def test_a_file_named_directly_is_tried_whatever_its_suffix(tmp_path: Path):
    (tmp_path / "scan").touch()
    assert list(find_images([str(tmp_path / "scan")])) == [ImageInput(str(tmp_path / "scan"))]


def test_standard_input_is_one_image(monkeypatch, tmp_path: Path, rng: np.random.Generator):
    Image.fromarray(rng.integers(0, 256, (40, 30), np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    (found,) = find_images(["-"])
    assert found.path == "-" and not found.error
    np.testing.assert_array_equal(glyph_image(found.image), glyph_image(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("content", "expected"), [(b"", "nothing came"), (b"x" * 300, "more than 256 bytes")]
)
def test_standard_input_that_is_empty_or_endless_is_named(
    content: bytes, expected: str, monkeypatch
):
    monkeypatch.setattr("kkanji_jax.inputs.finding.MAX_INPUT_BYTES", 256)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    (found,) = find_images(["-"])
    assert expected in found.error


def test_text_on_standard_input_is_no_image(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"spring")))
    (found,) = find_images(["-"])
    with pytest.raises(ValueError, match="cannot read standard input"):
        glyph_image(found.image)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged files
@pytest.mark.parametrize("form", ["PNG", "TIFF", "GIF", "AVIF"])
def test_whatever_is_wrong_with_a_file_is_a_value_error(form: str):
    drawn = Image.new("L", (60, 70), 220)
    drawn.paste(30, (10, 20, 50, 28))
    stream = io.BytesIO()
    drawn.save(stream, form)
    refused = 0
    for seed in range(60):
        rng, content = np.random.default_rng(seed), bytearray(stream.getvalue())
        if seed % 2:
            content = content[: int(rng.integers(1, len(content)))]
        else:
            for place in rng.integers(0, min(len(content), 400), 6).tolist():
                content[place] = int(rng.integers(256))
        try:
            load_image(io.BytesIO(bytes(content)))
        except (ValueError, OSError):
            refused += 1
    assert refused > 10
