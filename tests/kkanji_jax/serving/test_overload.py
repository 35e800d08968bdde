"""More than it can answer: it says so at once, answers what it accepted, and recovers."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from kkanji_jax.serving.limits import Limits
from kkanji_jax.serving.service import Service

from .conftest import WITHIN_S, encoded, picture

GOOD = encoded(picture(1))


@pytest.fixture
def gate(recogniser, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The network waits until it is set."""
    gate, outputs = threading.Event(), recogniser.outputs

    def wait_and_run(glyphs):
        assert gate.wait(WITHIN_S)
        return outputs(glyphs)

    gate.set()
    monkeypatch.setattr(recogniser, "outputs", wait_and_run)
    yield gate
    gate.set()


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def ready(url: str) -> bool:
    return httpx.get(f"{url}/health", timeout=WITHIN_S).status_code == 200


def test_a_full_queue_is_told_and_empties(recogniser, gate: threading.Event, in_thread):
    limits = replace(Limits(), max_queue=4, max_images=4)
    service = Service(lambda: recogniser, limits)
    url = in_thread(service)
    wait_until(lambda: ready(url))
    gate.clear()
    with ThreadPoolExecutor(4) as pool, httpx.Client(base_url=url, timeout=WITHIN_S) as client:
        waiting = [pool.submit(client.post, "/predict", content=GOOD) for _ in range(4)]
        wait_until(lambda: service.metrics.num_queued == 4)
        refused = client.post("/predict", content=GOOD)
        assert refused.status_code == 429 and refused.headers["Retry-After"] == "1"
        assert refused.json() == {"error": "too busy: 4 images are waiting; try again in a second"}
        assert client.get("/health").status_code == 200
        gate.set()
        answers = [one.result() for one in waiting]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert len({answer.content for answer in answers}) == 1
        assert client.post("/predict", content=GOOD).content == answers[0].content
    assert service.metrics.statuses == {200: 5, 429: 1}


def test_a_request_that_does_not_fit_beside_the_others_waits_its_turn(
    recogniser, gate: threading.Event, in_thread
):
    service = Service(lambda: recogniser, replace(Limits(), max_queue=4, max_images=4))
    url = in_thread(service)
    wait_until(lambda: ready(url))
    gate.clear()
    files = [("f", (f"{n}.png", GOOD)) for n in range(4)]
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, timeout=WITHIN_S) as client:
        one = pool.submit(client.post, "/predict", content=GOOD)
        wait_until(lambda: service.metrics.num_queued == 1)
        assert client.post("/predict", files=files).status_code == 429
        gate.set()
        assert one.result().status_code == 200
        assert client.post("/predict", files=files).status_code == 200
    assert service.metrics.num_queued == service.metrics.num_held_bytes == 0


def test_bodies_that_fill_the_memory_are_refused_until_there_is_room(
    recogniser, gate: threading.Event, in_thread
):
    most = len(GOOD) + 100
    service = Service(lambda: recogniser, replace(Limits(), max_bytes=most, max_held_bytes=most))
    url = in_thread(service)
    wait_until(lambda: ready(url))
    gate.clear()
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, timeout=WITHIN_S) as client:
        one = pool.submit(client.post, "/predict", content=GOOD)
        wait_until(lambda: service.metrics.num_queued == 1)
        refused = client.post("/predict", content=GOOD)
        assert refused.status_code == 429 and "fill the memory" in refused.text
        gate.set()
        assert one.result().status_code == 200
        assert client.post("/predict", content=GOOD).status_code == 200


def test_until_the_model_is_loaded_it_says_so(recogniser, in_thread):
    may_load = threading.Event()

    def load():
        assert may_load.wait(WITHIN_S)
        return recogniser

    url = in_thread(Service(load, Limits()))

    def health() -> httpx.Response | None:
        try:
            return httpx.get(f"{url}/health", timeout=WITHIN_S)
        except httpx.ConnectError:
            return None

    wait_until(lambda: health() is not None)
    told = httpx.get(f"{url}/health")
    assert (told.status_code, told.json()["status"]) == (503, "loading")
    refused = httpx.post(f"{url}/predict", content=GOOD)
    assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
    assert refused.json() == {"error": "the model is being loaded"}
    may_load.set()
    wait_until(lambda: ready(url))
    assert httpx.post(f"{url}/predict", content=GOOD, timeout=WITHIN_S).status_code == 200


def test_an_error_of_the_network_is_status_500_and_the_next_request_is_answered(
    recogniser, in_thread, monkeypatch: pytest.MonkeyPatch, caplog
):
    service = Service(lambda: recogniser, Limits())
    url = in_thread(service, allow_origins=["https://example.org"])
    wait_until(lambda: ready(url))
    with monkeypatch.context() as broken:

        def fail(glyphs):
            raise ValueError("planted")

        broken.setattr(recogniser, "outputs", fail)
        asked = {"Origin": "https://example.org"}
        answer = httpx.post(f"{url}/predict", content=GOOD, headers=asked, timeout=WITHIN_S)
        other = {"Origin": "https://example.com"}
        unseen = httpx.post(f"{url}/predict", content=GOOD, headers=other, timeout=WITHIN_S)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"
    assert "Access-Control-Allow-Origin" not in unseen.headers and unseen.status_code == 500
    assert answer.headers["Vary"] == unseen.headers["Vary"] == "Origin"
    assert answer.status_code == 500
    assert answer.json() == {"error": "an error of the server: its log says more"}
    assert httpx.post(f"{url}/predict", content=GOOD, timeout=WITHIN_S).status_code == 200
    assert service.metrics.statuses == {500: 2, 200: 1}


def test_a_model_that_cannot_be_loaded_stops_the_server(in_thread):
    stopped = threading.Event()

    def fail():
        raise ValueError("damaged")

    service = Service(fail, Limits(), on_failure=stopped.set)
    in_thread(service)
    assert stopped.wait(WITHIN_S) and str(service.failure) == "damaged"
