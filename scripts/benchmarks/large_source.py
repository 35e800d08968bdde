"""Builds, verifies and streams a source of millions of images, and says how much memory each takes.

    python scripts/benchmarks/large_source.py --scratch DIR [--rows 2000000] [--workers 2]

The source is a compressed k49-train-imgs.npz of drawn patterns, no two alike. Memory is the
resident memory of all processes of a command added up, sampled ten times a second: pages that they
share count once for each of them. Ends with status 1 over 2 GB, or if an image is lost.
"""

import argparse
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 2e9
NUM_CLASSES = 49
ROWS_A_TIME = 10_000
BATCH_SIZE, POOL = 1024, 65_536


def draw(rows: Int64[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 28 28"]:
    """A random pattern of blocks, and the row's number as a bar code, so that none is a copy."""
    rng = np.random.default_rng(rows[0])
    blocks = np.zeros((len(rows), 7, 7), np.uint8)
    blocks[:, 1:-1, 1:-1] = 255 * (rng.random((len(rows), 5, 5)) < 0.3)
    images = blocks.repeat(4, axis=1).repeat(4, axis=2)
    images[:, 10, 2:26] = 100 + 100 * ((rows[:, None] >> np.arange(24)) & 1)
    return images


def write_source(folder: Path, num_rows: int) -> None:
    """The images, labels and class map of a Kuzushiji-49 of `num_rows` training images."""
    folder.mkdir(parents=True)
    header = {"descr": "|u1", "fortran_order": False, "shape": (num_rows, 28, 28)}
    path = folder / "k49-train-imgs.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num_rows, ROWS_A_TIME):
            file.write(draw(np.arange(start, min(start + ROWS_A_TIME, num_rows))).tobytes())
    labels = (np.arange(num_rows) % NUM_CLASSES).astype(np.uint8)
    np.savez_compressed(folder / "k49-train-labels.npz", labels)
    lines = [f"{row},U+{0x3042 + row:04X},{chr(0x3042 + row)}" for row in range(NUM_CLASSES)]
    text = "\n".join(["index,codepoint,char", *lines]) + "\n"
    (folder / "k49_classmap.csv").write_text(text, encoding="utf-8")


def memory_of(session: int) -> int:
    """Bytes of resident memory of all processes of a session."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended since
        if int(fields[3]) == session:
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


def watch(what: str, words: Sequence[str]) -> int:
    """Runs a command to its end and prints its time; returns the most memory it took."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    begun_s, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise ValueError(f"{what} ended with status {process.returncode}")
    print(f"{what}: {time.perf_counter() - begun_s:.0f} s, {peak / 1e9:.2f} GB", flush=True)
    return peak


def stream(dataset: Path) -> None:
    """Reads an epoch of training images in shuffled batches; ValueError if one is not there."""
    from kkanji_jax.data.batches import BatchShape
    from kkanji_jax.training.feed import FeedConfig, open_streamed

    config = FeedConfig(per_class=None, sampling_exponent=1.0, fresh_copies=True, seed=0)
    feed = open_streamed(dataset, config, pool_examples=POOL)
    num_batches = feed.num_examples // BATCH_SIZE
    batches = feed.make_iterator(
        BatchShape(batch_size=BATCH_SIZE, steps_per_dispatch=1, num_dispatches=num_batches)
    )
    seen = [np.ascontiguousarray(batch["addresses"]).reshape(-1, 2) for batch in batches]
    num_seen = len(np.unique(np.concatenate(seen), axis=0))
    if num_seen != num_batches * BATCH_SIZE:
        raise ValueError(f"expected {num_batches * BATCH_SIZE} images in an epoch, got {num_seen}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, help="where source and dataset go: 4 GB")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.stream:
        stream(args.stream)
        return 0
    if args.scratch is None:
        parser.error("--scratch is required")
    source, dataset = args.scratch / "source", args.scratch / "dataset"
    write_source(source, args.rows)
    in_and_out = ["--source", str(source), "--out", str(dataset), "--workers", str(args.workers)]
    peaks = [
        watch("build", ["-m", "data_tools.build", *in_and_out]),
        watch("verify", ["-m", "data_tools.verify", str(dataset)]),
        watch("stream", [__file__, "--stream", str(dataset)]),
    ]
    return 1 if max(peaks) > MOST_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
