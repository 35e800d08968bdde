"""Writes examples as shards: ArrayRecord files whose bytes depend only on the examples."""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from data_tools.plan import shard_contents
from data_tools.plan.shard_contents import WRITER_OPTIONS, Selection, Span
from data_tools.read.catalogue import Original, stack_images
from data_tools.write import build_state
from kkanji_jax.cli import Report, say_nothing
from kkanji_jax.data.records import Chunk, encode
from kkanji_jax.files import sha256_of
from kkanji_jax.workers import Workers


class Work(NamedTuple):
    """Everything from which one shard is made; a worker needs nothing else."""

    file: str
    split: str
    chunk_size: int
    seed: int
    policy: str | None
    engine: str | None
    pixels: list[bytes]
    parent_ids: list[str]
    picks: Int32[np.ndarray, " n"]
    copies: Int32[np.ndarray, " n"]
    class_ids: Int32[np.ndarray, " n"]


def make_work(
    span: Span,
    selections: Sequence[Selection],
    originals: Sequence[Original],
    class_ids: Int32[np.ndarray, " n"],
    *,
    seed: int,
    policy: str | None,
    engine: str | None,
    chunk_size: int,
) -> Work:
    """The work for the shard of a span, from the plan alone."""
    selection = selections[span.selection]
    rows = selection.rows[span.start : span.end]
    distinct, picks = np.unique(rows, return_inverse=True)
    parents = [originals[row] for row in distinct]
    return Work(
        file=span.file,
        split=selection.split,
        chunk_size=chunk_size,
        seed=seed,
        policy=policy,
        engine=engine,
        pixels=[parent.pixels for parent in parents],
        parent_ids=[parent.sample_id for parent in parents],
        picks=picks.astype(np.int32),
        copies=selection.copies[span.start : span.end],
        class_ids=class_ids[rows],
    )


@lru_cache(maxsize=1)
def _make_augmenter(
    engine: str | None, policy: str, seed: int
) -> Callable[[Any, Sequence[str], Any], Any]:
    from kkanji_jax.augment.policy import get_policy

    if engine == "device":
        from data_tools.write.device_augment import DeviceAugmenter

        return DeviceAugmenter(get_policy(policy), seed, shard_contents.CHUNK_SIZE)
    from data_tools.write.host_augment import HostAugmenter

    return HostAugmenter(get_policy(policy), seed).augment_all


def _iterate_records(work: Work) -> Iterator[bytes]:
    images = stack_images(work.pixels)
    for start in range(0, len(work.picks), work.chunk_size):
        part = slice(start, start + work.chunk_size)
        picks, copies = work.picks[part], work.copies[part]
        parents = tuple(work.parent_ids[pick] for pick in picks)
        chunk_images = images[picks]
        if copies.any():
            if work.policy is None:
                raise ValueError(f"copies of {parents[copies.argmax()]} need a policy, got none")
            augment_all = _make_augmenter(work.engine, work.policy, work.seed)
            chunk_images = augment_all(chunk_images, parents, copies)
        named = zip(parents, copies.tolist(), strict=True)
        ids = tuple(f"{parent}#{copy}" if copy else parent for parent, copy in named)
        yield encode(Chunk(chunk_images, work.class_ids[part], ids, parents))


def write_shard(out: Path, work: Work, owner: str) -> dict[str, Any]:
    """Writes one shard, checks that it can be read, moves it into place, and marks it finished.

    Its bytes depend on `work` alone. Returns its entry of the manifest. OSError if the disk is full
    or cannot be written.
    """
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    path = out / work.file
    # On a cluster, a task that is done again must not meet the one that was given up.
    unfinished = build_state.unfinished_path(path, f"{secrets.token_hex(8)}.{owner}")
    records_sha256, num_records = hashlib.sha256(), 0
    with build_state.naming_in_errors(path):
        writer = ArrayRecordWriter(str(unfinished), WRITER_OPTIONS)
    for record in _iterate_records(work):
        with build_state.naming_in_errors(path):
            writer.write(record)
        records_sha256.update(record)
        num_records += 1
    with build_state.naming_in_errors(path):
        writer.close()
        build_state.sync(unfinished)
        found_sha256, num_found = hashlib.sha256(), 0
        reader = ArrayRecordReader(str(unfinished), "readahead_buffer_size:0,max_parallelism:0")
        if reader.ok():  # a broken file opens silently, with no record in it
            num_found = reader.num_records()
            for number in range(num_found):
                found_sha256.update(reader.read([number])[0])
        reader.close()
    if (num_found, found_sha256.digest()) != (num_records, records_sha256.digest()):
        raise OSError(f"cannot write {path}: it does not read back; is the disk full?")
    entry = {
        "file": work.file,
        "split": work.split,
        "num_records": num_records,
        "num_examples": len(work.picks),
        "bytes": unfinished.stat().st_size,
        "sha256": sha256_of(unfinished),
    }
    with build_state.naming_in_errors(path):
        build_state.put_in_place(unfinished, path)
    build_state.mark_finished(out, entry, owner)
    return entry


def write_shards(
    out: Path,
    works: Iterable[tuple[str, Callable[[], Work]]],
    *,
    owner: str,
    num_examples: int,
    workers: Workers,
    report: Report = say_nothing,
) -> tuple[list[dict[str, Any]], int]:
    """Writes every unfinished shard; (all manifest entries in order, number that existed before).

    `works` are the names of shards and functions that make their work. The bytes do not depend on
    the number of `workers`, which have ended when this function returns. At most one shard more
    than there are workers is in memory.
    """
    entries: list[dict[str, Any]] = []
    num_kept = done = 0

    def add(entry: dict[str, Any]) -> None:
        nonlocal done
        entries.append(entry)
        done += entry["num_examples"]
        report("writing examples", done, num_examples)

    def iterate_missing() -> Iterator[Work]:
        nonlocal num_kept
        for file, make_work in works:
            entry = build_state.read_mark(out, file)
            if entry is None:
                yield make_work()
            else:
                num_kept += 1
                add(entry)

    report("writing examples", 0, num_examples)
    write = partial(write_shard, out, owner=owner)
    with workers:
        written = workers.map(write, iterate_missing(), most=workers.count + 1, in_order=False)
        for entry in written:
            add(entry)
    return sorted(entries, key=lambda entry: entry["file"]), num_kept
