"""Counts and times of a server's work, in the text format of Prometheus; no content of requests."""

import bisect
import time
from collections import Counter
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LATENCY_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCH_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Histogram:
    """Cumulative counts of observations up to each bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float | int) -> None:
        """Counts an observation."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """The lines of a metric."""
        total = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            told = "+Inf" if bound is None else f"{bound:g}"
            yield f'{name}_bucket{{le="{told}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """Counts since the start, and current amounts. For use by one thread."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()  # 499: the client went away in mid-request
        self.images: Counter[str] = Counter()
        self.latency_s = Histogram(LATENCY_S)
        self.batch_size = Histogram(BATCH_SIZES)
        self.network_s = 0.0
        self.num_queued = 0  # images accepted and not answered
        self.num_held_bytes = 0  # of bodies
        self.is_ready = False

    def add_batch(self, size: int, seconds: float) -> None:
        """Counts a pass through the network."""
        self.batch_size.observe(size)
        self.network_s += seconds

    def text(self) -> str:
        """All metrics."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Answers to POST /predict, by status.")
        for status, count in sorted(self.statuses.items()):
            yield f'kkanji_requests_total{{status="{status}"}} {count}'
        yield from _head("images_total", "counter", "Images in answers, by verdict, or error.")
        for verdict, count in sorted(self.images.items()):
            yield f'kkanji_images_total{{verdict="{verdict}"}} {count}'
        yield from _head("request_seconds", "histogram", "From a request's head to its answer.")
        yield from self.latency_s.lines("kkanji_request_seconds")
        yield from _head("batch_images", "histogram", "Images that went through the network.")
        yield from self.batch_size.lines("kkanji_batch_images")
        yield from _head("network_seconds_total", "counter", "Time in the network.")
        yield f"kkanji_network_seconds_total {self.network_s:.6f}"
        yield from _head("queued_images", "gauge", "Images accepted and not answered.")
        yield f"kkanji_queued_images {self.num_queued}"
        yield from _head("held_bytes", "gauge", "Bytes of bodies in memory.")
        yield f"kkanji_held_bytes {self.num_held_bytes}"
        yield from _head("ready", "gauge", "1 when the model is loaded.")
        yield f"kkanji_ready {int(self.is_ready)}"


class CountedAnswers:
    """Counts every answer of `app` to POST `path` by its status, whichever part gave it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, path: str) -> None:
        self._app, self._metrics, self._path = app, metrics, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["type"], scope.get("method"), scope.get("path")) != ("http", "POST", self._path):
            await self._app(scope, receive, send)
            return
        began_s, status = time.monotonic(), None

        def count(answered: int) -> None:
            self._metrics.statuses[answered] += 1
            self._metrics.latency_s.observe(time.monotonic() - began_s)

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                count(status)  # before anybody has the answer, who may ask for the counts
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            if status is None:
                count(500)  # a fault, which is answered outside of `app`


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# HELP kkanji_{name} {told}"
    yield f"# TYPE kkanji_{name} {kind}"
