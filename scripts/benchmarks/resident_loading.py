"""Batches of 1,024 from a set in memory: ours, and how it is usually done.

    python scripts/benchmarks/resident_loading.py [--dataset data/kuzushiji] [--rounds 5]

Images per CPU second of shuffled uint8 pixels and labels on the host, one epoch after another, in
turns. Ours is the trainer's own Grain iterator over index batches, and the gather of their pixels.
The row of PyTorch needs the `peers` extra.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import single_records
import turns
from PIL import Image

BATCH_SIZE = 1024
TARGETS = {"grain": 20.0, "png": 100.0, "torch": 2.5}
PEERS = {
    "grain": "MapDataset(ArrayRecordDataSource).shuffle.map.batch, num_threads=0",
    "png": "PNG files, Pillow",
    "torch": "torch DataLoader(TensorDataset)",
}
BATCHES_A_TURN = {"ours": 200, "grain": 8, "png": 3, "torch": 60}


def iterate_ours(images: np.ndarray, labels: np.ndarray) -> Iterator[Any]:
    from kkanji_jax.data.balance import Plan
    from kkanji_jax.data.batches import BatchShape
    from kkanji_jax.data.records import address_of
    from kkanji_jax.data.resident import IndexBatches, index_iterator

    addresses = address_of([str(row) for row in range(len(labels))])
    batches = IndexBatches(
        Plan(labels, addresses, sampling_exponent=0.5),
        BatchShape(batch_size=BATCH_SIZE, steps_per_dispatch=1, num_dispatches=10**6),
        seed=0,
    )
    for element in index_iterator(batches):
        rows = element["rows"][0, 0]
        yield images[rows], labels[rows]


def iterate_grain(paths: list[str]) -> Iterator[Any]:
    import grain

    source: Any = grain.sources.ArrayRecordDataSource(paths)
    dataset = (
        grain.MapDataset.source(source)
        .seed(0)
        .shuffle()
        .map(single_records.parse_record)
        .batch(BATCH_SIZE, drop_remainder=True)
        .repeat()
    )
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    yield from dataset.to_iter_dataset(options)


def iterate_png(paths: list[str], labels: np.ndarray) -> Iterator[Any]:
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(paths))
        for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            yield np.stack([np.asarray(Image.open(paths[row])) for row in rows]), labels[rows]


def iterate_torch(images: np.ndarray, labels: np.ndarray) -> Iterator[Any]:
    import torch  # pyright: ignore[reportMissingImports]
    from torch.utils.data import (  # pyright: ignore[reportMissingImports]
        DataLoader,
        TensorDataset,
    )

    torch.set_num_threads(1)
    dataset = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    while True:
        yield from DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)


def run_worker(name: str, folder: Path) -> None:
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # ArrayRecord reads them
    images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
    iterate: dict[str, Callable[[], Iterator[Any]]] = {
        "ours": lambda: iterate_ours(images, labels),
        "grain": lambda: iterate_grain(sorted(map(str, folder.glob("*.array_record")))),
        "png": lambda: iterate_png(sorted(map(str, folder.glob("*.png"))), labels),
        "torch": lambda: iterate_torch(images, labels),
    }
    turns.serve_batches(iterate[name](), BATCHES_A_TURN[name], (BATCH_SIZE, 64, 64))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, default=Path("data/kuzushiji"))
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--only", default=",".join(PEERS), help="peers, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        run_worker(args.worker[0], Path(args.worker[1]))
        return 0
    peers = args.only.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images, labels = single_records.take_images(args.dataset, args.images)
        np.save(folder / "images.npy", images)
        np.save(folder / "labels.npy", labels)
        single_records.write_records(folder, images, labels)
        if "png" in peers:
            single_records.write_pngs(folder, images)
        commands = {name: [__file__, "--worker", name, scratch] for name in ("ours", *peers)}
        found = turns.take_turns(commands, args.rounds, num_cores=1)
    turns.print_rates(found, PEERS)
    for name in peers:
        line = turns.comparison(PEERS[name], turns.ratios(found["ours"], found[name]))
        print(f"{line}; expected {TARGETS[name]:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
