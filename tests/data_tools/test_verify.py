"""Every way in which a dataset can be other than its manifest says is named."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.plan import split
from data_tools.verify import find_problems, main
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.records import Chunk, decode, encode
from kkanji_jax.files import sha256_of

GOLDEN = Path(__file__).parents[1] / "golden" / "dataset_v1"
TRAIN, VAL = "train-00000-of-00001.array_record", "val-00000-of-00001.array_record"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The golden dataset, its shards unzipped."""
    out = tmp_path / "dataset_v1"
    shutil.copytree(GOLDEN, out)
    for zipped in out.glob("*.gz"):
        zipped.with_suffix("").write_bytes(gzip.decompress(zipped.read_bytes()))
        zipped.unlink()
    return out


def rewrite(path: Path, change: Callable[[Chunk], Chunk]) -> None:
    """Writes a shard anew with its one chunk changed, and makes its manifest entry agree."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    reader = ArrayRecordReader(str(path))
    (record,) = reader.read_all()
    reader.close()
    writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
    writer.write(encode(change(decode(record))))
    writer.close()

    def agree(manifest: dict[str, Any]) -> None:
        (entry,) = (e for e in manifest["shards"] if e["file"] == path.name)
        entry |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}

    edit(path.parent, agree)


def edit(dataset: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def problems(dataset: Path) -> str:
    return "\n".join(find_problems(dataset))


def test_a_sound_dataset_is_said_to_be(dataset: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(dataset)]) == 0
    printed = capsys.readouterr()
    assert "33 train, 9 val, 6 test" in printed.out
    assert "problem" not in printed.err


def test_problems_are_lines_and_the_exit_status(dataset: Path, capsys: pytest.CaptureFixture[str]):
    (dataset / VAL).unlink()
    assert main([str(dataset)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert f"problem: {dataset / VAL}: is missing" in lines
    assert lines[-1].startswith("error: ") and "problems: build it anew" in lines[-1]


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_what_cannot_be_verified_at_all_is_one_line(
    dataset: Path, content: str, capsys: pytest.CaptureFixture[str]
):
    (dataset / "manifest.json").write_text(content)
    assert main([str(dataset)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {dataset / 'manifest.json'}: ")
    assert main([str(dataset / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("error: no dataset at")


def test_a_missing_file_of_the_dataset_is_named(dataset: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("splits.csv", "index.json", "audit.json"):
        content = (dataset / name).read_bytes()
        (dataset / name).unlink()
        assert main([str(dataset)]) == 1
        assert name in capsys.readouterr().err
        (dataset / name).write_bytes(content)
    assert main([str(dataset)]) == 0


def test_every_flipped_byte_of_a_shard_is_found(dataset: Path):
    path = dataset / VAL
    whole = path.read_bytes()
    for at in (0, 100, 1000, 5000, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 0x40
        path.write_bytes(bytes(damaged))
        assert f"{path}: its bytes have changed" in problems(dataset)


def test_a_truncated_empty_or_lengthened_shard_is_found(dataset: Path):
    path = dataset / VAL
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:100], b"", whole + b"x"):
        path.write_bytes(content)
        assert f"{path}: must have 131072 bytes, not {len(content)}" in problems(dataset)
    path.write_bytes(b"")
    assert "must have 1 records, has 0 readable" in problems(dataset)


def test_missing_extra_and_swapped_shards_are_found(dataset: Path):
    extra = dataset / "train-00001-of-00002.array_record"
    shutil.copy(dataset / TRAIN, extra)
    assert problems(dataset) == f"{extra}: is not in the manifest"
    extra.unlink()
    train, val = (dataset / TRAIN).read_bytes(), (dataset / VAL).read_bytes()
    (dataset / TRAIN).write_bytes(val)
    (dataset / VAL).write_bytes(train)
    found = problems(dataset)
    assert f"{dataset / TRAIN}: " in found and f"{dataset / VAL}: " in found
    (dataset / TRAIN).write_bytes(train)
    (dataset / VAL).unlink()
    assert f"{dataset / VAL}: is missing" in problems(dataset)
    assert "val are in no shard" in problems(dataset)


def test_a_changed_image_is_found_though_every_digest_agrees(dataset: Path):
    def change(chunk: Chunk) -> Chunk:
        images = chunk.images.copy()
        images[3, 10, 10] ^= 1
        return chunk._replace(images=images)

    rewrite(dataset / TRAIN, change)
    assert "has other pixels than splits.csv says" in problems(dataset)


def test_a_wrong_class_id_is_found(dataset: Path):
    def change(chunk: Chunk) -> Chunk:
        class_ids = chunk.class_ids.copy()
        class_ids[0] = (class_ids[0] + 1) % 8
        return chunk._replace(class_ids=class_ids)

    rewrite(dataset / TRAIN, change)
    found = problems(dataset)
    assert "has class id" in found and "the class counts of train are not" in found
    rewrite(dataset / TRAIN, lambda c: c._replace(class_ids=np.full_like(c.class_ids, -1)))
    assert "has class id -1" in problems(dataset)


def test_an_example_that_is_gone_or_doubled_is_found(dataset: Path):
    def double(chunk: Chunk) -> Chunk:
        pick = np.r_[0, 0, 2 : len(chunk.images)]
        return Chunk(
            chunk.images[pick],
            chunk.class_ids[pick],
            tuple(chunk.sample_ids[i] for i in pick),
            tuple(chunk.parent_ids[i] for i in pick),
        )

    rewrite(dataset / TRAIN, double)
    found = problems(dataset)
    assert "1 examples come twice" in found
    assert "1 of train are in no shard" in found


def test_a_held_out_original_among_the_training_images_is_found(dataset: Path):
    rows = split.read_splits(dataset / "splits.csv")
    at = next(i for i, row in enumerate(rows) if row.split == "val")
    moved = [*rows[:at], rows[at]._replace(split="train"), *rows[at + 1 :]]
    (dataset / "splits.csv").write_text(split.to_csv(moved), "utf-8")
    found = problems(dataset)
    assert f"{rows[at].sample_id} is in val, but splits.csv has its original in train" in found
    assert "original_counts are not those of splits.csv" in found


def test_equal_pixels_in_two_splits_are_found(dataset: Path):
    rows = split.read_splits(dataset / "splits.csv")
    val = next(row for row in rows if row.split == "val")
    at = next(i for i, row in enumerate(rows) if row.split == "train")
    rows[at] = rows[at]._replace(pixels_sha256=val.pixels_sha256)
    (dataset / "splits.csv").write_text(split.to_csv(rows), "utf-8")
    assert "have the same pixels" in problems(dataset)


def test_a_copy_where_none_may_be_is_found(dataset: Path):
    def change(chunk: Chunk) -> Chunk:
        return chunk._replace(sample_ids=(f"{chunk.parent_ids[0]}#1", *chunk.sample_ids[1:]))

    rewrite(dataset / VAL, change)
    assert "#1 is no copy that this dataset may hold" in problems(dataset)
    rewrite(dataset / VAL, lambda c: c._replace(parent_ids=("elsewhere", *c.parent_ids[1:])))
    assert "its original elsewhere is not in splits.csv" in problems(dataset)


def test_an_index_of_another_dataset_is_found(dataset: Path):
    ClassIndex(("U+3042",)).save(dataset / "index.json")
    assert "is not the index of this manifest" in problems(dataset)


def test_counts_that_the_shards_do_not_bear_out_are_found(dataset: Path):
    def change(manifest: dict[str, Any]) -> None:
        manifest["splits"]["val"]["num_examples"] += 1

    edit(dataset, change)
    assert "val must have 10 examples of 6 classes, its shards hold 9 of 6" in problems(dataset)
    edit(dataset, lambda m: m["shards"][0].update(num_records=2))
    assert "must have 2 records, has 1 readable" in problems(dataset)
    edit(dataset, lambda m: m["shards"][0].update(num_records=1, num_examples=5))
    assert "must have 5 examples, not 6" in problems(dataset)


def test_a_training_image_planted_among_the_held_out_is_found(dataset: Path):
    rows = split.read_splits(dataset / "splits.csv")
    stolen = next(row for row in rows if row.split == "train")

    def openly(chunk: Chunk) -> Chunk:
        return chunk._replace(parent_ids=(stolen.sample_id, *chunk.parent_ids[1:]))

    whole = (dataset / VAL).read_bytes()
    rewrite(dataset / VAL, openly)
    assert "splits.csv has its original in train: a leak" in problems(dataset)
    (dataset / VAL).write_bytes(whole)

    def forged(chunk: Chunk) -> Chunk:
        images = chunk.images.copy()
        images[0] = train_image
        return chunk._replace(images=images)

    train_image = _image_of(dataset / TRAIN, stolen.sample_id)
    rewrite(dataset / VAL, forged)
    assert "has other pixels than splits.csv says" in problems(dataset)
    # A splits.csv forged with it does not help: the pixels stand in two splits now.
    replaced = _ids_of(dataset / VAL)[0]
    rows = [
        row._replace(pixels_sha256=stolen.pixels_sha256) if row.sample_id == replaced else row
        for row in rows
    ]
    (dataset / "splits.csv").write_text(split.to_csv(rows), "utf-8")
    assert "have the same pixels" in problems(dataset)


def _chunk_of(path: Path) -> Chunk:
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path))
    (record,) = reader.read_all()
    reader.close()
    return decode(record)


def _ids_of(path: Path) -> tuple[str, ...]:
    return _chunk_of(path).sample_ids


def _image_of(path: Path, sample_id: str) -> np.ndarray:
    chunk = _chunk_of(path)
    return chunk.images[chunk.sample_ids.index(sample_id)]
