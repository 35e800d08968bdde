"""A server that misbehaves to order."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest


class BadServer(ThreadingHTTPServer):
    """Serves `files` by path; `faults` has, by path, what goes wrong, one entry a request.

    Faults: cut:N (closes after N bytes), stall:N (goes silent after N), drop (closes at once),
    no-range, lie-range (206 from another place), longer / shorter (a false Content-Length), html,
    status:N, more (goes on after the end). `requests` lists (path, Range, If-Range) as they came.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.has_validator = files, True
        self.faults: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.pause_s = 0.0  # after every 1,000 bytes
        self.is_over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dataset/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what is tested, not an error to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BadServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.removeprefix("/dataset/")
        server, expected = self.server, self.headers.get("Range")
        server.requests.append((path, expected, self.headers.get("If-Range")))
        faults = server.faults.get(path, [])
        fault, _, number = (faults.pop(0) if faults else "").partition(":")
        content = server.files.get(path)
        self.close_connection = True
        if fault == "drop":
            return
        if fault == "status" or content is None:
            self.send_response(int(number or 404))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "html":
            page = b"<!DOCTYPE html><p>We are being maintained."
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        start, match = 0, re.fullmatch(r"bytes=(\d+)-", expected or "")
        if match and fault != "no-range" and self.headers.get("If-Range") in (None, etag):
            start = int(match[1])
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = start // 2 if fault == "lie-range" else start
        stated = len(content) - start + {"longer": 7, "shorter": -7}.get(fault, 0)
        self.send_response(206 if start or fault == "lie-range" else 200)
        if start or fault == "lie-range":
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.has_validator:
            self.send_header("ETag", etag)
        if fault != "more":
            self.send_header("Content-Length", str(stated))
        self.end_headers()
        body = content[start:] + (b"and more" if fault == "more" else b"")
        body = body[: int(number)] if fault in ("cut", "stall") else body
        for at in range(0, len(body), 1000):
            self.wfile.write(body[at : at + 1000])
            self.wfile.flush()
            time.sleep(server.pause_s)
        if fault == "stall":
            server.is_over.wait(20)


@pytest.fixture
def server() -> Iterator[BadServer]:
    """A BadServer in a thread of its own, of three files of some ten thousand bytes."""
    rng = np.random.default_rng(5)
    names = ("kkanji/kkanji.tar", "k49/k49-test-imgs.npz", "k49/k49_classmap.csv")
    server = BadServer({name: rng.bytes(10_000 + 100 * n) for n, name in enumerate(names)})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()
