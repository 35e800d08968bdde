"""A stream gives every example once an epoch, mixed, from little memory, at any position."""

import dataclasses
import json
import math
import os
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import grain
import numpy as np
import pytest

from kkanji_jax.data import streamed
from kkanji_jax.data.batches import BatchShape
from kkanji_jax.data.records import Chunk, address_of, encode
from kkanji_jax.data.streamed import PixelBatches, Records, pixel_iterator

SHARDS, CHUNK, PX = (12, 12, 9), 16, 8  # records of each shard, examples of a record
NUM_EXAMPLES = sum(SHARDS) * CHUNK - 5  # the last record is short
NUM_CLASSES = 6
SHAPE: dict[str, Any] = {"batch_size": 24, "steps_per_dispatch": 2, "microbatches": 3}


def write_dataset(folder: Path, template: Path) -> Path:
    """Three shards; an example's pixels are its number, its class a hash of it."""
    from array_record.python.array_record_module import ArrayRecordWriter

    folder.mkdir(parents=True)
    entries, number = [], 0
    for shard, num_records in enumerate(SHARDS):
        path = folder / f"train-{shard:05d}-of-{len(SHARDS):05d}.array_record"
        writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
        first = number
        for _ in range(num_records):
            rows = np.arange(number, min(number + CHUNK, NUM_EXAMPLES))
            ids = tuple(f"kkanji/{row}" for row in rows)
            writer.write(encode(Chunk(pixels_of(rows), class_of(rows), ids, ids)))
            number = int(rows[-1]) + 1
        writer.close()
        entry = {"file": path.name, "split": "train", "num_records": num_records, "sha256": ""}
        entries.append(entry | {"num_examples": number - first, "bytes": path.stat().st_size})
    manifest = json.loads((template / "manifest.json").read_text("utf-8"))
    manifest |= {"shards": entries, "chunk_size": CHUNK, "image_px": PX}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    shutil.copy(template / "index.json", folder)
    return folder


def pixels_of(rows: np.ndarray) -> np.ndarray:
    return np.repeat(rows.astype("<u4"), PX * PX // 4).view(np.uint8).reshape(-1, PX, PX)


def rows_of(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images).view("<u4")[..., 0, 0].astype(int)


def class_of(rows: np.ndarray) -> np.ndarray:
    return (rows * 2654435761 % 2**32 % NUM_CLASSES).astype(np.int32)


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("streamed") / "dataset", tiny_dataset)


@pytest.fixture
def records(dataset: Path) -> Records:
    return Records(dataset, "train")


def make(records: Records, **more: Any) -> PixelBatches:
    settings: dict[str, Any] = (
        SHAPE | {"num_dispatches": 60, "pool_examples": 100, "seed": 5} | more
    )
    fields = {field.name for field in dataclasses.fields(BatchShape)}
    shape = BatchShape(**{name: settings.pop(name) for name in fields & settings.keys()})
    return PixelBatches(records, shape, **settings)


def stream_of(batches: PixelBatches) -> np.ndarray:
    """The row at every position of the stream."""
    elements = [batches[index] for index in range(len(batches))]
    return np.concatenate([rows_of(element["images"]).ravel() for element in elements])


def test_every_example_comes_once_an_epoch_with_its_label_and_its_address(records: Records):
    batches = make(records)
    elements = [batches[index] for index in range(len(batches))]
    assert elements[0]["images"].shape == (2, 3, 8, PX, PX)
    flat = {
        name: np.concatenate([e[name].reshape(48, *e[name].shape[3:]) for e in elements])
        for name in elements[0]
    }
    rows = rows_of(flat["images"])
    np.testing.assert_array_equal(flat["images"], pixels_of(rows))
    np.testing.assert_array_equal(flat["labels"], class_of(rows))
    np.testing.assert_array_equal(flat["addresses"], address_of([f"kkanji/{row}" for row in rows]))
    num_epochs = len(rows) // NUM_EXAMPLES
    assert num_epochs >= 5 and NUM_EXAMPLES % 48
    orders = rows[: num_epochs * NUM_EXAMPLES].reshape(num_epochs, NUM_EXAMPLES)
    for epoch, order in enumerate(orders):
        np.testing.assert_array_equal(np.sort(order), np.arange(NUM_EXAMPLES))
        part = slice(epoch * NUM_EXAMPLES, (epoch + 1) * NUM_EXAMPLES)
        assert set(flat["copies"][part]) == {epoch}
    assert len({order.tobytes() for order in orders}) == num_epochs
    assert not make(records, fresh_copies=False)[59]["copies"].any()


def test_a_position_depends_on_the_seed_and_on_nothing_else(records: Records):
    whole = stream_of(make(records))
    backwards = make(records)
    found = [rows_of(backwards[index]["images"]).ravel() for index in reversed(range(60))]
    np.testing.assert_array_equal(np.concatenate(found[::-1]), whole)
    other_shape = make(records, batch_size=96, steps_per_dispatch=1, num_dispatches=30)
    np.testing.assert_array_equal(stream_of(other_shape), whole)
    assert (stream_of(make(records, seed=6)) != whole).mean() > 0.9


@pytest.mark.parametrize("num_processes", [2, 8])
def test_the_parts_of_several_processes_are_the_whole(records: Records, num_processes: int):
    whole = make(records)
    parts = [
        make(records, process_index=index, num_processes=num_processes)
        for index in range(num_processes)
    ]
    for index in (0, 11, 59):
        elements = [part[index] for part in parts]
        for name, column in whole[index].items():
            joined = np.concatenate([element[name] for element in elements], axis=2)
            np.testing.assert_array_equal(joined, column)
    with pytest.raises(ValueError, match="batch_size must divide by 3 microbatches x 5 processes"):
        make(records, num_processes=5)


def test_a_pool_is_all_that_is_in_memory_and_a_record_is_read_once_an_epoch(
    records: Records, monkeypatch: pytest.MonkeyPatch
):
    read: list[int] = []
    plain = records.read
    monkeypatch.setattr(records, "read", lambda number: read.append(number) or plain(number))
    num_dispatches = 2 * NUM_EXAMPLES // 48
    batches = make(records, num_dispatches=num_dispatches)
    batches[0]
    assert len(read) == 100 // CHUNK  # one pool of whole records, and no other
    tracemalloc.start()
    try:
        for index in range(num_dispatches):
            batches[index]
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    counts = Counter(read)
    assert set(counts) == set(range(sum(SHARDS))) and max(counts.values()) == 2
    pool_and_batch = (100 + 48) * PX * PX
    assert peak_bytes < pool_and_batch + 40_000 < NUM_EXAMPLES * PX * PX + 40_000


def test_grain_keeps_the_position_and_nothing_of_the_pixels(records: Records):
    batches = make(records)
    straight = [element["images"] for element in pixel_iterator(batches)]
    iterator = pixel_iterator(batches)
    for _ in range(23):
        next(iterator)
    state = iterator.get_state()
    assert state == {"next_index": 23}
    resumed = pixel_iterator(make(Records(records._paths[0].parent, "train")))
    next(resumed)
    resumed.set_state(state)
    rest = [element["images"] for element in resumed]
    assert len(rest) == 60 - 23
    np.testing.assert_array_equal(rest, straight[23:])
    grain.experimental.assert_equal_output_after_checkpoint(
        grain.MapDataset.source(make(records, num_dispatches=4)).to_iter_dataset()
    )


def test_batches_are_mixed_as_by_a_whole_shuffle(records: Records):
    """Against a uniform permutation: the classes of a batch, and where an example stands next."""
    epochs = 12
    num_dispatches = math.ceil(epochs * NUM_EXAMPLES / 48)
    rows = stream_of(make(records, num_dispatches=num_dispatches, pool_examples=128))
    orders = rows[: epochs * NUM_EXAMPLES].reshape(epochs, NUM_EXAMPLES)
    size, num_batches = 24, NUM_EXAMPLES // 24
    batches = class_of(orders[:, : size * num_batches]).reshape(-1, size)
    counts = np.stack([np.bincount(batch, minlength=NUM_CLASSES) for batch in batches])
    share = np.bincount(class_of(np.arange(NUM_EXAMPLES))) / NUM_EXAMPLES
    # The variance of a hypergeometric draw; 252 batches of 7 classes tell it to some 4 %.
    expected = size * share * (1 - share) * (NUM_EXAMPLES - size) / (NUM_EXAMPLES - 1)
    assert np.mean(counts.var(axis=0) / expected) == pytest.approx(1, abs=0.2)
    places = np.argsort(orders, axis=1)
    correlations = np.array(np.corrcoef(np.vstack([np.arange(NUM_EXAMPLES), places])))
    upper = correlations[np.triu_indices(epochs + 1, 1)]
    # 78 pairs; examples of one record stay near each other, so 33 records count, not 523 rows.
    assert np.abs(upper).max() < 4 / math.sqrt(sum(SHARDS))
    assert abs(upper.mean()) < 4 / math.sqrt(sum(SHARDS) * len(upper))


def test_few_shards_are_open_at_a_time(dataset: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streamed, "MAX_OPEN_SHARDS", 1)
    records = Records(dataset, "train")
    before = len(os.listdir("/dev/fd"))
    rows = [int(rows_of(records.read(number).images)[0]) for number in (0, 30, 13, 1, 32)]
    assert rows == [0, 480, 208, 16, 512]
    assert len(os.listdir("/dev/fd")) == before + 1


def test_a_damaged_record_is_named(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write_dataset(tmp_path / "damaged", tiny_dataset)
    path = folder / "train-00001-of-00003.array_record"
    content = bytearray(path.read_bytes())
    content[600] ^= 4  # in one of the records; most of so small a file is padding
    path.write_bytes(content)
    records = Records(folder, "train")
    with pytest.raises(ValueError, match=r"cannot read record \d+ of shard .*train-00001") as err:
        list(records)
    assert "\n" not in str(err.value)
    iterator = pixel_iterator(make(records))
    with pytest.raises(ValueError, match="cannot read record"):  # through Grain's thread too
        list(iterator)
    monkeypatch.setattr(records, "_num_classes", NUM_CLASSES - 1)
    with pytest.raises(ValueError, match="record 0 of shard .* class ids outside 0..4"):
        records.read(0)
    # A whole record in the wrong place: the last, short one where a full one should be.
    entries = json.loads((folder / "manifest.json").read_text("utf-8"))
    for entry in entries["shards"]:
        entry["num_examples"] = entry["num_records"] * CHUNK
    (folder / "manifest.json").write_text(json.dumps(entries), "utf-8")
    with pytest.raises(ValueError, match="record 8 of shard .* should hold .* run data_tools"):
        Records(folder, "train").read(sum(SHARDS) - 1)


def test_a_split_without_examples_is_refused(dataset: Path):
    with pytest.raises(ValueError, match="has no val examples to stream"):
        Records(dataset, "val")
