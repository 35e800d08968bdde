"""Sends a server 20,000 requests of every kind, good and bad, and watches its memory.

    python tests/soak/serve_requests.py [--requests 20000] [--first 2000] [--clients 16]

The server is `python -m kkanji_jax.serve` with the model of the package. Prints its resident memory
after every `--first` requests and the statuses by kind. Ends with status 1 if a kind got a status
that it should not get, if anything but the rows of before came for an image, if the server logged
anything or ended, or if its memory at the end is more than a tenth above that after `--first`.
"""

import argparse
import asyncio
import base64
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
MAX_GROWTH = 1.1
# Of a hundred requests, how many are of each kind, and the status that they get.
KINDS = {
    "glyph": (64, 200),
    "photograph": (6, 200),
    "form of four": (6, 200),
    "page with boxes": (4, 200),
    "characters asked for": (4, 200),
    "no image": (3, 422),
    "cut image": (3, 422),
    "declares 10^9 pixels": (2, 413),
    "bad JSON": (2, 400),
    "unknown option": (2, 422),
    "empty": (2, 400),
    "too long": (1, 413),
    "gone in mid-request": (1, 0),
}


def glyph(seed: int) -> bytes:
    """White strokes on black, 64x64, as published glyphs are."""
    image = Image.new("L", (64, 64))
    points = np.random.default_rng(seed).integers(3, 61, (8, 2)).tolist()
    ImageDraw.Draw(image).line([tuple(point) for point in points], fill=255, width=5)
    return png(image)


def photograph(seed: int, size: tuple[int, int] = (180, 220)) -> Image.Image:
    """Dark strokes on uneven paper."""
    rng = np.random.default_rng(seed)
    paper = 200 + 20 * rng.random((size[1], size[0], 1)) + np.linspace(0, 20, size[0])[:, None]
    image = Image.fromarray(np.repeat(paper, 3, axis=2).astype(np.uint8))
    for _ in range(3):
        points = rng.integers(30, 150, (3, 2)).tolist()
        ImageDraw.Draw(image).line([tuple(p) for p in points], (40, 36, 30), width=9)
    return image


def png(image: Image.Image) -> bytes:
    """As a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def bomb() -> bytes:
    """A PNG of 66 bytes that declares a thousand million pixels."""
    content = bytearray(png(Image.new("L", (1, 1))))
    content[16:24] = (40_000).to_bytes(4, "big") + (25_000).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


class Sender:
    """Makes requests of each kind, with eight images of each."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.glyphs = [glyph(seed) for seed in range(8)]
        self.photographs = [png(photograph(seed)) for seed in range(8)]
        page = Image.new("RGB", (800, 500), (210, 205, 190))
        for number in range(4):
            page.paste(photograph(number), (20 + 190 * number, 100))
        boxes = [{"x": 20 + 190 * n, "y": 100, "w": 180, "h": 220} for n in range(4)]
        content = base64.b64encode(png(page)).decode()
        self.page = json.dumps({"images": [{"content": content, "boxes": boxes}]}).encode()
        self.bomb, self.long = bomb(), b"x" * 20_000_001
        self.rows: dict[tuple[str, int], bytes] = {}

    async def send(self, client: httpx.AsyncClient, kind: str, number: int) -> int:
        """Sends one; its status, 0 where no answer was waited for."""
        which = number % 8
        is_json = {"Content-Type": "application/json"}
        if kind == "glyph":
            answer = await client.post("/predict", content=self.glyphs[which])
        elif kind == "photograph":
            answer = await client.post("/predict?top-k=10", content=self.photographs[which])
        elif kind == "form of four":
            files = [("f", (f"{n}.png", self.glyphs[(which + n) % 8])) for n in range(4)]
            answer = await client.post("/predict?format=csv", files=files)
        elif kind == "page with boxes":
            answer = await client.post("/predict", content=self.page, headers=is_json)
        elif kind == "characters asked for":
            query = {"chars": "kana", "min-probability": "0.2"}
            answer = await client.post("/predict", params=query, content=self.glyphs[which])
        elif kind == "no image":
            answer = await client.post("/predict", content=b"no image" * (1 + which))
        elif kind == "cut image":
            whole = self.photographs[which]
            answer = await client.post("/predict", content=whole[: len(whole) // 2])
        elif kind == "declares 10^9 pixels":
            answer = await client.post("/predict", content=self.bomb)
        elif kind == "bad JSON":
            answer = await client.post("/predict", content=b'{"images": [', headers=is_json)
        elif kind == "unknown option":
            answer = await client.post("/predict?topk=3", content=self.glyphs[which])
        elif kind == "empty":
            answer = await client.post("/predict")
        elif kind == "too long":
            answer = await client.post("/predict", content=self.long)
        else:
            await self._go_away()
            return 0
        if answer.status_code == 200:
            before = self.rows.setdefault((kind, which), answer.content)
            if before != answer.content:
                raise SystemExit(f"{kind} {which} got other rows than before")
        return answer.status_code

    async def _go_away(self) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\nsome")
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    told = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", told)[0]) / 1024


async def send_all(
    url: str, pid: int, args: argparse.Namespace
) -> tuple[Counter[tuple[str, int]], list[float]]:
    """The statuses by kind, and the memory after every `--first` requests."""
    sender, statuses, memory = Sender(url), Counter(), []
    kinds = [kind for kind, (share, _) in KINDS.items() for _ in range(share)]
    order = np.random.default_rng(0).integers(0, len(kinds), args.requests).tolist()
    numbers = iter(range(args.requests))
    began_s = time.monotonic()
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:

        async def work() -> None:
            for number in numbers:
                kind = kinds[order[number]]
                while (status := await sender.send(client, kind, number)) == 429:
                    await asyncio.sleep(1)
                statuses[kind, status] += 1
                if sum(statuses.values()) % args.first == 0:
                    memory.append(rss_mb(pid))
                    done, spent_s = sum(statuses.values()), time.monotonic() - began_s
                    print(f"{done:,} requests, {spent_s:.0f} s: {memory[-1]:.1f} MB", flush=True)

        await asyncio.gather(*(work() for _ in range(args.clients)))
    return statuses, memory


def main(argv: Sequence[str] | None = None) -> int:
    """Sends them; 0 if all was as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=2_000)
    parser.add_argument("--clients", type=int, default=16)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "kkanji_jax.serve", "--port", "0"]
        with log.open("wb") as file:
            server = subprocess.Popen(command, cwd=ROOT, stderr=file)
        try:
            url = url_when_ready(server, log)
            statuses, memory = asyncio.run(send_all(url, server.pid, args))
            server.terminate()
            ended = server.wait(60)
        finally:
            server.kill()
        told = log.read_text()
    for (kind, status), count in sorted(statuses.items()):
        print(f"{kind}: {count:,} x {status or 'no answer waited for'}")
    wrong = [(kind, status) for kind, status in statuses if KINDS[kind][1] != status]
    growth = memory[-1] / memory[0]
    print(f"memory at the end, of that after {args.first:,}: {growth:.3f}")
    is_silent = re.fullmatch(r"serving .*\nstopped\n", told) is not None
    if wrong or ended or not is_silent or growth > MAX_GROWTH:
        print(f"FAILED: {wrong}, status {ended}, log {told!r}")
        return 1
    return 0


def url_when_ready(server: subprocess.Popen[bytes], log: Path) -> str:
    """Waits until it answers."""
    while server.poll() is None:
        found = re.search(r"on (http://\S+)\n", log.read_text())
        if found and httpx.get(f"{found[1]}/health", timeout=60).status_code == 200:
            return found[1]
        time.sleep(0.1)
    raise SystemExit("the server ended before it was ready")


if __name__ == "__main__":
    sys.exit(main())
