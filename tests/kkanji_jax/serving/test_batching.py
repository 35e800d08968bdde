"""Which glyphs go through the network together, and who gets which outputs."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from kkanji_jax.serving.batching import Batcher

Work = Callable[[Batcher], Coroutine[Any, Any, None]]


class Network:
    """Says of each glyph its first pixel; keeps the size of every batch. Waits for its gate."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, glyphs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self.gate.wait(60)
        self.sizes.append(len(glyphs))
        if (glyphs == 13).any():
            raise ValueError("thirteen")
        told = glyphs[:, 0, :1].astype(np.float32)
        return told, told + 1


def glyphs_of(*values: int) -> np.ndarray:
    return np.broadcast_to(np.array(values, np.uint8)[:, None, None], (len(values), 64, 64)).copy()


def run(network: Network, work: Work, batch_size: int = 8, wait_s: float = 30.0) -> list[float]:
    """Does the work with a batcher of this network; what it was told of each batch's length."""
    told = []

    async def main() -> None:
        batcher = Batcher(
            network, batch_size=batch_size, wait_s=wait_s, on_batch=lambda n, s: told.append(n)
        )
        running = asyncio.create_task(batcher.run())
        await asyncio.wait_for(work(batcher), 60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    return told


async def values_of(batcher: Batcher, *values: int) -> list[float]:
    logits, features = await batcher.outputs(glyphs_of(*values))
    assert (features == logits + 1).all()
    return logits[:, 0].tolist()


def test_what_comes_while_the_network_is_busy_goes_together_and_each_gets_its_own():
    network = Network()
    network.gate.clear()

    async def work(batcher: Batcher) -> None:
        first = asyncio.create_task(values_of(batcher, 1))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(values_of(batcher, n, n + 1)) for n in (20, 30, 40)]
        await asyncio.sleep(0.05)
        network.gate.set()
        assert await first == [1]
        assert await asyncio.gather(*others) == [[20, 21], [30, 31], [40, 41]]

    assert run(network, work) == network.sizes == [1, 6]


def test_a_request_alone_is_not_kept_waiting():
    began_s = time.monotonic()

    async def work(batcher: Batcher) -> None:
        assert await values_of(batcher, 5) == [5]

    run(Network(), work)
    assert time.monotonic() - began_s < 20  # of the 30 s that it waits for others


def test_requests_that_are_coming_are_waited_for():
    network = Network()

    async def work(batcher: Batcher) -> None:
        with batcher.coming():
            first = asyncio.create_task(values_of(batcher, 1))
            await asyncio.sleep(0.1)
            assert not network.sizes
        second = asyncio.create_task(values_of(batcher, 2))
        assert await asyncio.gather(first, second) == [[1], [2]]

    run(network, work)
    assert network.sizes == [2]


def test_what_is_coming_is_not_waited_for_longer_than_said():
    network = Network()

    async def work(batcher: Batcher) -> None:
        with batcher.coming():
            assert await values_of(batcher, 1) == [1]

    run(network, work, wait_s=0.05)
    assert network.sizes == [1]


def test_a_full_batch_does_not_wait():
    network = Network()

    async def work(batcher: Batcher) -> None:
        with batcher.coming():
            assert await values_of(batcher, *range(1, 9)) == list(range(1, 9))

    run(network, work)
    assert network.sizes == [8]


def test_a_batch_is_no_larger_than_said_unless_one_request_is():
    network = Network()
    network.gate.clear()

    async def work(batcher: Batcher) -> None:
        asked = [range(n, n + size) for n, size in ((20, 3), (30, 3), (40, 3), (60, 11), (80, 1))]
        first = asyncio.create_task(values_of(batcher, 1))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(values_of(batcher, *values)) for values in asked]
        await asyncio.sleep(0.05)
        network.gate.set()
        await first
        assert await asyncio.gather(*others) == [list(values) for values in asked]

    run(network, work)
    assert network.sizes == [1, 6, 3, 11, 1]


def test_an_error_of_the_network_is_told_to_its_batch_and_the_next_is_read():
    network = Network()

    async def work(batcher: Batcher) -> None:
        with pytest.raises(ValueError, match="thirteen"):
            await values_of(batcher, 13)
        assert await values_of(batcher, 14) == [14]

    run(network, work)


def test_a_request_that_is_given_up_does_not_hold_up_the_others():
    network = Network()
    network.gate.clear()

    async def work(batcher: Batcher) -> None:
        given_up = asyncio.create_task(values_of(batcher, 1))
        await asyncio.sleep(0.05)
        given_up.cancel()
        waiting = asyncio.create_task(values_of(batcher, 2))
        network.gate.set()
        assert await waiting == [2]

    run(network, work)
