"""Checks that no held-out example was trained on: by parent, by sample id, by pixels."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kkanji_jax.data.manifest import load_manifest, shard_paths
from kkanji_jax.data.records import Chunk
from kkanji_jax.data.resident import Split, read_chunks


def _digests_of(images: UInt8[np.ndarray, "n h w"]) -> list[bytes]:
    return [hashlib.blake2b(image.data, digest_size=16).digest() for image in images]


def _originals_of(sample_id: str, parent_id: str) -> tuple[str, ...]:
    """The originals that a sample is made of: by its parent id and, for a copy, by its own id."""
    if sample_id == parent_id:  # an original, though a file name may look like a copy's
        return (sample_id,)
    return parent_id, sample_id.rpartition("#")[0] or sample_id


def _marks_of(examples: Split | Chunk) -> Iterator[tuple[str, list[str | bytes]]]:
    """The sample id of each example, and everything that identifies its original."""
    digests = _digests_of(examples.images)
    for sample_id, parent_id, digest in zip(
        examples.sample_ids, examples.parent_ids, digests, strict=True
    ):
        yield sample_id, [*_originals_of(sample_id, parent_id), digest]


def check_no_leak(
    dataset: Path, train: Iterable[Split | Chunk], splits: Sequence[str] = ("val", "test")
) -> None:
    """Raises ValueError if a held-out example of a DATASET shares its original with training.

    The original is identified by the parent id, by the sample id, and, in case both are wrong, by
    the digest of the pixels. `train` may come in any number of parts. The held-out examples are
    read first, and only their ids and digests are kept.
    """
    manifest = load_manifest(dataset)
    held_out: dict[str | bytes, set[tuple[str, str]]] = defaultdict(set)  # mark -> (split, id)
    for name in splits:
        for path in shard_paths(dataset, manifest, name):
            for chunk in read_chunks(path):
                for sample_id, marks in _marks_of(chunk):
                    for mark in marks:
                        held_out[mark].add((name, sample_id))
    shared: set[tuple[str, str]] = set()
    for part in train if held_out else ():
        for _, marks in _marks_of(part):
            for mark in marks:
                if mark in held_out:
                    shared |= held_out[mark]
    for name in splits:
        leaked = [sample_id for split, sample_id in shared if split == name]
        if leaked:
            raise ValueError(
                f"{len(leaked)} {name} examples of {dataset} come from training images, first "
                f"{min(leaked)}: their score would measure memory; build the dataset anew"
            )
