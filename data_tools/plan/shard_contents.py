"""The content of each shard: the stored order of a split's examples, and where it is cut."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from kkanji_jax.data.balance import mix_address
from kkanji_jax.data.records import address_of

CHUNK_SIZE = 256  # examples a record
SHARD_EXAMPLES = 16_384  # at most: 64 MiB of pixels, some 20 MB on disk
WRITER_OPTIONS = "group_size:1,zstd:11"  # 4 % smaller than zstd:1, and read a fifth faster
BLOCK = 2**20  # examples planned at a time: 38 million would fill the memory otherwise
_SHARD_SALT = 0x5A4D  # makes the stored order differ from every other order drawn from the seed


class Selection(NamedTuple):
    """The examples of one split in stored order: rows of the originals, and copy numbers."""

    split: str
    rows: Int32[np.ndarray, " n"]
    copies: Int32[np.ndarray, " n"]


class Span(NamedTuple):
    """One shard: examples `start` to `end` of a selection, given by its place in a list."""

    file: str
    selection: int
    start: int
    end: int


def store_order(
    split: str,
    rows: Int32[np.ndarray, " n"],
    copies: Int32[np.ndarray, " n"],
    sample_ids: Sequence[str],
    seed: int,
) -> Selection:
    """The examples in the order of a hash of (seed, sample, copy).

    So every record and every shard is a random mixture of classes: a stream can read whole records
    in a shuffled order, and shards of equal size take equal work.
    """
    addresses, keys = address_of(sample_ids), np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        keys[part] = mix_address(seed ^ _SHARD_SALT, addresses[rows[part]], copies[part])
    order = np.argsort(keys, kind="stable")
    return Selection(split, rows[order], copies[order])


def layout(selections: Sequence[Selection], *, chunk_size: int, shard_examples: int) -> list[Span]:
    """All shards of a dataset, of even size; only the last record of a split may be short."""
    spans = []
    for place, selection in enumerate(selections):
        num_records = -(-len(selection.rows) // chunk_size)
        num_shards = -(-len(selection.rows) // shard_examples)
        for number in range(num_shards):
            start = num_records * number // num_shards * chunk_size
            end = num_records * (number + 1) // num_shards * chunk_size
            file = f"{selection.split}-{number:05d}-of-{num_shards:05d}.array_record"
            spans.append(Span(file, place, start, min(end, len(selection.rows))))
    return spans
