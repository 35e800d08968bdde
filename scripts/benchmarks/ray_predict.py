"""What a Ray cluster adds to `predict`: CPU time, memory over many images, and over many paths.

    python scripts/benchmarks/ray_predict.py throughput --glyphs data/codh/kkanji2 [--images 4096]
        [--rounds 5]
    python scripts/benchmarks/ray_predict.py memory --glyphs data/codh/kkanji2 [--images 200000]
    python scripts/benchmarks/ray_predict.py paths [--most 10000000]

throughput: `predict` and `predict --engine ray` with one and two workers, in turns. A run on a
quarter of the images comes before each, and is taken off, so starts do not count. CPU time is that
of the command and of the workers; that of Ray's own processes goes by the clock, and is told apart.
memory: what one worker, and the command, hold while the worker reads a Parquet file of the images
over and over. paths: what the command holds for lists of more and more paths.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kkanji_jax.cluster.rows_folder import MANIFEST, PROGRESS

EVERY_S = 0.2
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def chosen(glyphs: Path, count: int) -> list[Path]:
    """`count` images from all over the folder."""
    files = sorted(glyphs.rglob("*.png"))
    if len(files) < count:
        raise ValueError(f"expected {count} images below {glyphs}, found {len(files)}")
    return files[:: len(files) // count][:count]


class Below:
    """CPU time and memory of all processes below one, looked at several times a second."""

    def __init__(self, process: int) -> None:
        self._process = process
        self.cpu_s: dict[tuple[int, str], float] = {}  # by process and start
        self.of_work: set[tuple[int, str]] = set()  # of these, the command and the workers
        self._held: list[tuple[int, int]] = []  # resident bytes of all workers, and of the command
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_done.wait(EVERY_S):
            self.look()

    def look(self) -> None:
        """Notes what each process has used so far."""
        told: dict[int, list[str]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended
                told[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        below, of_workers, of_command = {self._process}, 0, 0
        while more := {n for n, w in told.items() if int(w[1]) in below} - below:
            below |= more
        for number in below & told.keys():
            words = told[number]
            own = number, words[19]
            self.cpu_s[own] = (int(words[11]) + int(words[12])) / TICKS
            if number == self._process:
                of_command = int(words[21]) * PAGE
                self.of_work.add(own)
            with contextlib.suppress(OSError):
                if b"Reader" in Path(f"/proc/{number}/cmdline").read_bytes():
                    of_workers += int(words[21]) * PAGE
                    self.of_work.add(own)
        if of_workers:
            self._held.append((of_workers, of_command))

    def most_held(self) -> tuple[int, int]:
        """Resident bytes of all workers and of the command, at most since this was asked last."""
        seen, self._held = self._held, []
        workers, command = zip(*seen, strict=True)
        return max(workers), max(command)

    def work_s(self) -> float:
        """CPU seconds of the command and the workers."""
        return sum(self.cpu_s[own] for own in self.of_work)

    def cluster_s(self) -> float:
        """CPU seconds of all else: Ray's own processes."""
        return sum(self.cpu_s.values()) - self.work_s()

    def close(self) -> None:
        """Looks no more."""
        self._is_done.set()
        self._thread.join()


@contextlib.contextmanager
def watched(
    source: Path, out: Path, *options: str
) -> Iterator[tuple["subprocess.Popen[bytes]", Below]]:
    """A whole command on a source, and what watches it; ended when the block is left."""
    command = [sys.executable, "-m", "kkanji_jax.predict", str(source), *options, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    below = Below(process.pid)
    try:
        yield process, below
    finally:
        status = process.wait()
        below.close()
    if status:
        raise ValueError(f"{' '.join(command)} ended with status {status}")


def spent(source: Path, out: Path, *options: str) -> Below:
    """A whole command on a source, watched to its end."""
    with watched(source, out, *options) as (_, below):
        return below


def throughput(args: argparse.Namespace) -> None:
    """Images a CPU second, start taken off, and what Ray adds."""
    ways = {
        "predict": ("--backend", "onnx", "--format", "jsonl"),
        "ray, 1 worker": ("--engine", "ray", "--workers", "1", "--partition", "1024"),
        "ray, 2 workers": ("--engine", "ray", "--workers", "2", "--partition", "1024"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("all", args.images), ("few", args.images // 4)):
            (Path(folder) / name).mkdir()
            for number, file in enumerate(chosen(args.glyphs, count)):
                shutil.copyfile(file, Path(folder) / name / f"{number:06d}.png")
        rates: dict[str, list[float]] = {name: [] for name in ways}
        starts: dict[str, list[float]] = {name: [] for name in ways}
        rest: dict[str, list[float]] = {name: [] for name in ways}
        more = args.images - args.images // 4
        for number in range(args.rounds):
            for name, options in ways.items():
                begun_s = time.monotonic()
                few, whole = (
                    spent(Path(folder) / part, Path(folder) / f"{part}{number}{name}", *options)
                    for part in ("few", "all")
                )
                elapsed_s = time.monotonic() - begun_s
                rates[name].append(more / (whole.work_s() - few.work_s()))
                starts[name].append(few.work_s() - (args.images // 4) / rates[name][-1])
                rest[name].append((few.cluster_s() + whole.cluster_s()) / elapsed_s)
                print(
                    f"{name}: {rates[name][-1]:.0f} images a CPU second, start "
                    f"{starts[name][-1]:.1f} CPU seconds; Ray's own processes took "
                    f"{few.cluster_s() + whole.cluster_s():.1f} CPU seconds in {elapsed_s:.0f} s",
                    flush=True,
                )
    for name in ways:
        ratios = [plain / own for plain, own in zip(rates["predict"], rates[name], strict=True)]
        print(
            f"{name}: {statistics.median(rates[name]):.0f} images a CPU second, "
            f"{statistics.median(ratios):.3f} times the CPU time of predict "
            f"({min(ratios):.3f}-{max(ratios):.3f}, {args.rounds} rounds); "
            f"start {statistics.median(starts[name]):.1f} CPU seconds; "
            f"{statistics.median(rest[name]):.3f} cores for Ray's own processes"
        )


def memory(args: argparse.Namespace) -> None:
    """What a worker and the command hold in each tenth of the images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = [file.read_bytes() for file in chosen(args.glyphs, 4096)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "images.parquet"
        table, num_times = pa.table({"image": contents}), -(-args.images // len(contents))
        with pq.ParquetWriter(source, table.schema) as writer:
            for _ in range(num_times):
                writer.write_table(table)
        out, num_images = Path(folder) / "out", num_times * len(contents)
        with watched(source, out, "--engine", "ray", "--workers", "1") as (process, below):
            begun_s = time.monotonic()
            for tenth in range(1, 11):
                while process.poll() is None and 10 * num_done(out) < tenth * num_images:
                    time.sleep(EVERY_S)
                worker, command = below.most_held()
                print(
                    f"{num_done(out):,} images, {time.monotonic() - begun_s:.0f} s: the worker "
                    f"{worker / 1e6:.0f} MB, the command {command / 1e6:.0f} MB at most since the "
                    "line before",
                    flush=True,
                )


def num_done(out: Path) -> int:
    """How many images the finished files of rows have."""
    with contextlib.suppress(FileNotFoundError):
        lines = (out / PROGRESS).read_text().splitlines()
        return sum(json.loads(line)["tally"]["num_images"] for line in lines)
    manifest = out / MANIFEST
    return json.loads(manifest.read_text())["num_images"] if manifest.exists() else 0


def paths(args: argparse.Namespace) -> None:
    """What the driver holds for each number of paths, in a process of its own."""
    count = args.most // 100
    while count <= args.most:
        command = [sys.executable, __file__, "list", "--most", str(count)]
        print(subprocess.run(command, capture_output=True, check=True, text=True).stdout, end="")
        count *= 10


def list_paths(args: argparse.Namespace) -> None:
    """Cuts a list of paths that are made as they are asked for, as the driver does."""
    from kkanji_jax.answers.predict_request import PredictRequest
    from kkanji_jax.cluster.listing import Unit
    from kkanji_jax.cluster.partitions import partitions_of

    def units() -> Iterator[Unit]:
        for number in range(args.most):
            yield Unit(f"/scanned/books/{number // 1000:08d}/{number:012d}.png")

    begun_s = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    partitions = partitions_of(units(), PredictRequest.partition)
    num_partitions = sum(1 for part in partitions if part.digest)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{args.most:,} paths, {num_partitions:,} partitions: {after / 1e3:.1f} MB at most, "
        f"{before / 1e3:.1f} MB before; {time.process_time() - begun_s:.1f} CPU seconds"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what is asked for, and prints it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("throughput", "memory", "paths", "list"))
    parser.add_argument("--glyphs", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument("--images", type=int, default=4096, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--most", type=int, default=10_000_000, metavar="N", help="paths")
    args = parser.parse_args(argv)
    {"throughput": throughput, "memory": memory, "paths": paths, "list": list_paths}[args.what](
        args
    )


if __name__ == "__main__":
    main()
