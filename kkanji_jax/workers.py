"""Worker processes on this machine, and how many cores there are for them."""

import contextlib
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """The cores that this process may use; OMP_NUM_THREADS, as a cluster sets it, if it is less."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    most = int(told) if told.isascii() and told.isdigit() and int(told) else sys.maxsize
    return min(most, num_allowed_cores())


def num_allowed_cores() -> int:
    """The cores that the operating system lets this process use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_worker() -> None:
    """Makes this worker end with its parent, however the parent ends."""
    parent = parent_process()
    if parent is not None:

        def watch(sentinel: int) -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Blocks Ctrl-C inside the context; a process started there never receives it.

    A terminal sends it to the workers too, even while they are still importing, but only the parent
    should react. The mask of blocked signals, unlike a handler, is inherited.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Workers:
    """`count` processes, each started when there is work for it; with 1, this process itself.

    Leaving `with` ends them once all are idle; they cannot be used after that. OSError where the
    system cannot have them.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"--workers must be at least 1, not {count}")
        self.count = count
        self._pool = None
        if count > 1:
            spawn = get_context("spawn")
            try:
                self._pool = ProcessPoolExecutor(count, spawn, initializer=_start_worker)
            except (OSError, NotImplementedError) as err:  # without semaphores
                raise OSError(f"this system has no worker processes ({err}): --workers 1") from err

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        most: int,
        in_order: bool = True,
    ) -> Iterator[Result]:
        """`function` of each of `items`, in their order or in that in which they finish.

        At most `most` items are taken ahead of the results, so that neither fills the memory.
        OSError if a worker is killed.
        """
        start = self._starter(function)
        if start is None:
            yield from map(function, items)
            return
        pending: deque[Any] = deque()
        for item in items:
            pending.append(start(item))
            if len(pending) >= most:
                yield self._take(pending, in_order=in_order)
        while pending:
            yield self._take(pending, in_order=in_order)

    def _starter(self, function: Callable[[Item], Any]) -> Callable[[Item], Any] | None:
        """What starts the work on an item, and returns a task for `_take`; None: do it here."""
        pool = self._pool
        if pool is None:
            return None

        def start(item: Item) -> Future[Any]:
            with _killing_told(), _interrupts_held():  # submitting is what starts the workers
                return pool.submit(function, item)

        return start

    def _take(self, pending: deque[Any], *, in_order: bool) -> Any:
        """Waits for the first task submitted, or the first to finish; returns its result."""
        task = pending[0] if in_order else wait(pending, return_when=FIRST_COMPLETED).done.pop()
        pending.remove(task)
        with _killing_told():
            return task.result()


@contextlib.contextmanager
def _killing_told() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as err:
        raise OSError(
            "a worker was killed, perhaps for memory: the same command resumes, and "
            "--workers 1 needs the least memory"
        ) from err
