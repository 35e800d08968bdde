"""Folders to the bottom, in order, and nothing that is no image."""

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.inference.inputs import Found, find_images


def test_links_that_run_in_a_circle_and_unreadable_folders_end(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/back").symlink_to(tmp_path, target_is_directory=True)
    for name in ("b.PNG", "a/c.jpg", "a/d.tiff", ".hidden.png", "e.md"):
        (tmp_path / name).touch()
    (tmp_path / "f.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "g.png").symlink_to(tmp_path / "b.PNG")
    found = [os.path.relpath(f.path, tmp_path) for f in find_images([str(tmp_path)])]
    assert found == ["a/c.jpg", "a/d.tiff", "b.PNG", "g.png"]


def test_a_file_named_directly_is_tried_whatever_its_suffix(tmp_path: Path):
    (tmp_path / "scan").touch()
    assert list(find_images([str(tmp_path / "scan")])) == [Found(str(tmp_path / "scan"))]


def test_standard_input_is_one_image(monkeypatch, tmp_path: Path, rng: np.random.Generator):
    Image.fromarray(rng.integers(0, 256, (40, 30), np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    (found,) = find_images(["-"])
    assert found.path == "-" and not found.error
    np.testing.assert_array_equal(glyph_image(found.image), glyph_image(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("content", "wanted"), [(b"", "nothing came"), (b"x" * 300, "more than 256 bytes")]
)
def test_standard_input_that_is_empty_or_endless_is_named(content: bytes, wanted: str, monkeypatch):
    monkeypatch.setattr("kkanji_jax.inference.inputs.MAX_INPUT_BYTES", 256)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    (found,) = find_images(["-"])
    assert wanted in found.error


def test_text_on_standard_input_is_no_image(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"spring")))
    (found,) = find_images(["-"])
    with pytest.raises(ValueError, match="cannot read standard input"):
        glyph_image(found.image)
