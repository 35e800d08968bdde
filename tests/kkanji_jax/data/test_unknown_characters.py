"""Images outside an index: all of them and none of those inside, from a folder or a DATASET."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.data import resident
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.unknown_characters import load_unknown

KNOWN = ClassIndex.from_codepoints(f"U+{ord(c):04X}" for c in "春夏秋冬")


def test_a_folder_gives_what_the_index_lacks(tiny_source: Path):
    outside = load_unknown(tiny_source / "kkanji2", KNOWN, 1000)
    assert outside.num_found == len(outside.images) == 48
    assert set(outside.codepoints) == {"U+5C71", "U+5DDD"}  # 山 and 川
    assert outside.images.shape == (48, 64, 64) and outside.images.dtype == np.uint8


def test_a_dataset_gives_the_same_images(tiny_source: Path, tiny_dataset: Path):
    of_folder = load_unknown(tiny_source / "kkanji2", KNOWN, 1000)
    of_dataset = load_unknown(tiny_dataset, KNOWN, 1000)
    assert {image.tobytes() for image in of_dataset.images} == {
        image.tobytes() for image in of_folder.images
    }
    assert len(set(of_dataset.sample_ids)) == 48  # of train, val and test alike


def test_a_dataset_larger_than_memory_is_read_too(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    few = load_unknown(tiny_dataset, KNOWN, 5)
    monkeypatch.setattr(resident, "free_bytes", lambda: 4096)
    again = load_unknown(tiny_dataset, KNOWN, 5)
    assert again.images.tobytes() == few.images.tobytes() and again.num_found == 48
    assert all(image.base is None or image.base.shape == (5, 64, 64) for image in again.images)


def test_an_index_of_another_dataset_is_refused(tiny_dataset: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(tiny_dataset, other)
    KNOWN.save(other / "index.json")
    with pytest.raises(ValueError, match="index.json is not the class index of manifest.json"):
        load_unknown(other, KNOWN, 5)


@pytest.mark.parametrize("suffix", ["gif", "jp2", "jfif"])
def test_every_format_that_predict_reads_is_found(tmp_path: Path, suffix: str):
    folder = tmp_path / "U+5C71"
    folder.mkdir()
    image = Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), 22))
    image.save(folder / f"a.{suffix}", format={"jfif": "JPEG", "jp2": "JPEG2000"}.get(suffix))
    assert load_unknown(tmp_path, KNOWN, 5).sample_ids == [f"U+5C71/a.{suffix}"]


def test_the_sample_is_fixed_and_grows_without_changing(tiny_source: Path):
    few = load_unknown(tiny_source / "kkanji2", KNOWN, 5)
    more = load_unknown(tiny_source / "kkanji2", KNOWN, 9)
    assert few.sample_ids == more.sample_ids[:5] and few.num_found == 48


def test_nothing_outside_is_one_clear_refusal(tiny_source: Path, tiny_dataset: Path, tmp_path):
    whole = ClassIndex.load(tiny_dataset / "index.json")
    for path in (tiny_source / "kkanji2", tiny_dataset):
        with pytest.raises(ValueError, match="no image of a character outside"):
            load_unknown(path, whole, 9)
    with pytest.raises(ValueError, match="no folder"):
        load_unknown(tmp_path / "none", whole, 9)
    (tmp_path / "licences").mkdir()
    with pytest.raises(ValueError, match="named by code point"):
        load_unknown(tmp_path, KNOWN, 9)


def test_an_unreadable_image_is_named(tmp_path: Path):
    (tmp_path / "U+5C71").mkdir()
    (tmp_path / "U+5C71" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png"):
        load_unknown(tmp_path, KNOWN, 9)
