"""From a folder of CODH's files to a DATASET, every step in turn."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.plan import shard_contents
from data_tools.plan.split import SplitRow, read_splits, to_csv
from data_tools.verify import find_problems
from data_tools.write import shards
from data_tools.write.assemble import Options, Outcome, assemble
from data_tools.write.host_augment import HostAugmenter
from kkanji_jax.augment.policy import get_policy
from kkanji_jax.data.balance import Plan
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import SPLITS, load_manifest, shard_paths
from kkanji_jax.data.records import Chunk, address_of, decode

KANJI = {"U+6625": 30, "U+6765": 12, "U+795E": 5, "U+FA19": 2, "U+20B9F": 1}


@pytest.fixture
def full_source(source: Any) -> Any:
    """Kanji, two 28x28 sets, and one fault of most kinds."""
    for codepoint, count in KANJI.items():
        source.add_kanji(codepoint, count)
    source.add_file("kkanji2/U+6625/zz.png", source.png(source.draw(0x6625 * 1000)))
    source.add_file("kkanji2/U+55DF/blank.png", source.png(np.zeros((64, 64), np.uint8)))
    images = source.add_small("k49-train", [0] * 20 + [2] * 3)
    source.add_small("k49-test", [0, 1, 2], images=np.stack([images[0], *images[21:23]]))
    return source


def read_dataset(dataset: Path) -> dict[str, Chunk]:
    """Every split, its records joined."""
    from array_record.python.array_record_module import ArrayRecordReader

    manifest, splits = load_manifest(dataset), {}
    for split in SPLITS:
        chunks = []
        for path in shard_paths(dataset, manifest, split):
            reader = ArrayRecordReader(str(path))
            chunks += [decode(record) for record in reader.read_all()]
            reader.close()
        images, class_ids, sample_ids, parent_ids = zip(*chunks, strict=True)
        splits[split] = Chunk(
            np.concatenate(images),
            np.concatenate(class_ids),
            sum(sample_ids, ()),
            sum(parent_ids, ()),
        )
    return splits


def contents(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(dataset.iterdir())}


def build(source: Any, out: Path, **options: Any) -> Outcome:
    workers = options.pop("workers", 1)
    return assemble(source.folder, out, Options(**options), workers=workers)


def test_a_dataset_holds_every_kept_original_once_with_its_own_pixels(
    full_source: Any, tmp_path: Path
):
    out = tmp_path / "a dataset 春"
    outcome = build(full_source, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.json",
        "audit.record",
        "index.json",
        "manifest.json",
        "splits.csv",
        "test-00000-of-00001.array_record",
        "train-00000-of-00001.array_record",
        "val-00000-of-00001.array_record",
    ]
    index = ClassIndex.load(out / "index.json")
    rows = {row.sample_id: row for row in read_splits(out / "splits.csv")}
    splits = read_dataset(out)
    for name, chunk in splits.items():
        for image, class_id, sample_id in zip(*chunk[:3], strict=True):
            row = rows.pop(sample_id)
            assert row.split == name
            assert row.pixels_sha256 == hashlib.sha256(image.tobytes()).hexdigest()
            assert index.codepoints[class_id] == row.codepoint
        assert chunk.sample_ids == chunk.parent_ids
    assert not rows
    assert outcome.manifest == load_manifest(out)
    # 30 and the duplicate of one, 12, 5, 2, 1; the test set's 3 are also in the training set, and
    # one of those under another code point: 20 + 3 - 3 + 3.
    assert sum(len(chunk.images) for chunk in splits.values()) == 50 + 23 - 1
    assert list(find_problems(out)) == []


def test_official_test_images_are_in_test_and_nowhere_else(full_source: Any, tmp_path: Path):
    build(full_source, tmp_path / "out")
    found = read_dataset(tmp_path / "out")
    official = [i for name in SPLITS for i in found[name].sample_ids if i.startswith("k49-test")]
    assert official and set(official) <= set(found["test"].sample_ids)
    pixels = {name: {image.tobytes() for image in found[name].images} for name in SPLITS}
    assert pixels["train"].isdisjoint(pixels["test"] | pixels["val"])
    assert pixels["val"].isdisjoint(pixels["test"])


def test_the_audit_tells_of_every_image_that_is_not_there(full_source: Any, tmp_path: Path):
    outcome = build(full_source, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "audit.json").read_text("utf-8"))
    assert written == outcome.audit
    assert written["rules"]["blank"]["samples"] == ["kkanji/U+55DF/blank"]
    assert written["rules"]["duplicate_within_class"]["count"] == 1
    dropped = {each["codepoint"]: each["reason"] for each in written["dropped_classes"]}
    assert dropped.keys() == {"U+55DF", "U+304A"}
    index = ClassIndex.load(tmp_path / "out" / "index.json")
    assert set(index.codepoints) == {*KANJI, "U+3042", "U+309D"}


def test_a_pooled_set_is_split_and_the_manifest_says_so(source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 3)
    source.add_small("kmnist-test", [0] * 30 + [1] * 30)
    plain = build(source, tmp_path / "plain").manifest
    assert plain["pool_official"] == [] and plain["splits"]["train"]["num_classes"] == 1
    pooled = build(source, tmp_path / "pooled", pool_official=("kmnist",)).manifest
    assert pooled["pool_official"] == ["kmnist"]
    assert pooled["splits"]["train"]["num_classes"] == 3
    assert "--pool-official kmnist" in pooled["command"]
    train = read_dataset(tmp_path / "pooled")["train"].sample_ids
    assert any(sample_id.startswith("kmnist-test/") for sample_id in train)


def test_min_images_leaves_small_classes_out(full_source: Any, tmp_path: Path):
    manifest = build(full_source, tmp_path / "out", min_images=12).manifest
    assert manifest["min_images"] == 12
    index = ClassIndex.load(tmp_path / "out" / "index.json")
    assert set(index.codepoints) == {"U+6625", "U+6765", "U+3042"}


def test_one_and_two_workers_write_the_same_dataset(
    full_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shard_contents, "CHUNK_SIZE", 8)
    monkeypatch.setattr(shard_contents, "SHARD_EXAMPLES", 16)
    for workers in (1, 2):
        build(full_source, tmp_path / str(workers), workers=workers)
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert one == two and len(one) > 8


def test_the_order_in_which_a_disk_lists_files_does_not_matter(
    full_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    build(full_source, tmp_path / "one")
    iterdir, rglob = Path.iterdir, Path.rglob
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(iterdir(self))[::-1]))
    monkeypatch.setattr(Path, "rglob", lambda self, p: iter(sorted(rglob(self, p))[::-1]))
    build(full_source, tmp_path / "two")
    monkeypatch.undo()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_same_again_does_nothing_and_another_build_is_refused(full_source: Any, tmp_path: Path):
    out = tmp_path / "out"
    assert build(full_source, out).is_new
    before = contents(out)
    again = build(full_source, out)
    assert not again.is_new and again.manifest == load_manifest(out)
    for other in ({"seed": 1}, {"min_images": 2}, {"ratios": (90.0, 5.0, 5.0)}, {"per_class": 3}):
        with pytest.raises(
            ValueError, match=f"holds a dataset of other options .{next(iter(other))}"
        ):
            build(full_source, out, **other)
    full_source.add_kanji("U+4E00", 1)
    with pytest.raises(ValueError, match="other sources or options"):
        build(full_source, out)
    assert contents(out) == before


def test_a_build_that_fails_while_writing_is_no_dataset_and_goes_on(
    full_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    build(full_source, tmp_path / "whole")
    out, write_shard = tmp_path / "out", shards.write_shard
    written: list[str] = []

    def fail_at_the_second(out: Path, work: shards.Work, owner: str) -> dict[str, Any]:
        if written:
            raise OSError("No space left on device")
        written.append(work.file)
        return write_shard(out, work, owner)

    monkeypatch.setattr(shards, "write_shard", fail_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        build(full_source, out)
    with pytest.raises(ValueError, match="unfinished: run the same"):
        load_manifest(out)
    monkeypatch.undo()
    assert build(full_source, out).num_resumed == 1
    assert contents(out) == contents(tmp_path / "whole")


def test_bad_input_leaves_nothing_behind(full_source: Any, tmp_path: Path):
    out, others = tmp_path / "out", tmp_path / "others.csv"
    others.write_text("sample_id,codepoint,split\nmine/U+6625/1,U+6625,val\n")
    full_source.add_file("kkanji2/U+6625/torn.png", b"torn")
    for options, reason in (
        ({}, "cannot use 1 files"),
        ({"skip_bad": True, "min_images": 1000}, "no class .* is left"),
        ({"min_images": 0}, "--min-images must be at least 1"),
        ({"per_class": 0}, "--per-class must be at least 1"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"protocol": "dishonest"}, "expected a protocol of honest, 5050, by-book, legacy"),
        ({"skip_bad": True, "splits_from": tmp_path / "no.csv"}, "no file .*no.csv"),
        ({"skip_bad": True, "splits_from": others}, "others.csv: none of its 1 samples is in"),
        ({"skip_bad": True, "leave_out": others}, "others.csv: none of its 1 samples is in"),
    ):
        with pytest.raises(ValueError, match=reason):
            build(full_source, out, **options)
        assert not out.exists()


def test_rights_that_cannot_be_read_are_refused_before_anything_is_written(
    source: Any, tmp_path: Path
):
    source.add_kanji("U+6625", 3)
    source.add_file("rights.json", b"{")
    with pytest.raises(ValueError, match="rights.json is no JSON"):
        build(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_dataset_says_that_its_rights_are_stated_otherwise_now(
    source: Any, tmp_path: Path
):
    source.add_kanji("U+6625", 3)
    build(source, tmp_path / "out")
    said: list[str] = []
    assemble(source.folder, tmp_path / "out", Options(), say=said.append)
    assert not said
    source.add_file("rights.json", b'{"licence": "public domain", "attribution": "nobody"}')
    outcome = assemble(source.folder, tmp_path / "out", Options(), say=said.append)
    assert outcome.manifest["licence"] == "CC BY-SA 4.0"
    assert len(said) == 1 and "keeps the licence" in said[0]


def test_a_balanced_set_is_the_plan_of_epoch_0_written_out(
    full_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def augmenter(images: np.ndarray, ids: tuple[str, ...], copies: np.ndarray) -> np.ndarray:
        rolled = [np.roll(image, n, axis=0) for image, n in zip(images, copies, strict=True)]
        return np.stack(rolled)

    monkeypatch.setattr(shards, "_make_augmenter", lambda engine, policy, seed: augmenter)
    plain, balanced = tmp_path / "plain", tmp_path / "balanced"
    build(full_source, plain, seed=5)
    manifest = build(full_source, balanced, per_class=15, seed=5).manifest
    assert (manifest["per_class"], manifest["policy"]) == (15, "glyph_safe")
    assert set(manifest["splits"]["train"]["class_counts"].values()) == {15}
    originals, copies = read_dataset(plain), read_dataset(balanced)
    for name in ("val", "test"):
        assert copies[name].sample_ids == originals[name].sample_ids
        np.testing.assert_array_equal(copies[name].images, originals[name].images)
    train, found = originals["train"], copies["train"]
    plan = Plan(train.class_ids, address_of(train.sample_ids), per_class=15, seed=5)
    positions = np.arange(len(plan))
    rows, numbers = plan.lookup(positions, np.zeros_like(positions))
    expected = {
        train.sample_ids[row] + (f"#{number}" if number else ""): (row, number)
        for row, number in zip(rows.tolist(), numbers.tolist(), strict=True)
    }
    assert set(found.sample_ids) == expected.keys() and len(found.sample_ids) == len(expected)
    for image, class_id, sample_id, parent_id in zip(*found, strict=True):
        row, number = expected[sample_id]
        assert (parent_id, class_id) == (train.sample_ids[row], train.class_ids[row])
        np.testing.assert_array_equal(image, np.roll(train.images[row], number, axis=0))
    assert manifest["original_counts"] == load_manifest(plain)["original_counts"]
    assert manifest["original_counts"] == load_manifest(plain)["splits"]["train"]["class_counts"]
    assert list(find_problems(balanced)) == []


def test_written_out_copies_are_those_of_the_reference_augmenter(source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 40)
    options = {"ratios": (10.0, 45.0, 45.0), "per_class": 20, "engine": "host", "seed": 3}
    build(source, tmp_path / "out", **options)
    train = read_dataset(tmp_path / "out")["train"]
    augment = HostAugmenter(get_policy("glyph_safe"), 3)
    clean = dict(zip(train.sample_ids, train.images, strict=True))
    copies = [i for i in train.sample_ids if "#" in i]
    assert len(copies) >= 5
    for sample_id in copies:
        parent, _, number = sample_id.partition("#")
        expected = augment(clean[parent], parent, int(number))
        np.testing.assert_array_equal(clean[sample_id], expected)
        assert (expected != clean[parent]).any()


def test_earlier_splits_are_honoured_and_the_rest_go_by_their_hash(source: Any, tmp_path: Path):
    for codepoint in ("U+6625", "U+6765"):
        source.add_kanji(codepoint, 40)
    build(source, tmp_path / "one", seed=1)
    rows = read_splits(tmp_path / "one" / "splits.csv")
    gone = SplitRow("kkanji/U+6625/gone", "U+6625", "val", "", "")
    (tmp_path / "earlier.csv").write_text(to_csv([*rows, gone]), "utf-8")
    source.add_kanji("U+4E00", 40)
    source.add_file("kkanji2/U+6625/zz.png", source.png(source.draw(1)))
    # Another seed would move four in ten.
    build(source, tmp_path / "moved", seed=2)
    outcome = build(source, tmp_path / "two", seed=2, splits_from=tmp_path / "earlier.csv")
    before = {row.sample_id: row.split for row in rows}
    after, moved = (
        {row.sample_id: row.split for row in read_splits(tmp_path / name / "splits.csv")}
        for name in ("two", "moved")
    )
    assert {sample_id: after[sample_id] for sample_id in before} == before
    assert {sample_id: moved[sample_id] for sample_id in before} != before
    new = [sample_id for sample_id in after if sample_id.startswith("kkanji/U+4E00")]
    assert {i: after[i] for i in new} == {i: moved[i] for i in new}
    assert outcome.audit["splits_from"] == {
        "num_honoured": 80,
        "not_in_source": ["kkanji/U+6625/gone"],
        "dropped": [],
    }
