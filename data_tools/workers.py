"""The worker processes of a build."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def _start_worker() -> None:
    """Makes this worker end with its parent, however the parent ends."""
    parent = parent_process()
    if parent is not None:

        def watch(sentinel: int) -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


@contextmanager
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


def _take(pending: deque[Future[Result]], *, in_order: bool) -> Result:
    """Waits for the first task submitted, or the first to finish; returns its result."""
    if in_order:
        return pending.popleft().result()
    finished = wait(pending, return_when=FIRST_COMPLETED).done.pop()
    pending.remove(finished)
    return finished.result()


class Workers:
    """`count` processes, each started when there is work for it; with 1, this process itself.

    Leaving `with` ends them once all are idle; they cannot be used after that.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"workers want at least 1, got {count}")
        self.count = count
        self._pool = None
        if count > 1:
            spawn = get_context("spawn")
            self._pool = ProcessPoolExecutor(count, spawn, initializer=_start_worker)

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
        if self._pool is None:
            yield from map(function, items)
            return
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                with _interrupts_held():  # submitting is what starts the workers
                    pending.append(self._pool.submit(function, item))
                if len(pending) >= most:
                    yield _take(pending, in_order=in_order)
            while pending:
                yield _take(pending, in_order=in_order)
        except BrokenProcessPool as err:
            raise OSError(
                "a worker was killed, perhaps for memory: the same command resumes, and "
                "--workers 1 needs the least memory"
            ) from err
