"""What a run learns from: a plan over a split in memory, or a stream of its shards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kkanji_jax.data import resident, streamed
from kkanji_jax.data.balance import Plan
from kkanji_jax.data.leakage import check_no_leak
from kkanji_jax.data.looks import look_of
from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.data.records import address_of
from kkanji_jax.training.step import IndexBatch, PixelBatch, Resident


class Feed(NamedTuple):
    """The training split of a DATASET, and how batches come from it."""

    num_images: int  # in the split
    num_examples: int  # of an epoch
    data: Resident | None  # what index batches point into; None: batches bring their pixels
    batch: type[IndexBatch] | type[PixelBatch]  # what the iterator's elements are fields of
    make_iterator: Callable[..., Any]  # (batch_size, num_dispatches, ...) -> a Grain iterator


def open_resident(
    dataset: Path,
    *,
    per_class: int | None,
    sampling_exponent: float,
    fresh_copies: bool,
    seed: int,
    photograph_weight: float | None = None,
    may_leak: bool = False,
) -> Feed:
    """All images in memory, drawn by a plan; what `build --per-class` wrote is taken as it is.

    ValueError where a held-out image comes from training, unless it `may_leak`.
    """
    _check_devices_hold(dataset)
    split = resident.load_split(dataset, "train")
    if not may_leak:
        check_no_leak(dataset, [split])
    addresses = address_of(split.sample_ids)
    is_written_out = _is_written_out(dataset)
    plan = Plan(
        split.labels,
        per_class=None if is_written_out else per_class,
        sampling_exponent=1.0 if is_written_out else sampling_exponent,
        seed=seed,
        addresses=addresses,
        is_photographed=np.array([look_of(name) == "photographed" for name in split.sample_ids]),
        photograph_weight=None if is_written_out else photograph_weight,
    )

    def make_iterator(**shape: Any) -> Any:
        is_fresh = fresh_copies and not is_written_out
        batches = resident.IndexBatches(plan, seed=seed, fresh_copies=is_fresh, **shape)
        return resident.index_iterator(batches)

    data = Resident(split.images, split.labels, addresses)
    return Feed(len(split.labels), len(plan), data, IndexBatch, make_iterator)


def open_streamed(
    dataset: Path,
    *,
    pool_examples: int,
    per_class: int | None,
    sampling_exponent: float,
    fresh_copies: bool,
    seed: int,
    photograph_weight: float | None = None,
    may_leak: bool = False,
) -> Feed:
    """Some `pool_examples` in memory at a time; each example once an epoch.

    ValueError for a balance that is not written out, for a shard that has changed, and as
    `open_resident` for a leak: the shards are read through before training, once for their digests,
    of which each process takes its share, and once for the leak.
    """
    is_written_out = _is_written_out(dataset)
    is_balanced = (per_class, sampling_exponent, photograph_weight) != (None, 1.0, None)
    if not is_written_out and is_balanced:
        raise ValueError(
            "config: a streamed dataset gives each example once an epoch, so it cannot be balanced "
            "as it is read; write it out (data_tools.build --per-class N), or take the classes as "
            "found (--config.data.sampling_exponent=1, no data.per_class, no photograph_weight)"
        )
    records = streamed.Records(dataset, "train")
    records.check_bytes(jax.process_index(), jax.process_count())
    if not may_leak:
        check_no_leak(dataset, records)

    def make_iterator(**shape: Any) -> Any:
        is_fresh = fresh_copies and not is_written_out
        batches = streamed.PixelBatches(
            records, pool_examples=pool_examples, seed=seed, fresh_copies=is_fresh, **shape
        )
        return streamed.pixel_iterator(batches)

    num_examples = int(records.sizes.sum())
    return Feed(num_examples, num_examples, None, PixelBatch, make_iterator)


def _check_devices_hold(dataset: Path) -> None:
    """Raises ValueError, before anything is read, if the split is more than a device's memory."""
    manifest = load_manifest(dataset)
    wanted = manifest["splits"]["train"]["num_examples"] * manifest["image_px"] ** 2
    for device in jax.local_devices():
        limit = (device.memory_stats() or {}).get("bytes_limit", wanted)
        if wanted > limit:
            raise ValueError(
                f"train of {dataset} wants {wanted / 1e9:,.1f} GB on every device, {device} has "
                f"{limit / 1e9:,.1f} GB; read it as a stream: --config.data.reading=streamed"
            )


def _is_written_out(dataset: Path) -> bool:
    """Whether the split holds its copies already: each row is then taken once, as it is."""
    return load_manifest(dataset)["per_class"] is not None
