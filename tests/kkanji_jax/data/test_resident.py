"""A dataset that is not what its manifest says is refused where it is read, by file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import load_index, load_manifest
from kkanji_jax.data.records import Chunk, decode, encode
from kkanji_jax.data.resident import load_split
from kkanji_jax.files import sha256_of

TRAIN, VAL = "train-00000-of-00001.array_record", "val-00000-of-00001.array_record"


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))


def edit(dataset: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def relabel(path: Path, class_id: int) -> None:
    """Gives the third example of a shard another class, and makes the manifest agree."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    reader = ArrayRecordReader(str(path))
    (chunk,) = (decode(record) for record in reader.read_all())
    reader.close()
    class_ids = np.array(chunk.class_ids)
    class_ids[2] = class_id
    writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
    writer.write(encode(Chunk(chunk.images, class_ids, chunk.sample_ids, chunk.parent_ids)))
    writer.close()

    def agree(manifest: dict[str, Any]) -> None:
        (entry,) = (each for each in manifest["shards"] if each["file"] == path.name)
        entry |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}

    edit(path.parent, agree)


@pytest.mark.parametrize("at", [0, 100, 5000, -1])
def test_a_flipped_byte_anywhere_in_a_shard_is_refused(dataset: Path, at: int):
    path = dataset / TRAIN
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=f"shard .*{TRAIN} has changed since it was built"):
        load_split(dataset, "train")
    assert len(load_split(dataset, "val").labels)


def test_shards_that_changed_places_are_refused_though_each_is_whole(dataset: Path):
    shutil.copy(dataset / TRAIN, dataset / VAL)

    def agree_in_size(manifest: dict[str, Any]) -> None:
        for entry in manifest["shards"]:
            entry["bytes"] = (dataset / entry["file"]).stat().st_size

    edit(dataset, agree_in_size)
    load_manifest(dataset)
    with pytest.raises(ValueError, match=f"{VAL} has changed since it was built"):
        load_split(dataset, "val")


def test_a_shard_that_the_manifest_does_not_know_is_not_read(dataset: Path):
    before = load_split(dataset, "train").sample_ids
    shutil.copy(dataset / VAL, dataset / "train-00001-of-00002.array_record")
    assert load_split(dataset, "train").sample_ids == before


@pytest.mark.parametrize("class_id", [-1, 6, 1000])
def test_a_label_that_is_no_class_names_its_example(dataset: Path, class_id: int):
    relabel(dataset / TRAIN, class_id)
    with pytest.raises(ValueError, match=rf"U\+.*has class id {class_id}, expected 0 to 5"):
        load_split(dataset, "train")


def test_counts_that_are_not_the_manifests_are_refused(dataset: Path):
    def claim(number: int) -> Callable[[dict[str, Any]], None]:
        return lambda manifest: manifest["splits"]["train"].update(num_examples=number)

    found = len(load_split(dataset, "train").labels)
    edit(dataset, claim(found + 1))
    with pytest.raises(ValueError, match=f"should hold {found + 1} examples, found {found}"):
        load_split(dataset, "train")
    edit(dataset, claim(found - 1))
    with pytest.raises(ValueError, match=f"{TRAIN} holds more examples"):
        load_split(dataset, "train")


def test_a_class_index_of_another_dataset_is_refused(dataset: Path):
    index = ClassIndex.load(dataset / "index.json")
    ClassIndex(index.codepoints[:-1]).save(dataset / "index.json")
    with pytest.raises(ValueError, match=r"index.json is not the class index of .* has 5 classes"):
        load_index(dataset, load_manifest(dataset))
    with pytest.raises(ValueError, match="is not the class index"):
        load_split(dataset, "train")
