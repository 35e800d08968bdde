"""The scripts that make the pictures of the documentation, and the pictures as they are kept."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
DEMO, PICTURES = ROOT / "kkanji_jax" / "demo", ROOT / "docs" / "images"
MAX_PICTURE_BYTES = 250_000

pytestmark = pytest.mark.skipif(not PICTURES.is_dir(), reason="the documentation is not beside")


@pytest.fixture
def kuzushiji(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("demo/kuzushiji_pictures")


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_no_picture_is_large():
    large = [path.name for path in PICTURES.iterdir() if path.stat().st_size > MAX_PICTURE_BYTES]
    assert not large


def test_the_first_form_is_the_commonest_and_no_image_is_shown_twice(kuzushiji: ModuleType):
    common, other = np.zeros((2, 64, 64), np.uint8)
    common[:, :16], other[:, 40:] = 255, 255
    assert kuzushiji.unlike([other, common, common, common], 2) == [1, 0]


def test_of_two_characters_the_images_that_are_most_alike_are_found(kuzushiji: ModuleType):
    left, right, both = np.zeros((3, 64, 64), np.uint8)
    left[:, :20], right[:, 44:], both[:, 8:56] = 255, 255, 255
    assert kuzushiji.most_alike([both, left], [right, left]) == (1, 1)


def test_the_pictures_of_kuzushiji_are_those_of_the_demo_corpus(kuzushiji: ModuleType):
    images = kuzushiji.images_by_character(DEMO)
    for name, picture in (
        ("kuzushiji-forms.png", kuzushiji.forms(images)),
        ("kuzushiji-look-alikes.png", kuzushiji.look_alikes(images)),
    ):
        with Image.open(PICTURES / name) as kept:
            # Few colours are kept, and the printed forms depend on the version of FreeType.
            difference = np.asarray(kept.convert("L"), float) - np.asarray(picture, float)
        assert np.abs(difference).mean() < 3, name


def test_the_pictures_of_a_page_are_written(load_script, tmp_path: Path, monkeypatch):
    pictures = load_script("demo/page_pictures")
    monkeypatch.setattr("sys.argv", ["page_pictures.py", str(DEMO), str(tmp_path)])
    pictures.main()
    kept = ("network-input.png", "page-read.png", "page-steps.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == list(kept)
    for name in kept:
        assert size_of(tmp_path / name) == size_of(PICTURES / name)
