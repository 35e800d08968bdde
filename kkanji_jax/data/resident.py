"""A split held in memory, and the batches of indices that Grain draws from its plan."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8

from kkanji_jax.data.balance import Plan
from kkanji_jax.data.batches import BatchShape, Dispatches
from kkanji_jax.data.free_memory import free_bytes
from kkanji_jax.data.manifest import check_bytes, load_index, load_manifest, shard_paths
from kkanji_jax.data.records import IMAGE_PX, Chunk, decode

_RECORDS_PER_READ = 64  # about 64 MB at 256 examples a record


class Split(NamedTuple):
    """All examples of one split, in shard order."""

    images: UInt8[np.ndarray, "n h w"]
    labels: Int32[np.ndarray, " n"]
    sample_ids: list[str]
    parent_ids: list[str]


def read_chunks(path: Path) -> Iterator[Chunk]:
    """Decodes the records of one shard in order; raises ValueError naming the shard."""
    import grain  # imported here, because Grain imports jax, which tools that only read do not need

    try:
        source: Any = grain.sources.ArrayRecordDataSource([str(path)])
        for start in range(0, len(source), _RECORDS_PER_READ):
            stop = min(start + _RECORDS_PER_READ, len(source))
            for record in source.__getitems__(range(start, stop)):
                yield decode(record)
    except (RuntimeError, ValueError, IndexError) as err:
        reason = str(err).splitlines()[0] if str(err) else "not a complete ArrayRecord file"
        raise ValueError(
            f"cannot read shard {path}: {reason}; rebuild it with data_tools.build"
        ) from err


def load_split(dataset: Path, split: str) -> Split:
    """Reads a split of a DATASET into memory: 4,096 bytes per image.

    ValueError if memory is too small, if the bytes or counts of a shard differ from the manifest,
    or if a label is not a class id.
    """
    manifest = load_manifest(dataset)
    num_classes = len(load_index(dataset, manifest))
    num_examples = manifest["splits"][split]["num_examples"]
    needed, free = num_examples * IMAGE_PX * IMAGE_PX, free_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"{split} of {dataset} needs {needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB "
            "are free; training can read it as a stream: --config.data.reading=streamed"
        )
    images = np.empty((num_examples, IMAGE_PX, IMAGE_PX), np.uint8)
    labels = np.empty((num_examples,), np.int32)
    sample_ids: list[str] = []
    parent_ids: list[str] = []
    start = 0
    for path in shard_paths(dataset, manifest, split):
        check_bytes(path, manifest)
        for chunk in read_chunks(path):
            stop = start + len(chunk.images)
            if stop > num_examples:
                raise ValueError(f"{path} holds more examples than manifest.json states")
            wrong = (chunk.class_ids < 0) | (chunk.class_ids >= num_classes)
            if wrong.any():
                first = int(wrong.argmax())
                raise ValueError(
                    f"{path}: {chunk.sample_ids[first]} has class id {chunk.class_ids[first]}, "
                    f"expected 0 to {num_classes - 1}; build the dataset anew"
                )
            images[start:stop], labels[start:stop] = chunk.images, chunk.class_ids
            sample_ids.extend(chunk.sample_ids)
            parent_ids.extend(chunk.parent_ids)
            start = stop
    if start != num_examples:
        raise ValueError(
            f"{split} of {dataset} should hold {num_examples} examples, found {start}; "
            "run data_tools.verify"
        )
    return Split(images, labels, sample_ids, parent_ids)


class IndexBatches:
    """A Grain source whose element is one dispatch: rows and copies of s batches of m microbatches.

    Position p of the endless stream is position p mod n of epoch p div n, and each epoch is its own
    seeded permutation of the plan, so every batch is full and an epoch visits each position once.
    """

    def __init__(
        self,
        plan: Plan,
        shape: BatchShape,
        *,
        seed: int,
        fresh_copies: bool = True,
    ) -> None:
        self._plan = plan
        self._dispatches = Dispatches(shape)
        self._seed = seed
        self._fresh_copies = fresh_copies
        self._orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._dispatches)

    def __repr__(self) -> str:
        shape = self._dispatches.shape
        return f"IndexBatches(plan={len(self._plan)}, shape={shape}, seed={self._seed})"

    def _order(self, epoch: int) -> Int[np.ndarray, " n"]:
        if epoch not in self._orders:
            bits = np.random.Philox(key=[self._seed, epoch])
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = np.random.Generator(bits).permutation(
                np.arange(len(self._plan), dtype=np.int32)
            )
        return self._orders[epoch]

    def __getitem__(self, index: int) -> dict[str, Int32[np.ndarray, "s m b"]]:
        stream = self._dispatches.positions(index)
        epochs, slots = np.divmod(stream.ravel(), len(self._plan))
        positions = np.empty_like(slots)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            positions[chosen] = self._order(int(epoch))[slots[chosen]]
        rows, copies = self._plan.lookup(positions, epochs, fresh_copies=self._fresh_copies)
        return {"rows": rows.reshape(stream.shape), "copies": copies.reshape(stream.shape)}


def index_iterator(batches: IndexBatches) -> Any:
    """A Grain iterator over the dispatches; its state is {"next_index": n}. No worker processes."""
    import grain

    dataset = grain.MapDataset.source(batches)
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(dataset.to_iter_dataset(options))
