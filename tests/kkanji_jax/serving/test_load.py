"""Many clients at once: all get their rows, in fewer passes through the network."""

import asyncio
import statistics

import httpx
import pytest

from .conftest import WITHIN_S, ServerProcess, encoded, picture

IMAGES = [encoded(picture(seed)) for seed in range(8)]


def send(url: str, num_requests: int, num_clients: int) -> list[bytes]:
    """The answers to requests by so many clients, in order; each sends when it has its answer."""
    answers: list[bytes] = [b""] * num_requests
    numbers = iter(range(num_requests))

    async def main() -> None:
        limits = httpx.Limits(max_connections=num_clients)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=WITHIN_S) as client:

            async def work() -> None:
                for number in numbers:
                    answer = await client.post("/predict", content=IMAGES[number % len(IMAGES)])
                    assert answer.status_code == 200, answer.text
                    answers[number] = answer.content

            await asyncio.gather(*(work() for _ in range(num_clients)))

    asyncio.run(main())
    return answers


def test_requests_at_once_share_passes_and_get_the_same_rows_to_the_byte(server: ServerProcess):
    def num_passes() -> float:
        return server.count("kkanji_batch_images_count")

    before = num_passes()
    alone = send(server.url, len(IMAGES), 1)
    assert num_passes() - before == len(IMAGES) == len(set(alone))
    before = num_passes()
    at_once = send(server.url, 200, 32)
    assert at_once == alone * 25
    assert num_passes() - before <= 0.7 * 200


@pytest.mark.slow
def test_requests_at_once_cost_less_than_one_after_another(server: ServerProcess):
    """In CPU seconds of the server, which other programs disturb least."""

    def cpu_s(num_clients: int) -> float:
        before = server.cpu_s()
        send(server.url, 150, num_clients)
        return server.cpu_s() - before

    cpu_s(8)
    ratios = [cpu_s(1) / cpu_s(32) for _ in range(5)]
    assert statistics.median(ratios) > 1.05, ratios
