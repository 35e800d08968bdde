"""Batches: glyphs of several requests go through the network together."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from kkanji_jax.array_types import Float32, UInt8

Outputs = tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]]


class _Entry(NamedTuple):
    """One request's glyphs, and the future of their outputs."""

    glyphs: UInt8[np.ndarray, "n 64 64"]
    answer: "asyncio.Future[Outputs]"
    came_s: float


class Batcher:
    """Runs `network` in one thread, on the glyphs of all requests that wait for it.

    A batch begins when the network is free. It consists of whole requests, in the order of arrival,
    of up to `batch_size` glyphs together (a single larger request is a batch of its own). If other
    requests are being decoded (`coming`), it waits for them for at most `wait_s` after its first
    request arrived. `on_batch` is called with the number of glyphs of each batch and the seconds
    that it took.
    """

    def __init__(
        self,
        network: Callable[[np.ndarray], Outputs],
        *,
        batch_size: int,
        wait_s: float,
        on_batch: Callable[[int, float], None],
    ) -> None:
        self._network, self._on_batch = network, on_batch
        self._batch_size, self._wait_s = batch_size, wait_s
        self._entries: deque[_Entry] = deque()
        self._num_coming = 0
        self._news = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, "network")

    @contextlib.contextmanager
    def coming(self) -> Iterator[None]:
        """A context in which a request is being decoded; it will call `outputs`."""
        self._num_coming += 1
        try:
            yield
        finally:
            self._num_coming -= 1
            self._news.set()

    async def outputs(self, glyphs: UInt8[np.ndarray, "n 64 64"]) -> Outputs:
        """The network's outputs for one request's glyphs; raises what the network raises."""
        answer: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self._entries.append(_Entry(glyphs, answer, time.monotonic()))
        self._news.set()
        return await answer

    async def run(self) -> None:
        """Runs batches until it is cancelled, after the last answer."""
        try:
            while True:
                batch = await self._next_batch()
                await self._answer(batch)
        finally:
            self._worker.shutdown(wait=False)

    async def _next_batch(self) -> list[_Entry]:
        while not self._entries:
            self._news.clear()
            await self._news.wait()
        until_s = self._entries[0].came_s + self._wait_s
        while self._num_coming and self._num_waiting < self._batch_size:
            remaining_s = until_s - time.monotonic()
            if remaining_s <= 0:
                break
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), remaining_s)
        batch = [self._entries.popleft()]
        size = len(batch[0].glyphs)
        while self._entries and size + len(self._entries[0].glyphs) <= self._batch_size:
            batch.append(self._entries.popleft())
            size += len(batch[-1].glyphs)
        return batch

    @property
    def _num_waiting(self) -> int:
        return sum(len(entry.glyphs) for entry in self._entries)

    async def _answer(self, batch: list[_Entry]) -> None:
        glyphs = np.concatenate([entry.glyphs for entry in batch])
        began_s = time.monotonic()
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._worker, self._network, glyphs)
        await asyncio.wait([done])
        self._on_batch(len(glyphs), time.monotonic() - began_s)
        error, start = done.exception(), 0
        for entry in batch:
            end = start + len(entry.glyphs)
            if entry.answer.done():
                pass  # its request was cancelled
            elif error is not None:
                entry.answer.set_exception(error)
            else:
                logits, features = done.result()
                entry.answer.set_result((logits[start:end], features[start:end]))
            start = end
