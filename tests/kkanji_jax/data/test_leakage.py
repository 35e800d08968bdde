"""A held-out image that comes from training is refused, whatever it calls itself."""

import json
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.config import default_config
from kkanji_jax.data import leakage, resident
from kkanji_jax.data.leakage import check_no_leak
from kkanji_jax.data.records import Chunk, decode, encode
from kkanji_jax.data.streamed import Records
from kkanji_jax.files import sha256_of
from kkanji_jax.training.loop import train

ROOT = Path(__file__).parents[3]
VAL, TEST = "val-00000-of-00001.array_record", "test-00000-of-00001.array_record"


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset, tmp_path / "dataset"))


def rewrite(path: Path, change: Callable[[Chunk], Chunk]) -> None:
    """Writes a shard of one record anew, and makes the manifest agree with it."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    reader = ArrayRecordReader(str(path))
    (record,) = reader.read_all()
    reader.close()
    writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
    writer.write(encode(change(decode(record))))
    writer.close()
    manifest_path = path.parent / "manifest.json"
    manifest = json.loads(manifest_path.read_text("utf-8"))
    (entry,) = (each for each in manifest["shards"] if each["file"] == path.name)
    entry |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    manifest_path.write_text(json.dumps(manifest), "utf-8")


def plant(dataset: Path, file: str, sample_id: str, parent_id: str, *, is_warped: bool) -> None:
    """Puts a training image in the place of the first held-out one, under these ids."""
    stolen = resident.load_split(dataset, "train").images[5].copy()
    if is_warped:
        stolen[30:34, 30:34] ^= 255

    def change(chunk: Chunk) -> Chunk:
        images = chunk.images.copy()
        images[0] = stolen
        ids = (sample_id, *chunk.sample_ids[1:]), (parent_id, *chunk.parent_ids[1:])
        return Chunk(images, chunk.class_ids, *ids)

    rewrite(dataset / file, change)


def check(dataset: Path) -> None:
    """Finds the same whether the training split is in memory or comes record by record."""
    raised = []
    for train_split in ([resident.load_split(dataset, "train")], Records(dataset, "train")):
        try:
            check_no_leak(dataset, train_split)
        except ValueError as err:
            raised.append(err)
    if raised:
        assert len(raised) == 2 and str(raised[0]) == str(raised[1])
        raise raised[0]


@pytest.mark.parametrize(("file", "name"), [(VAL, "val"), (TEST, "test")])
def test_a_leak_is_found_by_parent_by_sample_id_and_by_pixels(dataset: Path, file: str, name: str):
    check(dataset)
    whole = (dataset / file).read_bytes()
    parent = resident.load_split(dataset, "train").sample_ids[5]
    for sample_id, parent_id, is_warped in (
        (f"{parent}#3", parent, True),  # openly
        (f"{parent}#3", "elsewhere", True),  # the parent forged, the sample id not
        ("elsewhere", "elsewhere", False),  # both forged
    ):
        plant(dataset, file, sample_id, parent_id, is_warped=is_warped)
        with pytest.raises(ValueError, match=f"1 {name} examples of .* come from training images"):
            check(dataset)
        (dataset / file).write_bytes(whole)
        rewrite(dataset / file, lambda chunk: chunk)
    check(dataset)
    plant(dataset, file, "elsewhere", "elsewhere", is_warped=True)
    check(dataset)  # other pixels under another name are another image


def test_training_refuses_a_planted_leak_in_one_line(dataset: Path, tmp_path: Path):
    plant(dataset, VAL, "elsewhere", "elsewhere", is_warped=False)
    command = [sys.executable, "-m", "kkanji_jax.train", "--config", "configs/b0.py:smoke"]
    flags = ["--workdir", str(tmp_path / "run"), f"--config.data.dataset={dataset}"]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: 1 val examples of") and "come from training images" in last
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_training_takes_a_leaky_protocol_only_by_name(dataset: Path, tmp_path: Path):
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(manifest | {"protocol": "legacy"}), "utf-8")
    config = default_config()
    config.data.dataset = str(dataset)
    with pytest.raises(ValueError, match="allow_leaky_protocol=legacy to take it anyway") as err:
        train(config, tmp_path / "run")
    assert "\n" not in str(err.value)
    config.data.allow_leaky_protocol = "honest"
    with pytest.raises(ValueError, match="allow_leaky_protocol must be legacy, not 'honest'"):
        train(config, tmp_path / "run")
    config.data.allow_leaky_protocol = "legacy"
    config.epochs = -1  # so that what comes next is another refusal
    with pytest.raises(ValueError, match="epochs must be 1e-06 to"):
        train(config, tmp_path / "run")


def test_a_file_name_that_looks_like_a_copy_is_no_leak(dataset: Path):
    trained = resident.load_split(dataset, "train").sample_ids[5]
    plant(dataset, VAL, f"{trained}#2", f"{trained}#2", is_warped=True)
    check(dataset)


def test_held_out_images_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def made(_: Path) -> Iterator[Chunk]:
        for start in range(0, 20_000, 250):
            ids = tuple(f"char-shape/U+6625/U+6625_b_{n:09d}" for n in range(start, start + 250))
            images = np.random.default_rng(start).integers(0, 256, (250, 8, 8), np.uint8)
            yield Chunk(images, np.zeros(250, np.int32), ids, ids)

    monkeypatch.setattr(leakage, "load_manifest", lambda _: {})
    monkeypatch.setattr(leakage, "shard_paths", lambda *_: [tmp_path])
    monkeypatch.setattr(leakage, "read_chunks", made)
    tracemalloc.start()
    try:
        check_no_leak(tmp_path, iter(()), ("val",))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000 * 100  # a dict of sets took 800 bytes an image
    with pytest.raises(ValueError, match="20000 val .* first char-shape/U.6625/U.6625_b_000000000"):
        check_no_leak(tmp_path, made(tmp_path), ("val",))
