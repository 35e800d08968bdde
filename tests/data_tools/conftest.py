"""Folders laid out as CODH does, of made-up glyphs; a server that misbehaves to order."""

import hashlib
import io
import re
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kkanji_jax.data.class_index import character_of


class Source:
    """A folder of CODH's layout to put things into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def draw(seed: int, side_px: int = 64) -> np.ndarray:
        """A glyph of white strokes on black; another seed, other pixels."""
        image = Image.new("L", (side_px, side_px))
        points = np.random.default_rng(seed).integers(4, side_px - 4, (4, 4))
        for stroke in points.tolist():
            ImageDraw.Draw(image).line(tuple(stroke), fill=255, width=3)
        return np.asarray(image)

    @staticmethod
    def png(image: np.ndarray) -> bytes:
        """The image as a PNG file."""
        data = io.BytesIO()
        Image.fromarray(image).save(data, "PNG")
        return data.getvalue()

    def add_file(self, name: str, content: bytes) -> Path:
        """A file at this path inside the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def add_kanji(self, codepoint: str, count: int, first_seed: int | None = None) -> None:
        """`count` images of a class, `00.png` and so on; the code point decides the seeds."""
        seed = int(codepoint[2:], 16) * 1000 if first_seed is None else first_seed
        for number in range(count):
            png = self.png(self.draw(seed + number))
            self.add_file(f"kkanji2/{codepoint}/{number:02d}.png", png)

    def add_small(
        self,
        part: str,
        labels: Sequence[int],
        codepoints: Sequence[str] = ("U+3042", "U+304A", "U+309D"),
        first_seed: int = 500_000,
        images: np.ndarray | None = None,
    ) -> np.ndarray:
        """An npz pair of 28x28 images and its class map; returns the images."""
        name = part.partition("-")[0]
        if images is None:
            seeds = range(first_seed, first_seed + len(labels))
            images = np.stack([self.draw(seed, 28) for seed in seeds])
        np.savez(self.folder / f"{part}-imgs.npz", images)
        np.savez(self.folder / f"{part}-labels.npz", np.array(labels, np.uint8))
        lines = [f"{i},{c},{character_of(c)}" for i, c in enumerate(codepoints)]
        text = "\n".join(["index,codepoint,char", *lines]) + "\n"
        self.add_file(f"{name}_classmap.csv", text.encode())
        return images


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An empty folder of CODH's layout."""
    return Source(tmp_path / "source")


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
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((path, wanted, self.headers.get("If-Range")))
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
        start, match = 0, re.fullmatch(r"bytes=(\d+)-", wanted or "")
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
