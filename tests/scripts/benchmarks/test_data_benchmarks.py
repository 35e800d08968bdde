"""The data benchmarks compare like with like: every contender gives the same images, shuffled."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "scripts" / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="the source tree is not beside")
sys.path.insert(0, str(BENCH))
import augmentation  # noqa: E402
import resident_loading  # noqa: E402
import single_records  # noqa: E402
import streamed_loading  # noqa: E402


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (40, 64, 64), np.uint8)


def seen(batches, images: np.ndarray, num_batches: int = 5) -> list[int]:
    """Which image stands at each place of the first batches; fails for a pixel or label changed."""
    number_of = {image.tobytes(): number for number, image in enumerate(images)}
    found = []
    for pixels, labels in itertools.islice(batches, num_batches):
        numbers = [number_of[np.asarray(image).tobytes()] for image in pixels]
        assert list(np.asarray(labels)) == [number % 4 for number in numbers]
        found += numbers
    return found


def test_the_peers_of_loading_give_each_image_once_an_epoch_in_another_order(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loader in (resident_loading, streamed_loading):
        monkeypatch.setattr(loader, "BATCH_SIZE", 8)
    monkeypatch.setattr(single_records, "PER_SHARD", 16)
    labels = (np.arange(40) % 4).astype(np.int32)
    paths = single_records.write_records(tmp_path, images, labels)
    assert len(paths) == 3
    files = single_records.write_pngs(tmp_path, images)
    orders = [
        seen(resident_loading.iterate_grain(paths), images),
        seen(resident_loading.iterate_png(files, labels), images),
        seen(streamed_loading.iterate_grain(paths), images),
        seen(streamed_loading.iterate_getitems(paths), images),
    ]
    for order in orders:
        assert sorted(order) == list(range(40)) and order != sorted(order)
    # Ours draws by the square root of a class's size; these classes are alike, so it is each once.
    assert sorted(seen(resident_loading.iterate_ours(images, labels), images)) == list(range(40))


def test_our_stream_gives_what_the_dataset_holds(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed_loading, "BATCH_SIZE", 8)
    images, labels = single_records.take_images(tiny_dataset, 30)
    pixels, _ = next(streamed_loading.iterate_ours(tiny_dataset))
    assert pixels.shape == (8, 64, 64) and images.shape == (30, 64, 64) and labels.max() < 6
    with pytest.raises(ValueError, match="expected 1000"):
        single_records.take_images(tiny_dataset, 1000)


def test_the_originals_code_shifts_and_leaves_a_haze() -> None:
    square = np.zeros((64, 64), np.uint8)
    square[24:40, 24:40] = 255
    rng = np.random.default_rng(0)
    varied = np.stack([augmentation.augment_as_the_original(square, rng) for _ in range(40)])
    assert varied.dtype == np.uint8 and varied.shape == (40, 64, 64)
    lit = (varied > 0).mean()
    assert 0.4 < lit < 0.7  # clipped noise lights half of the black
    columns = (varied > 128).sum(axis=1) @ np.arange(64) / (varied > 128).sum(axis=(1, 2))
    assert columns.std() > 4  # its elastic field is a shift of the whole glyph
