"""A server as people start it, in a process of its own on the loopback; and images to send."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 120  # for any one thing to happen, on a machine that is busy with others


def picture(seed: int, size: tuple[int, int] = (120, 140)) -> Image.Image:
    """Dark strokes on paper: something like a character, and another one for another seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, (226, 214, 190))
    low, high = (int(0.15 * min(size)), int(0.85 * min(size)))
    for _ in range(3):
        points = rng.integers(low, high, (3, 2))
        ImageDraw.Draw(image).line([tuple(p) for p in points.tolist()], (40, 34, 30), width=8)
    return image.filter(ImageFilter.GaussianBlur(0.8))


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


class ServerProcess:
    """`python -m kkanji_jax.serve` with these arguments; `started` waits until it is ready."""

    def __init__(self, log: Path, *arguments: object, program: tuple[str, ...] = ()) -> None:
        self.log = log
        command = [sys.executable, *(program or ("-m", "kkanji_jax.serve"))]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*command, "--port", "0", *map(str, arguments)],
                cwd=ROOT if (ROOT / "kkanji_jax").is_dir() else None,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.url = ""

    def started(self) -> "ServerProcess":
        self.url = self._wait_for(lambda: re.search(r"on (http://\S+)\n", self.text()))[1]
        self._wait_for(lambda: httpx.get(f"{self.url}/health").status_code == 200)
        return self

    def _wait_for(self, found):
        end = time.monotonic() + WITHIN_S
        while not (answer := found()):
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.05)
        return answer

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def client(self, **settings) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=WITHIN_S, **settings)

    def count(self, name: str) -> float:
        """One number of /metrics; 0 where it is not yet told."""
        for line in httpx.get(f"{self.url}/metrics", timeout=WITHIN_S).text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def cpu_s(self) -> float:
        """What it has spent, in user and system mode."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)

    def stop_without_a_word(self) -> None:
        """Stops it, and objects if it has logged anything: an error, or what somebody sent."""
        assert self.stop() == 0, self.text()
        assert re.fullmatch(r"serving \S+ on \S+\nstopped\n", self.text()), self.text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers, to be stopped by the test; what is left is killed."""
    servers: list[ServerProcess] = []

    def call(*arguments: object, program: tuple[str, ...] = ()) -> ServerProcess:
        log = tmp_path / f"server{len(servers)}.log"
        servers.append(ServerProcess(log, *arguments, program=program))
        return servers[-1]

    yield call
    for server in servers:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The model of the package by ONNX, with the limits as they are by default."""
    pytest.importorskip("onnxruntime")
    server = ServerProcess(tmp_path_factory.mktemp("server") / "log")
    try:
        yield server.started()
        server.stop_without_a_word()
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def recogniser():
    """The model of the package by ONNX, in this process."""
    from kkanji_jax.inference.recogniser import load

    return load(backend="onnx")


@pytest.fixture
def in_thread() -> Iterator[Callable[..., str]]:
    """Serves a Service in a thread of this process, where tests reach into it; gives its URL."""
    from kkanji_jax.serving.app import make_app
    from kkanji_jax.serving.server import listening, make_server, serve_until_stopped, url_of

    running = []

    def call(service, allow_origins=()) -> str:
        about = {"model": "m", "version": "0"}
        app = make_app(service, [], about=about, allow_origins=allow_origins)
        server, listener = make_server(app, service.limits), listening("127.0.0.1", 0)
        url = url_of(listener)
        thread = threading.Thread(target=serve_until_stopped, args=(server, listener))
        thread.start()
        running.append((server, thread))
        return url

    yield call
    for server, thread in running:
        server.should_exit = True
        thread.join(WITHIN_S)
        assert not thread.is_alive()
