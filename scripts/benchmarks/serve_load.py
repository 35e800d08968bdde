"""Requests to a server: one after another, many at once, and many at once without batches.

    python scripts/benchmarks/serve_load.py --images DIR [--requests 300] [--clients 32]

Starts `python -m kkanji_jax.serve` twice, as it is and with --batch-size 1, and posts the first 200
images of DIR to them in turns, one image a request. A client sends its next request when it has its
answer. Prints for each way the requests a second, the requests a CPU second of the server (which
other programs disturb less), and the time to an answer that half and 99 % of the requests stay
below; then the ratios, from the median of the rounds.
"""

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

ROOT = Path(__file__).resolve().parents[2]
MAX_IMAGES = 200


class Running(NamedTuple):
    """A server that answers."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """What it has spent, in user and system mode."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Round(NamedTuple):
    """What one round of requests took."""

    wall_s: float
    cpu_s: float
    times_s: list[float]


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """A server with these arguments."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "kkanji_jax.serve", "--port", "0", *arguments]
        with log.open("wb") as file:
            server = subprocess.Popen(command, cwd=ROOT, stderr=file)
        try:
            while not (found := re.search(r"on (http://\S+)\n", log.read_text())):
                if server.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            while httpx.get(f"{found[1]}/health", timeout=60).status_code != 200:
                time.sleep(0.1)
            yield Running(found[1], server.pid)
        finally:
            server.terminate()
            server.wait()


def send(server: Running, images: Sequence[bytes], num_requests: int, num_clients: int) -> Round:
    """A round of requests by so many clients."""
    times_s: list[float] = []
    numbers = iter(range(num_requests))

    async def main() -> float:
        limits = httpx.Limits(max_connections=num_clients)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=300) as client:

            async def work() -> None:
                for number in numbers:
                    began_s = time.perf_counter()
                    answer = await client.post("/predict", content=images[number % len(images)])
                    times_s.append(time.perf_counter() - began_s)
                    answer.raise_for_status()

            began_s = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(num_clients)))
            return time.perf_counter() - began_s

    before_s = server.cpu_s()
    wall_s = asyncio.run(main())
    return Round(wall_s, server.cpu_s() - before_s, times_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    paths = sorted(path for path in args.images.iterdir() if path.is_file())[:MAX_IMAGES]
    if not paths:
        raise SystemExit(f"no files in {args.images}")
    images = [path.read_bytes() for path in paths]
    found: dict[str, list[Round]] = {}
    with running() as batching, running("--batch-size", "1") as single:
        ways = {
            "one client": (batching, 1),
            f"{args.clients} clients": (batching, args.clients),
            f"{args.clients} clients, --batch-size 1": (single, args.clients),
        }
        for number in range(args.rounds + 1):
            for name, (server, num_clients) in ways.items():
                told = send(server, images, args.requests, num_clients)
                if number:  # the first warms up
                    found.setdefault(name, []).append(told)
    for name, rounds in found.items():
        times_ms = sorted(1000 * each for one in rounds for each in one.times_s)
        rate = statistics.median(args.requests / one.wall_s for one in rounds)
        cpu_rate = statistics.median(args.requests / one.cpu_s for one in rounds)
        half, most = times_ms[len(times_ms) // 2], times_ms[int(len(times_ms) * 0.99)]
        print(
            f"{name}: {rate:.1f}/s, {cpu_rate:.1f} a CPU second, p50 {half:.0f} ms, "
            f"p99 {most:.0f} ms, n = {len(times_ms):,}"
        )
    first, *others = found
    batched = found[others[0]]
    for name in (first, others[1]):
        pairs = list(zip(found[name], batched, strict=True))
        cpu = statistics.median(slow.cpu_s / quick.cpu_s for slow, quick in pairs)
        wall = statistics.median(slow.wall_s / quick.wall_s for slow, quick in pairs)
        print(f"{others[0]} against {name}: {cpu:.2f} x a CPU second, {wall:.2f} x a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
