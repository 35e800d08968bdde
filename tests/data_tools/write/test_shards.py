"""Examples become shards whose bytes depend on nothing but the examples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.plan.shard_contents import Selection, layout, store_order
from data_tools.read.catalogue import Original, to_64px
from data_tools.write import shards
from data_tools.write.shards import Work, make_work, write_shard
from kkanji_jax.data.records import Chunk, decode

OWNER = "me"


@pytest.fixture
def made(source: Any) -> list[Original]:
    """Forty originals of two classes, every fifth of them of 28x28."""
    return [
        Original(
            f"kkanji/U+6625/{number:02d}",
            "U+6625",
            "kkanji",
            source.draw(number, 28 if number % 5 == 0 else 64).tobytes(),
            "",
        )
        for number in range(40)
    ]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out" / ".build").mkdir(parents=True)
    return tmp_path / "out"


def works_of(
    selection: Selection, made: list[Original], chunk_size: int = 256, **options: Any
) -> list[Work]:
    options = {"policy": None, "engine": "host"} | options
    spans = layout(
        [selection], chunk_size=chunk_size, shard_examples=options.pop("shard_examples", 16_384)
    )
    options |= {"seed": 0, "chunk_size": chunk_size}
    return [make_work(span, [selection], made, ids_of(made), **options) for span in spans]


def read_all(path: Path) -> list[Chunk]:
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path))
    chunks = [decode(record) for record in reader.read_all()]
    reader.close()
    return chunks


def select(made: list[Original], copies: np.ndarray | None = None) -> Selection:
    rows = np.arange(len(made), dtype=np.int32)
    copies = np.zeros(len(made), np.int32) if copies is None else copies
    return store_order("train", rows, copies, [o.sample_id for o in made], 0)


def ids_of(made: list[Original]) -> np.ndarray:
    return (np.arange(len(made)) % 2).astype(np.int32)


def test_a_shard_holds_its_examples_with_their_pixels_ids_and_classes(
    made: list[Original], out: Path
):
    (work,) = works_of(select(made), made, 16)
    entry = write_shard(out, work, OWNER)
    assert (entry["num_records"], entry["num_examples"]) == (3, 40)
    chunks = read_all(out / entry["file"])
    assert [len(chunk.images) for chunk in chunks] == [16, 16, 8]
    seen = {}
    for chunk in chunks:
        assert chunk.sample_ids == chunk.parent_ids
        for image, class_id, sample_id in zip(
            chunk.images, chunk.class_ids, chunk.sample_ids, strict=True
        ):
            seen[sample_id] = (image.tobytes(), int(class_id))
    assert seen == {o.sample_id: (to_64px(o.pixels), n % 2) for n, o in enumerate(made)}


def test_copies_are_augmented_by_address_and_originals_are_not(
    made: list[Original], out: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []

    def augmenter(images: np.ndarray, ids: tuple[str, ...], copies: np.ndarray) -> np.ndarray:
        calls.extend(zip(ids, copies.tolist(), strict=True))
        return np.where((copies > 0)[:, None, None], 255 - images, images)

    monkeypatch.setattr(shards, "_make_augmenter", lambda engine, policy, seed: augmenter)
    rows = np.array([3, 3, 4, 3], np.int32)
    selection = Selection("train", rows, np.array([0, 2, 0, 1], np.int32))
    (work,) = works_of(selection, made, policy="glyph_safe")
    assert len(work.pixels) == 2  # each original once, however many copies
    (chunk,) = read_all(out / write_shard(out, work, OWNER)["file"])
    parent = made[3].sample_id
    assert chunk.sample_ids == (parent, f"{parent}#2", made[4].sample_id, f"{parent}#1")
    assert chunk.parent_ids == (parent, parent, made[4].sample_id, parent)
    assert calls == [(parent, 0), (parent, 2), (made[4].sample_id, 0), (parent, 1)]
    np.testing.assert_array_equal(chunk.images[1], 255 - chunk.images[0])
    assert chunk.images[0].tobytes() == to_64px(made[3].pixels)


def test_a_copy_without_a_policy_is_refused(made: list[Original], out: Path):
    selection = Selection("train", np.zeros(1, np.int32), np.ones(1, np.int32))
    (work,) = works_of(selection, made)
    with pytest.raises(ValueError, match="need a policy"):
        write_shard(out, work, OWNER)


@given(st.integers(1, 200), st.integers(1, 7), st.integers(1, 40))
def test_shards_are_whole_records_and_even(n: int, chunk_size: int, chunks_per_shard: int):
    originals = [Original(str(i), "U+6625", "kkanji", b"", "") for i in range(n)]
    limit = chunk_size * chunks_per_shard
    works = works_of(select(originals), originals, chunk_size, shard_examples=limit)
    sizes = [len(work.picks) for work in works]
    assert sum(sizes) == n and max(sizes) <= limit
    assert all(size % chunk_size == 0 for size in sizes[:-1])
    records = [-(-size // chunk_size) for size in sizes]
    assert max(records) - min(records) <= 1
    names = [work.file for work in works]
    assert names == sorted(names)
    assert names[-1] == f"train-{len(works) - 1:05d}-of-{len(works):05d}.array_record"
    stored = [work.parent_ids[pick] for work in works for pick in work.picks]
    assert sorted(stored) == sorted(o.sample_id for o in originals)


def test_an_empty_split_has_no_shard():
    empty = Selection("val", np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert works_of(empty, []) == []


def test_what_cannot_be_written_is_an_os_error_that_names_the_shard(
    made: list[Original], tmp_path: Path
):
    (work,) = works_of(select(made), made)
    with pytest.raises(OSError, match=r"cannot write .*train-00000-of-00001.array_record"):
        write_shard(tmp_path / "nowhere", work, OWNER)
