"""Bodies become files to read; what a body costs is in proportion to its bytes."""

import asyncio
import tracemalloc

import pytest
from starlette.requests import Request

from kkanji_jax.serving.limits import Limits, Refusal
from kkanji_jax.serving.service import Service
from kkanji_jax.serving.uploads import JSON, uploads_of

NUM = 30_000
BODIES = {
    "images without content": b'{"images": [%s]}' % b",".join([b"{}"] * NUM),
    "boxes without sides": b'{"images": [{"content": "AA==", "boxes": [%s]}]}'
    % b",".join([b"{}"] * NUM),
    "unknown fields": b"{%s}" % b",".join(b'"%d": 0' % number for number in range(NUM)),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_of_very_many_parts_is_refused_without_an_error_for_each(name: str):
    body = BODIES[name]
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            uploads_of(body, JSON, Limits())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.status in (413, 422)
    # An object of Python for three bytes of JSON; an error for each was several hundred.
    assert peak_bytes < 60 * len(body)


def test_a_body_is_in_memory_once_while_it_is_read():
    num_chunks, chunk_bytes = 40, 100_000
    sent = iter(range(num_chunks))

    async def receive() -> dict[str, object]:
        number = next(sent)
        body = bytes([number]) * chunk_bytes
        return {"type": "http.request", "body": body, "more_body": number < num_chunks - 1}

    async def held_bytes() -> int:
        service = Service(lambda: pytest.fail("no model is wanted"), Limits())
        request = Request({"type": "http", "headers": []}, receive)
        before = tracemalloc.get_traced_memory()[0]
        async with service._body_of(request) as body:
            assert len(body) == service.metrics.num_held_bytes == num_chunks * chunk_bytes
            held = tracemalloc.get_traced_memory()[0] - before
        assert service.metrics.num_held_bytes == 0
        return held

    tracemalloc.start()
    try:
        assert asyncio.run(held_bytes()) < 1.3 * num_chunks * chunk_bytes
    finally:
        tracemalloc.stop()
