"""Examples of a class are typical of it, unlike each other, and stand where the page looks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.resident import load_split
from kkanji_jax.web.lookalikes import (
    PER_CLASS,
    TILE_PX,
    typical_and_different,
    write_lookalikes,
)


def bars(places: list[int]) -> np.ndarray:
    images = np.zeros((len(places), 64, 64), np.uint8)
    for image, place in zip(images, places, strict=True):
        image[:, place : place + 8] = 255
    return images


def test_the_most_typical_comes_first_then_what_is_unlike_it():
    # Most stand in the middle, some to the left, and one, mislabelled, lies across.
    images = np.concatenate([bars([30] * 12 + [10] * 4), np.zeros((1, 64, 64), np.uint8)])
    images[-1, 30:38] = 255
    chosen = typical_and_different(images, 2)
    assert chosen[0] < 12 and 12 <= chosen[1] < 16


def test_a_class_of_few_images_gives_what_it_has():
    assert typical_and_different(bars([5]), 3) == [0]
    assert sorted(typical_and_different(bars([5, 40]), 3)) == [0, 1]


def test_each_tile_is_an_image_of_its_class(tiny_dataset: Path, tmp_path: Path):
    theirs = ClassIndex.load(tiny_dataset / "index.json")
    ours = ClassIndex.from_codepoints([*theirs.codepoints, "U+4E00"])  # one they do not have
    told = write_lookalikes(tmp_path, tiny_dataset, ours)
    sheet = np.asarray(Image.open(tmp_path / "lookalikes" / "0.png"))
    assert sheet.shape == (len(ours) * TILE_PX, PER_CLASS * TILE_PX)
    split = load_split(tiny_dataset, "train")
    for class_id, codepoint in enumerate(ours.codepoints):
        known = codepoint in theirs.codepoints
        assert told["counts"][class_id] == (PER_CLASS if known else 0)
        row = sheet[class_id * TILE_PX : (class_id + 1) * TILE_PX]
        if not known:
            assert row.max() == 0
            continue
        own = split.images[split.labels == theirs.codepoints.index(codepoint)]
        size = (TILE_PX, TILE_PX)
        small = [np.asarray(Image.fromarray(i).resize(size, Image.Resampling.LANCZOS)) for i in own]
        for column in range(PER_CLASS):
            tile = row[:, column * TILE_PX : (column + 1) * TILE_PX]
            assert any(np.array_equal(tile, image) for image in small)


def test_a_dataset_of_other_characters_is_refused(tiny_dataset: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="none of the model's 1 characters"):
        write_lookalikes(tmp_path, tiny_dataset, ClassIndex(("U+4E00",)))
