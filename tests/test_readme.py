"""The README's six lines that open a dataset with plain Grain, run as they stand."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from kkanji_jax.data.records import Chunk, encode

README = Path(__file__).resolve().parents[1] / "README.md"
GOLDEN = Path(__file__).resolve().parent / "golden" / "dataset_v1"


def grain_lines() -> str:
    if not README.is_file():
        pytest.skip("the tests run without a checkout beside them")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (lines,) = [block for block in blocks if "import grain" in block]
    return lines


def write_shard(path: Path, num_records: int) -> None:
    writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
    for record in range(num_records):
        ids = tuple(f"kkanji/U+6625/{record}-{i}" for i in range(2))
        images = np.full((2, 64, 64), record, np.uint8)
        writer.write(encode(Chunk(images, np.array([record, 7], np.int32), ids, ids)))
    writer.close()


def run_on(dataset: Path) -> None:
    assert "data/kuzushiji/" in grain_lines()
    exec(grain_lines().replace("data/kuzushiji/", f"{dataset.as_posix()}/"), {})


def test_it_is_six_lines():
    assert len([line for line in grain_lines().splitlines() if line]) == 6


def test_it_prints_every_record_of_every_shard(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_shard(tmp_path / "train-00000-of-00002.array_record", 3)
    write_shard(tmp_path / "train-00001-of-00002.array_record", 2)
    run_on(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("(2, 64, 64) ") for line in lines)
    assert sum("kkanji/U+6625/2-1" in line for line in lines) == 1


def test_it_opens_a_dataset_of_format_version_1(tmp_path: Path, capsys: pytest.CaptureFixture):
    (zipped,) = GOLDEN.glob("train-*.gz")
    (tmp_path / zipped.stem).write_bytes(gzip.decompress(zipped.read_bytes()))
    run_on(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    train = json.loads((GOLDEN / "manifest.json").read_text())["splits"]["train"]
    sizes = [int(re.findall(r"^\((\d+), 64, 64\)", line)[0]) for line in lines]
    assert sum(sizes) == train["num_examples"]
