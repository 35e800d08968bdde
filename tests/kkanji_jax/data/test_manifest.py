"""What a DATASET says of itself, and the dataset of format version 1 that must load for ever."""

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import (
    SPLITS,
    identity_of,
    is_same_dataset,
    load_manifest,
    read_manifest,
    shard_paths,
)
from kkanji_jax.data.records import decode

GOLDEN = Path(__file__).parents[2] / "golden" / "dataset_v1"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The golden dataset, its shards unzipped."""
    out = tmp_path / "dataset_v1"
    shutil.copytree(GOLDEN, out)
    for zipped in out.glob("*.gz"):
        zipped.with_suffix("").write_bytes(gzip.decompress(zipped.read_bytes()))
        zipped.unlink()
    return out


def edit_manifest(dataset: Path, without: str = "", **changes: object) -> None:
    """Overwrites keys of manifest.json, and takes one away."""
    path = dataset / "manifest.json"
    content = json.loads(path.read_text("utf-8")) | changes
    content.pop(without, None)
    path.write_text(json.dumps(content), "utf-8")


def test_the_dataset_of_version_1_loads_with_the_pixels_it_was_made_of(dataset: Path):
    from array_record.python.array_record_module import ArrayRecordReader

    manifest = load_manifest(dataset)
    index = ClassIndex.load(dataset / "index.json")
    assert index.digest == manifest["class_index_digest"]
    assert index.codepoints == (
        *("U+3042", "U+309D", "U+6625", "U+6765", "U+795E", "U+FA19", "U+20B9F", "U+241C6"),
    )
    lines = (dataset / "splits.csv").read_text("utf-8").splitlines()
    rows = {line.split(",")[0]: line.split(",") for line in lines[1:]}
    found: dict[str, int] = {}
    for split in SPLITS:
        for path in shard_paths(dataset, manifest, split):
            reader = ArrayRecordReader(str(path))
            for record in reader.read_all():
                chunk = decode(record)
                for i, sample_id in enumerate(chunk.sample_ids):
                    _, codepoint, row_split, pixels_sha256, parent_id = rows.pop(sample_id)
                    assert index.id_of(codepoint) == chunk.class_ids[i]
                    assert (row_split, parent_id) == (split, chunk.parent_ids[i])
                    pixels = chunk.images[i].tobytes()
                    assert hashlib.sha256(pixels).hexdigest() == pixels_sha256
                found[split] = found.get(split, 0) + len(chunk.sample_ids)
            reader.close()
    assert found == {"train": 33, "val": 9, "test": 6}
    assert not rows


def test_the_golden_files_are_the_ones_that_were_written():
    digest = hashlib.sha256()
    for path in sorted(GOLDEN.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    assert digest.hexdigest() == "ff73ba6d3ebf8a8568279f24897e1e4d00c93328480a57aca382b3d8b6d9a941"


def test_shards_of_a_split_come_sorted_and_an_unknown_split_is_refused(dataset: Path):
    manifest = load_manifest(dataset)
    manifest["shards"] = [
        {"file": f"train-0000{i}-of-00003.array_record", "split": "train"} for i in (2, 0, 1)
    ]
    names = [path.name for path in shard_paths(dataset, manifest, "train")]
    assert names == sorted(names) and len(names) == 3
    assert shard_paths(dataset, manifest, "val") == []
    with pytest.raises(ValueError, match="'validation'"):
        shard_paths(dataset, manifest, "validation")


def test_a_missing_folder_says_how_to_build_one(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no dataset at .*nowhere: build one with .*data_tools"):
        load_manifest(tmp_path / "nowhere")


def test_a_folder_without_a_manifest_is_no_dataset_or_an_unfinished_one(tmp_path: Path):
    with pytest.raises(ValueError, match="is no dataset"):
        load_manifest(tmp_path)
    (tmp_path / ".build").mkdir()
    with pytest.raises(ValueError, match="unfinished: run the same"):
        load_manifest(tmp_path)


def test_another_format_version_is_refused(dataset: Path):
    edit_manifest(dataset, format_version=2)
    with pytest.raises(ValueError, match=r"manifest.json: expected format version 1, got 2"):
        load_manifest(dataset)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": 1}', "\xff"])
def test_a_broken_manifest_is_refused_by_file_name(dataset: Path, text: str):
    (dataset / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="manifest.json: "):
        load_manifest(dataset)


def test_every_key_of_a_manifest_is_wanted(dataset: Path):
    complete = (dataset / "manifest.json").read_text("utf-8")
    for key in sorted(set(json.loads(complete)) - {"format_version", "resizing"}):
        (dataset / "manifest.json").write_text(complete, "utf-8")
        edit_manifest(dataset, without=key)
        with pytest.raises(ValueError, match=key):
            load_manifest(dataset)
    (dataset / "manifest.json").write_text(complete, "utf-8")
    edit_manifest(dataset, splits={"train": {}})
    with pytest.raises(ValueError, match="split train lacks 'num_examples'"):
        load_manifest(dataset)


def test_a_shard_may_not_point_outside_its_dataset(dataset: Path):
    shards = read_manifest(dataset)["shards"]
    for file in ("../train.array_record", "/etc/passwd", "a/b"):
        edit_manifest(dataset, shards=[{**shards[0], "file": file}])
        with pytest.raises(ValueError, match="shard 0 names no file of a split"):
            load_manifest(dataset)


def test_a_missing_or_cut_shard_is_named(dataset: Path):
    path = dataset / "val-00000-of-00001.array_record"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"val-00000-of-00001.array_record must have 131072 bytes"):
        load_manifest(dataset)
    path.unlink()
    with pytest.raises(ValueError, match=r"val-00000-of-00001.array_record is missing"):
        load_manifest(dataset)
    assert read_manifest(dataset)["format_version"] == 1


def test_a_dataset_is_its_shards_and_options_not_its_manifests_bytes(
    tiny_source: Path, tmp_path: Path
):
    """Built of a tar and of the same unpacked, with other ends of lines, and of another seed."""
    import tarfile

    from data_tools import build

    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "kkanji.tar", "w") as archive:
        archive.add(tiny_source / "kkanji2", "kkanji2")
    identities = {}
    for name, source, seed in (("a", tiny_source, 0), ("b", packed, 0), ("c", packed, 1)):
        arguments = ["--source", source, "--out", tmp_path / name, "--seed", seed, "--workers", 1]
        assert build.main([str(word) for word in arguments]) == 0
        identities[name] = identity_of(tmp_path / name, load_manifest(tmp_path / name))
    path = tmp_path / "b" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    identities["crlf"] = identity_of(tmp_path / "b", load_manifest(tmp_path / "b"))
    assert len({identity["manifest_sha256"] for identity in identities.values()}) == 4
    assert is_same_dataset(identities["a"], identities["b"])
    assert is_same_dataset(identities["a"], identities["crlf"])
    assert not is_same_dataset(identities["b"], identities["c"])
    manifest = load_manifest(tmp_path / "a")
    manifest["shards"][0]["sha256"] = "0" * 64
    assert not is_same_dataset(identities["a"], identity_of(tmp_path / "a", manifest))


def test_a_path_that_is_not_utf8_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"caf\\udce9 has bytes that are not UTF-8.*rename it"):
        load_manifest(tmp_path / os.fsdecode(b"caf\xe9"))
