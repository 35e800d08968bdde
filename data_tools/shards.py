"""Examples -> shards: chunked ArrayRecord files, whose bytes depend on nothing but the examples."""

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from data_tools import build_state
from data_tools.combine import Original, stack_images
from data_tools.progress import Report, say_nothing
from data_tools.sources import sha256_of
from kkanji_jax.data.balance import mix_address
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.records import Chunk, address_of, encode

CHUNK_SIZE = 256  # examples a record
SHARD_EXAMPLES = 16_384  # at most: 64 MiB of pixels, some 20 MB on disk
WRITER_OPTIONS = "group_size:1,zstd:1"
BLOCK = 2**20  # examples planned at a time: 38 million would fill the memory otherwise
_SHARD_SALT = 0x5A4D  # so that the stored order is not the order of any other use of the seed


class Selection(NamedTuple):
    """The examples of one split in stored order: rows of the originals, and copy numbers."""

    split: str
    rows: Int32[np.ndarray, " n"]
    copies: Int32[np.ndarray, " n"]


class Work(NamedTuple):
    """All that one shard is made of; a worker needs nothing else."""

    file: str
    split: str
    chunk_size: int
    seed: int
    policy: str | None
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


def iterate_works(
    selection: Selection,
    originals: Sequence[Original],
    class_ids: Int32[np.ndarray, " n"],
    *,
    seed: int,
    policy: str | None,
    chunk_size: int,
    shard_examples: int,
) -> Iterator[Work]:
    """The shards of a split, of whole records but for the last, as even as that allows."""
    num_records = -(-len(selection.rows) // chunk_size)
    num_shards = -(-len(selection.rows) // shard_examples)
    for number in range(num_shards):
        start = num_records * number // num_shards * chunk_size
        end = num_records * (number + 1) // num_shards * chunk_size
        rows, copies = selection.rows[start:end], selection.copies[start:end]
        distinct, picks = np.unique(rows, return_inverse=True)
        parents = [originals[row] for row in distinct]
        yield Work(
            file=f"{selection.split}-{number:05d}-of-{num_shards:05d}.array_record",
            split=selection.split,
            chunk_size=chunk_size,
            seed=seed,
            policy=policy,
            pixels=[parent.pixels for parent in parents],
            parent_ids=[parent.sample_id for parent in parents],
            picks=picks.astype(np.int32),
            copies=copies,
            class_ids=class_ids[rows],
        )


@lru_cache(maxsize=1)
def _make_augmenter(policy: str, seed: int) -> Callable[[Any, str, int], Any]:
    from data_tools.host_augment import HostAugmenter
    from kkanji_jax.data.policy import get_policy

    return HostAugmenter(get_policy(policy), seed)


def _iterate_records(work: Work) -> Iterator[bytes]:
    images = stack_images(work.pixels)
    for start in range(0, len(work.picks), work.chunk_size):
        part = slice(start, start + work.chunk_size)
        picks, copies = work.picks[part], work.copies[part].tolist()
        parents = tuple(work.parent_ids[pick] for pick in picks)
        chunk_images = images[picks]
        for place, copy in enumerate(copies):
            if copy:
                if work.policy is None:
                    raise ValueError(f"copy {copy} of {parents[place]} wants a policy, got none")
                augment = _make_augmenter(work.policy, work.seed)
                chunk_images[place] = augment(chunk_images[place], parents[place], copy)
        ids = (f"{p}#{c}" if c else p for p, c in zip(parents, copies, strict=True))
        yield encode(Chunk(chunk_images, work.class_ids[part], tuple(ids), parents))


@contextmanager
def _naming_in_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as err:  # what ArrayRecord raises for a full disk, among others
        raise OSError(f"cannot write {path}: {err}") from err


def write_shard(out: Path, work: Work) -> dict[str, Any]:
    """Writes one shard, checks that it can be read, moves it into place, and marks it finished.

    Returns its entry of the manifest. OSError when the disk is full or cannot be written.
    """
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    path = out / work.file
    unfinished = build_state.unfinished_path(path)
    num_records = 0
    with _naming_in_errors(path):
        writer = ArrayRecordWriter(str(unfinished), WRITER_OPTIONS)
    for record in _iterate_records(work):
        with _naming_in_errors(path):
            writer.write(record)
        num_records += 1
    with _naming_in_errors(path):
        writer.close()
        reader = ArrayRecordReader(str(unfinished), "readahead_buffer_size:0,max_parallelism:0")
        # A broken file opens silently, with no record in it.
        is_whole = reader.ok() and reader.num_records() == num_records
        reader.close()
    if not is_whole:
        raise OSError(f"cannot write {path}: it does not read back; is the disk full?")
    build_state.sync(unfinished)
    entry = {
        "file": work.file,
        "split": work.split,
        "num_records": num_records,
        "num_examples": len(work.picks),
        "bytes": unfinished.stat().st_size,
        "sha256": sha256_of(unfinished),
    }
    os.replace(unfinished, path)
    build_state.mark_finished(out, entry)
    return entry


def _start_worker() -> None:
    """Ends this worker with its parent, however that ends."""
    parent = parent_process()
    if parent is not None:

        def watch(sentinel: int) -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back meanwhile; a process started meanwhile never hears it at all.

    A terminal sends it to the workers too, even while they are still importing, and it is the
    parent's to answer. The mask of blocked signals, unlike a handler, is inherited.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def write_shards(
    out: Path,
    works: Iterable[Work],
    *,
    num_examples: int,
    workers: int,
    report: Report = say_nothing,
) -> tuple[list[dict[str, Any]], int]:
    """Writes every shard that is not finished; (manifest entries sorted by file, number kept).

    The bytes do not depend on `workers`. At most workers + 1 shards are in memory.
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
        for work in works:
            entry = build_state.read_mark(out, work.file)
            if entry is None:
                yield work
            else:
                num_kept += 1
                add(entry)

    report("writing examples", 0, num_examples)
    if workers == 1:
        for work in iterate_missing():
            add(write_shard(out, work))
    else:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker)
        pending: set[Future[dict[str, Any]]] = set()
        try:
            for work in iterate_missing():
                with _interrupts_held():  # submitting is what starts the workers
                    pending.add(pool.submit(write_shard, out, work))
                if len(pending) > workers:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in finished:
                        add(future.result())
            for future in pending:
                add(future.result())
        except BrokenProcessPool as err:
            raise OSError(
                "a worker was killed, perhaps for memory: the same command again goes on where "
                "this one stopped, --workers 1 needs the least memory"
            ) from err
        finally:
            pool.shutdown(cancel_futures=True)
    return sorted(entries, key=lambda entry: entry["file"]), num_kept


def catalogue_digest(originals: Iterable[Original]) -> str:
    """SHA-256 of what the originals are: ids, code points and pixels."""
    digest = hashlib.sha256()
    for original in originals:
        line = (original.sample_id, original.codepoint, original.pixels_sha256)
        digest.update(("\t".join(line) + "\n").encode())
    return digest.hexdigest()


def count_splits(
    selections: Iterable[Selection], class_ids: Int32[np.ndarray, " n"], index: ClassIndex
) -> dict[str, dict[str, Any]]:
    """The `splits` of a manifest: examples and classes of each split."""
    splits = {}
    for selection in selections:
        ids, counts = np.unique(class_ids[selection.rows], return_counts=True)
        class_counts = zip((index.codepoints[i] for i in ids), counts.tolist(), strict=True)
        splits[selection.split] = {
            "num_examples": len(selection.rows),
            "num_classes": len(ids),
            "class_counts": dict(class_counts),
        }
    return splits
