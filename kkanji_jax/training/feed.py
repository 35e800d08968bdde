"""What a run learns from: a plan over a split in memory, or a stream of its shards."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kkanji_jax.data import resident, streamed
from kkanji_jax.data.balance import Plan
from kkanji_jax.data.batches import BatchShape
from kkanji_jax.data.leakage import check_no_leak
from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.data.records import address_of
from kkanji_jax.data.source_looks import look_of
from kkanji_jax.training.step import IndexBatch, PixelBatch, Resident


class Feed(NamedTuple):
    """The training split of a DATASET, and how batches come from it."""

    num_images: int  # in the split
    num_examples: int  # of an epoch
    data: Resident | None  # what index batches point into; None: batches bring their pixels
    batch: type[IndexBatch] | type[PixelBatch]  # what the iterator's elements are fields of
    make_iterator: Callable[[BatchShape], Any]  # a Grain iterator over dispatches


@dataclass(frozen=True)
class FeedConfig:
    """Which examples of a training split are drawn, how often, and in which order."""

    per_class: int | None  # examples of each class per epoch; None: by the sampling exponent
    sampling_exponent: float  # class share ~ size**x: 1 natural, 0 equal
    fresh_copies: bool  # new images and augmentations in every epoch
    seed: int
    photograph_weight: float | None = None  # of photographed images; None: drawn like others
    may_leak: bool = False  # a held-out image may come from training


def open_resident(dataset: Path, config: FeedConfig) -> Feed:
    """All images in memory, drawn by a plan; a set written by `build --per-class` is used as it is.

    ValueError if a held-out image comes from training, unless the config allows it, and for a
    balance that would change nothing.
    """
    _check_devices_hold(dataset)
    is_written_out = _is_written_out(dataset, config)
    split = resident.load_split(dataset, "train")
    if not config.may_leak:
        check_no_leak(dataset, [split])
    addresses = address_of(split.sample_ids)
    is_photographed = np.array([look_of(name) == "photographed" for name in split.sample_ids])
    if config.photograph_weight is not None and not is_photographed.any():
        raise ValueError(
            f"config: train of {dataset} has no photographed images (CODH's character shapes): "
            "unset their weight, --config.data.photograph_weight=None"
        )
    plan = Plan(
        split.labels,
        per_class=None if is_written_out else config.per_class,
        sampling_exponent=1.0 if is_written_out else config.sampling_exponent,
        seed=config.seed,
        addresses=addresses,
        is_photographed=is_photographed,
        photograph_weight=config.photograph_weight,
    )

    def make_iterator(shape: BatchShape) -> Any:
        is_fresh = config.fresh_copies and not is_written_out
        batches = resident.IndexBatches(plan, shape, seed=config.seed, fresh_copies=is_fresh)
        return resident.index_iterator(batches)

    data = Resident(split.images, split.labels, addresses)
    return Feed(len(split.labels), len(plan), data, IndexBatch, make_iterator)


def open_streamed(dataset: Path, config: FeedConfig, *, pool_examples: int) -> Feed:
    """About `pool_examples` examples in memory at a time; each example once per epoch.

    ValueError for a balance that is not written out, for a shard that has changed, and, as in
    `open_resident`, for a leak. The shards are read twice before training: for their digests, a
    share by each process, and for the leak.
    """
    is_written_out = _is_written_out(dataset, config)
    balance = (config.per_class, config.sampling_exponent, config.photograph_weight)
    if balance != (None, 1.0, None) and not is_written_out:
        raise ValueError(
            "config: a streamed dataset gives each example once an epoch, so it cannot be balanced "
            "as it is read; write it out (data_tools.build --per-class N), or take the classes as "
            "found (--config.data.sampling_exponent=1, no data.per_class, no photograph_weight)"
        )
    records = streamed.Records(dataset, "train")
    records.check_bytes(jax.process_index(), jax.process_count())
    if not config.may_leak:
        check_no_leak(dataset, records)

    def make_iterator(shape: BatchShape) -> Any:
        is_fresh = config.fresh_copies and not is_written_out
        batches = streamed.PixelBatches(
            records, shape, pool_examples=pool_examples, seed=config.seed, fresh_copies=is_fresh
        )
        return streamed.pixel_iterator(batches)

    num_examples = int(records.sizes.sum())
    return Feed(num_examples, num_examples, None, PixelBatch, make_iterator)


def _check_devices_hold(dataset: Path) -> None:
    """Raises ValueError, before anything is read, if the split is larger than a device's memory."""
    manifest = load_manifest(dataset)
    expected = manifest["splits"]["train"]["num_examples"] * manifest["image_px"] ** 2
    for device in jax.local_devices():
        limit = (device.memory_stats() or {}).get("bytes_limit", expected)
        if expected > limit:
            raise ValueError(
                f"train of {dataset} needs {expected / 1e9:,.1f} GB on every device, {device} has "
                f"{limit / 1e9:,.1f} GB; read it as a stream: --config.data.reading=streamed"
            )


def _is_written_out(dataset: Path, config: FeedConfig) -> bool:
    """Whether the split already contains its copies: each row is then used once, unchanged.

    ValueError if it does, and the config asks for another balance.
    """
    per_class = load_manifest(dataset)["per_class"]
    if per_class is None:
        return False
    if config.per_class not in (None, per_class) or config.photograph_weight is not None:
        raise ValueError(
            f"config: {dataset} was written out with {per_class:,} images a class, and is used as "
            "it is: unset data.per_class and data.photograph_weight, or build without --per-class"
        )
    return True
