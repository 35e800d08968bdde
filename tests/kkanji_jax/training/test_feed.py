"""What a run learns from: the same examples and copies from memory and from a stream."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kkanji_jax.config import default_config, validate
from kkanji_jax.data import resident
from kkanji_jax.data.batches import BatchShape
from kkanji_jax.training.feed import Feed, FeedConfig, open_resident, open_streamed
from kkanji_jax.training.step import IndexBatch, PixelBatch, _gather

CHOICE = FeedConfig(per_class=None, sampling_exponent=1.0, fresh_copies=True, seed=3)


def examples_of(feed: Feed, num_epochs: int) -> list[tuple]:
    """All that a whole number of epochs shows, in an order of its own."""
    shape = BatchShape(feed.num_examples, steps_per_dispatch=1, num_dispatches=num_epochs)
    iterator = feed.make_iterator(shape)
    found = []
    for element in iterator:
        if feed.data is not None:
            rows = element["rows"]
            element |= {name: getattr(feed.data, name)[rows] for name in feed.data._fields}
        flat = {name: column.reshape(-1, *column.shape[3:]) for name, column in element.items()}
        assert set(feed.batch._fields) <= set(flat)
        for image, label, address, copy in zip(
            flat["images"], flat["labels"], flat["addresses"], flat["copies"], strict=True
        ):
            found.append((*address.tolist(), int(copy), int(label), image.tobytes()))
    return sorted(found)


@pytest.mark.parametrize("is_fresh", [True, False])
def test_a_stream_shows_what_memory_does(tiny_dataset: Path, is_fresh: bool):
    choice = replace(CHOICE, fresh_copies=is_fresh)
    from_memory = open_resident(tiny_dataset, choice)
    stream = open_streamed(tiny_dataset, choice, pool_examples=50)
    assert stream.num_images == from_memory.num_images == stream.num_examples
    assert stream.data is None
    found = examples_of(stream, 3)
    assert found == examples_of(from_memory, 3)
    assert {example[2] for example in found} == ({0, 1, 2} if is_fresh else {0})


def test_a_balance_that_is_not_written_out_is_no_stream(tiny_dataset: Path):
    for balance in ({"sampling_exponent": 0.5}, {"per_class": 10}):
        choice = replace(CHOICE, **balance)
        with pytest.raises(ValueError, match="data_tools.build --per-class N") as err:
            open_streamed(tiny_dataset, choice, pool_examples=50)
        assert "\n" not in str(err.value) and "sampling_exponent=1, no data.per" in str(err.value)
    config = default_config()
    config.data.reading = "lazily"
    with pytest.raises(ValueError, match="data.reading must be resident or streamed"):
        validate(config)


def test_a_set_that_was_written_out_is_streamed_as_it_is(tiny_source: Path, tmp_path: Path):
    from data_tools import build

    out = tmp_path / "balanced"
    command = ["--source", str(tiny_source), "--out", str(out), "--workers", "1"]
    assert build.main([*command, "--per-class", "30", "--engine", "host"]) == 0
    choice = replace(CHOICE, sampling_exponent=0.5)  # what a balance would need
    found = examples_of(open_streamed(out, choice, pool_examples=50), 2)
    assert found == examples_of(open_resident(out, choice), 2)
    assert len(found) == 2 * 6 * 30 and {copy for _, _, copy, *_ in found} == {0}
    assert sorted(np.bincount([label for *_, label, _ in found])) == [60] * 6
    for same in (None, 30):
        assert open_resident(out, replace(CHOICE, per_class=same)).num_examples == 6 * 30
    for other in ({"per_class": 7}, {"photograph_weight": 2.0}):
        choice = replace(CHOICE, **other)
        with pytest.raises(ValueError, match="written out with 30 images a class, and is used as"):
            open_resident(out, choice)
        with pytest.raises(ValueError, match="written out with 30 images a class, and is used as"):
            open_streamed(out, choice, pool_examples=50)


def test_a_weight_of_photographs_needs_photographs(tiny_dataset: Path):
    with pytest.raises(ValueError, match="tiny has no photographed images.*weight=None"):
        open_resident(tiny_dataset, replace(CHOICE, photograph_weight=2.0))


def test_a_split_larger_than_memory_is_refused_with_the_remedy(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resident, "free_bytes", lambda: 4096 * 20)
    with pytest.raises(ValueError, match="--config.data.reading=streamed") as err:
        open_resident(tiny_dataset, CHOICE)
    assert "needs 0.0 GB of memory" in str(err.value)
    stream = open_streamed(tiny_dataset, CHOICE, pool_examples=50)  # val is small enough, too
    assert stream.num_examples > 80


def test_a_split_larger_than_a_device_is_refused_before_it_is_read(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 4096 * 20})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(resident, "load_split", None)  # calling it would fail
    with pytest.raises(ValueError, match="on every device.*--config.data.reading=streamed"):
        open_resident(tiny_dataset, CHOICE)


def test_a_stream_refuses_a_shard_that_has_changed(tiny_dataset: Path, tmp_path: Path):
    dataset = Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))
    shard = sorted(dataset.glob("train-*"))[-1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=f"shard .*{shard.name} has changed since it was built"):
        open_streamed(dataset, replace(CHOICE, may_leak=True), pool_examples=50)


def test_the_step_takes_the_same_examples_by_index_and_by_pixels(tiny_dataset: Path):
    feed = open_resident(tiny_dataset, CHOICE)
    assert feed.data is not None
    rows, copies = np.array([5, 0, 5, 31], np.int32), np.array([0, 2, 1, 7], np.int32)
    images, labels, addresses = (np.asarray(column)[rows] for column in feed.data)
    brought = PixelBatch(images, labels, addresses, copies)
    gathered = jax.jit(_gather)(feed.data, IndexBatch(rows, copies))
    for name in PixelBatch._fields:
        expected = np.asarray(getattr(brought, name))
        np.testing.assert_array_equal(getattr(gathered, name), expected)
        np.testing.assert_array_equal(getattr(_gather(None, brought), name), expected)
