"""Batches of 1,024 from shards on disk: our stream, and ArrayRecord read one image at a time.

    python scripts/benchmarks/streamed_loading.py [--dataset data/kuzushiji] [--rounds 5]

Images per CPU second of shuffled uint8 pixels and labels on the host, in turns. Ours is the
trainer's own source, records of 256 images and a pool of 16,384, without its thread, so that all
its work is timed. The peers read files of one image a record.
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

BATCH_SIZE, POOL = 1024, 16_384
TARGETS = {"grain": 5.0, "getitems": 3.0}
PEERS = {
    "grain": "MapDataset(ArrayRecordDataSource).shuffle.map.batch, num_threads=0",
    "getitems": "ArrayRecordDataSource.__getitems__, 1,024 random records a call",
}
BATCHES_A_TURN = {"ours": 64, "grain": 10, "getitems": 16}  # ours: four pools


def iterate_ours(dataset: Path) -> Iterator[Any]:
    import grain

    from kkanji_jax.data.batches import BatchShape
    from kkanji_jax.data.streamed import PixelBatches, Records

    batches = PixelBatches(
        Records(dataset, "train"),
        BatchShape(batch_size=BATCH_SIZE, steps_per_dispatch=1, num_dispatches=10**6),
        pool_examples=POOL,
        seed=0,
    )
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    for element in grain.MapDataset.source(batches).to_iter_dataset(options):
        yield element["images"][0, 0], element["labels"][0, 0]


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


def iterate_getitems(paths: list[str]) -> Iterator[Any]:
    import grain

    source: Any = grain.sources.ArrayRecordDataSource(paths)
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(source))
        for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            records = source.__getitems__(order[start : start + BATCH_SIZE])
            images, labels = zip(*map(single_records.parse_record, records), strict=True)
            yield np.stack(images), np.stack(labels)


def run_worker(name: str, dataset: Path, folder: Path) -> None:
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # ArrayRecord reads them
    paths = sorted(map(str, folder.glob("*.array_record")))
    iterate: dict[str, Callable[[], Iterator[Any]]] = {
        "ours": lambda: iterate_ours(dataset),
        "grain": lambda: iterate_grain(paths),
        "getitems": lambda: iterate_getitems(paths),
    }
    turns.serve_batches(iterate[name](), BATCHES_A_TURN[name], (BATCH_SIZE, 64, 64))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, default=Path("data/kuzushiji"))
    parser.add_argument("--images", type=int, default=100_000, help="in 20 files, for the peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        name, dataset, folder = args.worker
        run_worker(name, Path(dataset), Path(folder))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        images, labels = single_records.take_images(args.dataset, args.images)
        single_records.write_records(Path(scratch), images, labels)
        del images
        commands = {
            name: [__file__, "--worker", name, str(args.dataset), scratch]
            for name in ("ours", *PEERS)
        }
        found = turns.take_turns(commands, args.rounds, num_cores=1)
    turns.print_rates(found, PEERS)
    for name, target in TARGETS.items():
        line = turns.comparison(PEERS[name], turns.ratios(found["ours"], found[name]))
        print(f"{line}; expected {target:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
