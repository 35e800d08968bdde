"""Any number of workers writes the same, and nothing twice."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.plan.shard_contents import layout, store_order
from data_tools.read.catalogue import Original
from data_tools.write.build_state import read_mark
from data_tools.write.shards import make_work, write_shards
from kkanji_jax.workers import Workers


@pytest.fixture
def made(source: Any) -> list[Original]:
    """Forty originals, each a class of its own."""
    return [
        Original(f"kkanji/U+6625/{n:02d}", "U+6625", "kkanji", source.draw(n).tobytes(), "")
        for n in range(40)
    ]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out" / ".build").mkdir(parents=True)
    return tmp_path / "out"


def write(out: Path, made: list[Original], workers: int) -> tuple[list[dict[str, Any]], int]:
    rows = np.arange(len(made), dtype=np.int32)
    ids = [original.sample_id for original in made]
    selections = [store_order("train", rows, np.zeros_like(rows), ids, 0)]
    how: Any = {"seed": 0, "policy": None, "engine": None, "chunk_size": 4}
    works = [
        (span.file, partial(make_work, span, selections, made, rows, **how))
        for span in layout(selections, chunk_size=4, shard_examples=8)
    ]
    return write_shards(out, works, owner="me", num_examples=len(made), workers=Workers(workers))


def test_finished_shards_are_kept_and_changed_ones_are_written_again(
    made: list[Original], out: Path
):
    entries, num_kept = write(out, made, 1)
    assert num_kept == 0 and len(entries) == 5
    contents = {entry["file"]: (out / entry["file"]).read_bytes() for entry in entries}
    times = {name: (out / name).stat().st_mtime_ns for name in contents}
    damaged, missing, kept = sorted(contents)[:3]
    (out / damaged).write_bytes(b"damaged")
    (out / missing).unlink()
    again, num_kept = write(out, made, 1)
    assert (again, num_kept) == (entries, 3)
    assert {name: (out / name).read_bytes() for name in contents} == contents
    assert (out / kept).stat().st_mtime_ns == times[kept]


def test_two_workers_write_the_bytes_of_one(made: list[Original], tmp_path: Path):
    written = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        (out / ".build").mkdir(parents=True)
        entries, _ = write(out, made, workers)
        written.append((entries, [(out / entry["file"]).read_bytes() for entry in entries]))
    assert written[0] == written[1]


def test_a_mark_without_its_shard_counts_for_nothing(made: list[Original], out: Path):
    entries, _ = write(out, made, 1)
    assert read_mark(out, entries[0]["file"]) == entries[0]
    assert read_mark(out, "train-00000-of-00009.array_record") is None
