"""Examples -> shards: chunked ArrayRecord files, whose bytes depend on nothing but the examples."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from data_tools.fetch.sources import sha256_of
from data_tools.progress import Report, say_nothing
from data_tools.read.catalogue import Original, stack_images
from data_tools.workers import Workers
from data_tools.write import build_state
from kkanji_jax.data.balance import mix_address
from kkanji_jax.data.records import Chunk, address_of, encode

CHUNK_SIZE = 256  # examples a record
SHARD_EXAMPLES = 16_384  # at most: 64 MiB of pixels, some 20 MB on disk
WRITER_OPTIONS = "group_size:1,zstd:11"  # 4 % smaller than zstd:1, and read a fifth faster
BLOCK = 2**20  # examples planned at a time: 38 million would fill the memory otherwise
_SHARD_SALT = 0x5A4D  # so that the stored order is not the order of any other use of the seed


class Selection(NamedTuple):
    """The examples of one split in stored order: rows of the originals, and copy numbers."""

    split: str
    rows: Int32[np.ndarray, " n"]
    copies: Int32[np.ndarray, " n"]


class Span(NamedTuple):
    """Where one shard lies: examples `start` to `end` of a selection, by its place in a list."""

    file: str
    selection: int
    start: int
    end: int


class Work(NamedTuple):
    """All that one shard is made of; a worker needs nothing else."""

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


def store_order(
    split: str,
    rows: Int32[np.ndarray, " n"],
    copies: Int32[np.ndarray, " n"],
    sample_ids: Sequence[str],
    seed: int,
) -> Selection:
    """The examples in the order of a hash of (seed, sample, copy).

    So every record and every shard is a fair mixture of classes: reading whole records in a
    shuffled order is then enough for a stream, and equal shards make equal work.
    """
    addresses, keys = address_of(sample_ids), np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        keys[part] = mix_address(seed ^ _SHARD_SALT, addresses[rows[part]], copies[part])
    order = np.argsort(keys, kind="stable")
    return Selection(split, rows[order], copies[order])


def layout(selections: Sequence[Selection], *, chunk_size: int, shard_examples: int) -> list[Span]:
    """Every shard of a dataset: of whole records but for the last of a split, as even as can be."""
    spans = []
    for place, selection in enumerate(selections):
        num_records = -(-len(selection.rows) // chunk_size)
        num_shards = -(-len(selection.rows) // shard_examples)
        for number in range(num_shards):
            start = num_records * number // num_shards * chunk_size
            end = num_records * (number + 1) // num_shards * chunk_size
            file = f"{selection.split}-{number:05d}-of-{num_shards:05d}.array_record"
            spans.append(Span(file, place, start, min(end, len(selection.rows))))
    return spans


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
    """The shard of a span, from the plan alone."""
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

        return DeviceAugmenter(get_policy(policy), seed, CHUNK_SIZE)
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
                raise ValueError(f"copies of {parents[copies.argmax()]} want a policy, got none")
            augment_all = _make_augmenter(work.engine, work.policy, work.seed)
            chunk_images = augment_all(chunk_images, parents, copies)
        named = zip(parents, copies.tolist(), strict=True)
        ids = tuple(f"{parent}#{copy}" if copy else parent for parent, copy in named)
        yield encode(Chunk(chunk_images, work.class_ids[part], ids, parents))


def write_shard(out: Path, work: Work, owner: str) -> dict[str, Any]:
    """Writes one shard, checks that it can be read, moves it into place, and marks it finished.

    Its bytes depend on `work` alone. Returns its entry of the manifest. OSError when the disk is
    full or cannot be written.
    """
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    path = out / work.file
    unfinished = build_state.unfinished_path(path, owner)
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
    """Writes every shard that is not finished; (their manifest entries in order, number kept).

    `works` are the names of shards and what makes their work. The bytes do not depend on the number
    of `workers`, which have ended when this does: none writes on behind it. At most one shard more
    than there are of them is in memory.
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
