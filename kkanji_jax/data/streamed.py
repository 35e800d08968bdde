"""A split too large for memory: batches of pixels from its shards, shuffled in a bounded pool."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, Shaped, UInt8, UInt32

from kkanji_jax.data.batches import BatchShape, Dispatches
from kkanji_jax.data.manifest import check_bytes, load_index, load_manifest, shard_paths
from kkanji_jax.data.records import Chunk, address_of, decode

MAX_OPEN_SHARDS = 128  # far below the files a process may open
_POOL_SALT = 0x9001  # so that a pool's order is not that of the records


class Pool(NamedTuple):
    """The examples of some records, a buffer for them, and the order of the stream."""

    images: UInt8[np.ndarray, "m h w"]
    labels: Int32[np.ndarray, " m"]
    addresses: UInt32[np.ndarray, "m 2"]
    order: Int64[np.ndarray, " n"]


class Records:
    """The records of a split, numbered over all its shards and read one at a time."""

    def __init__(self, dataset: Path, split: str) -> None:
        """Opens no shard. What a record should hold is read from the manifest."""
        manifest = load_manifest(dataset)
        entries = {entry["file"]: entry for entry in manifest["shards"]}
        self._paths = shard_paths(dataset, manifest, split)
        if not self._paths:
            raise ValueError(f"{dataset} has no {split} examples to stream")
        self._manifest = manifest
        self.image_px: int = manifest["image_px"]
        self._num_classes = len(load_index(dataset, manifest))
        sizes = []
        for path in self._paths:
            num_records, rest = (entries[path.name][key] for key in ("num_records", "num_examples"))
            whole = np.full(num_records, manifest["chunk_size"], np.int64)
            whole[-1] = rest - (num_records - 1) * manifest["chunk_size"]
            sizes.append(whole)
        self.sizes: Int64[np.ndarray, " r"] = np.concatenate(sizes)  # examples in each
        self._ends = np.cumsum([len(each) for each in sizes])
        self._readers: OrderedDict[int, Any] = OrderedDict()  # the least used first

    def check_bytes(self, part: int, num_parts: int) -> None:
        """Reads one of `num_parts` parts of the shards; ValueError for a shard that has changed."""
        for path in self._paths[part::num_parts]:
            check_bytes(path, self._manifest)

    def _reader(self, shard: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        if shard not in self._readers:
            while len(self._readers) >= MAX_OPEN_SHARDS:
                self._readers.popitem(last=False)[1].close()
            options = "readahead_buffer_size:0,max_parallelism:0"
            self._readers[shard] = ArrayRecordReader(str(self._paths[shard]), options)
        self._readers.move_to_end(shard)
        return self._readers[shard]

    def read(self, number: int) -> Chunk:
        """Record `number`; ValueError names shard and record if it is damaged or unexpected."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        place = number - (int(self._ends[shard - 1]) if shard else 0)
        try:
            chunk = decode(self._reader(shard).read([place])[0])
        except (RuntimeError, ValueError, IndexError) as err:
            reason = str(err).splitlines()[0] if str(err) else "not a complete ArrayRecord file"
            raise ValueError(
                f"cannot read record {place} of shard {self._paths[shard]}: {reason}; rebuild it "
                "with data_tools.build"
            ) from err
        if not 0 <= chunk.class_ids.min() <= chunk.class_ids.max() < self._num_classes:
            raise ValueError(
                f"record {place} of shard {self._paths[shard]} has class ids outside "
                f"0..{self._num_classes - 1}; build the dataset anew"
            )
        expected = (int(self.sizes[number]), self.image_px, self.image_px)
        if chunk.images.shape != expected:
            raise ValueError(
                f"record {place} of shard {self._paths[shard]} should hold {expected} pixels by "
                f"manifest.json, has {chunk.images.shape}; run data_tools.verify"
            )
        return chunk

    def __iter__(self) -> Iterator[Chunk]:
        """All records in order, one in memory at a time."""
        return (self.read(number) for number in range(len(self.sizes)))


class PixelBatches:
    """A Grain source whose element is one dispatch: pixels of s batches of m microbatches.

    An epoch takes the records in a seeded order, a pool of about `pool_examples` at a time, and the
    examples of a pool in a seeded order, so each example comes once. Position p of the endless
    stream depends on the seed and p alone. Each of n processes reads every record and keeps its
    part of the batches. One pool is in memory, of whole records and at least one of them; read
    sequentially, the stream reads each record once an epoch.
    """

    def __init__(
        self,
        records: Records,
        shape: BatchShape,
        *,
        pool_examples: int,
        seed: int,
        fresh_copies: bool = True,
    ) -> None:
        """With `fresh_copies`, epoch k shows copy k of each example, otherwise copy 0."""
        self._records = records
        self._dispatches = Dispatches(shape)
        self._seed = seed
        self._fresh_copies = fresh_copies
        self._num_examples = int(records.sizes.sum())
        self._pool_records = max(1, pool_examples // int(records.sizes.max()))
        self._num_pools = -(-len(records.sizes) // self._pool_records)
        self._orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._room: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._pool: tuple[int, Pool] | None = None
        self._lock = threading.Lock()  # Grain reads ahead in a thread

    def __len__(self) -> int:
        return len(self._dispatches)

    def __repr__(self) -> str:
        shape, seed = self._dispatches.shape, self._seed
        return f"PixelBatches(examples={self._num_examples}, shape={shape}, seed={seed})"

    def _order_of(self, epoch: int) -> tuple[Int64[np.ndarray, " r"], Int64[np.ndarray, " p"]]:
        """The records in the order of an epoch, and the first position of each of its pools."""
        if epoch not in self._orders:
            bits = np.random.Philox(key=[self._seed, epoch])
            records = np.random.Generator(bits).permutation(len(self._records.sizes))
            sizes = self._records.sizes[records]  # the same for all records but the last of a split
            starts = (np.cumsum(sizes) - sizes)[:: self._pool_records]
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = records, starts
        return self._orders[epoch]

    def _read_pool(self, epoch: int, number: int) -> Pool:
        """Reads pool `number` of an epoch from the shards into the memory of the previous one."""
        first = number * self._pool_records
        chosen = self._order_of(epoch)[0][first : first + self._pool_records]
        num_examples = int(self._records.sizes[chosen].sum())
        bits = np.random.Philox(key=[self._seed ^ _POOL_SALT, epoch], counter=[0, 0, 0, number])
        order = np.random.Generator(bits).permutation(num_examples)
        if self._room is None:
            most, px = self._pool_records * int(self._records.sizes.max()), self._records.image_px
            self._room = (
                np.empty((most, px, px), np.uint8),
                np.empty(most, np.int32),
                np.empty((most, 2), np.uint32),
            )
        images, labels, addresses = self._room
        start = 0
        for record in np.sort(chosen):  # in the order of the files, which is faster on disks
            chunk = self._records.read(int(record))
            part = slice(start, start + len(chunk.images))
            images[part], labels[part] = chunk.images, chunk.class_ids
            addresses[part] = address_of(chunk.sample_ids)
            start = part.stop
        return Pool(images, labels, addresses, order)

    def _pool_at(self, key: int) -> Pool:
        if self._pool is None or self._pool[0] != key:
            self._pool = None  # so that a failed read leaves no half-filled pool
            self._pool = key, self._read_pool(*divmod(key, self._num_pools))
        return self._pool[1]

    def __getitem__(self, index: int) -> dict[str, Shaped[np.ndarray, "s m b ..."]]:
        stream = self._dispatches.positions(index)
        epochs, positions = np.divmod(stream.ravel(), self._num_examples)
        keys = np.empty_like(positions)  # which pool; they only grow along the stream
        places = np.empty_like(positions)  # in the pool
        px = self._records.image_px
        images = np.empty((len(positions), px, px), np.uint8)
        labels = np.empty(len(positions), np.int32)
        addresses = np.empty((len(positions), 2), np.uint32)
        with self._lock:
            for epoch in np.unique(epochs):
                chosen = epochs == epoch
                starts = self._order_of(int(epoch))[1]
                numbers = np.searchsorted(starts, positions[chosen], side="right") - 1
                places[chosen] = positions[chosen] - starts[numbers]
                keys[chosen] = epoch * self._num_pools + numbers
            for key in np.unique(keys):
                part = slice(*np.searchsorted(keys, [key, key + 1]))
                pool = self._pool_at(int(key))
                rows = pool.order[places[part]]
                np.take(pool.images, rows, axis=0, out=images[part], mode="clip")  # no copy
                labels[part], addresses[part] = pool.labels[rows], pool.addresses[rows]
        copies = epochs if self._fresh_copies else np.zeros_like(epochs)
        columns = {"images": images, "labels": labels, "addresses": addresses}
        columns["copies"] = copies.astype(np.int32)
        return {
            name: column.reshape(*stream.shape, *column.shape[1:])
            for name, column in columns.items()
        }


def pixel_iterator(batches: PixelBatches) -> Any:
    """A Grain iterator over the dispatches, one of them read ahead in a thread.

    Its state is {"next_index": n}: what was read ahead is not part of it.
    """
    import grain

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    return iter(grain.MapDataset.source(batches).to_iter_dataset(options))
