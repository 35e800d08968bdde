"""The processes that write shards."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from data_tools import build_state, shards
from data_tools.progress import Report, say_nothing


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
    works: Iterable[tuple[str, Callable[[], shards.Work]]],
    *,
    owner: str,
    num_examples: int,
    workers: int,
    report: Report = say_nothing,
) -> tuple[list[dict[str, Any]], int]:
    """Writes every shard that is not finished; (their manifest entries in order, number kept).

    `works` are the names of shards and what makes their work. The bytes do not depend on `workers`.
    At most workers + 1 shards are in memory.
    """
    entries: list[dict[str, Any]] = []
    num_kept = done = 0

    def add(entry: dict[str, Any]) -> None:
        nonlocal done
        entries.append(entry)
        done += entry["num_examples"]
        report("writing examples", done, num_examples)

    def iterate_missing() -> Iterator[shards.Work]:
        nonlocal num_kept
        for file, make_work in works:
            entry = build_state.read_mark(out, file)
            if entry is None:
                yield make_work()
            else:
                num_kept += 1
                add(entry)

    report("writing examples", 0, num_examples)
    if workers == 1:
        for work in iterate_missing():
            add(shards.write_shard(out, work, owner))
    else:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker)
        pending: set[Future[dict[str, Any]]] = set()
        try:
            for work in iterate_missing():
                with _interrupts_held():  # submitting is what starts the workers
                    pending.add(pool.submit(shards.write_shard, out, work, owner))
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
