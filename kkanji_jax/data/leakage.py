"""Checks that no held-out example was trained on: by parent, by sample id, by pixels.

Of held-out examples only marks are kept: 16 bytes for each id and for the pixels. Their names are
read again where a mark is met in training.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Shaped

from kkanji_jax.data.manifest import load_manifest, shard_paths
from kkanji_jax.data.records import Chunk
from kkanji_jax.data.resident import Split, read_chunks

_MARK_BYTES = 16
_MARK = f"S{_MARK_BYTES}"  # all have this width, so NumPy compares every byte
_AT_ONCE = 4096  # marks that are looked up together

Marks = Shaped[np.ndarray, " m"]


def _originals_of(sample_id: str, parent_id: str) -> tuple[str, ...]:
    """The originals that a sample is made of: by its parent id and, for a copy, by its own id."""
    if sample_id == parent_id:  # an original, though a file name may look like a copy's
        return (sample_id,)
    return parent_id, sample_id.rpartition("#")[0] or sample_id


def _mark(content: bytes | memoryview, kind: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_MARK_BYTES, person=kind).digest()


def _marks_of(examples: Split | Chunk) -> Iterator[list[bytes]]:
    """What identifies the original of each example: marks of its ids, and of its pixels."""
    for sample_id, parent_id, image in zip(
        examples.sample_ids, examples.parent_ids, examples.images, strict=True
    ):
        originals = _originals_of(sample_id, parent_id)
        yield [
            *(_mark(name.encode(), b"id") for name in originals),
            _mark(np.ascontiguousarray(image).data, b"pixels"),
        ]


def _held_out(dataset: Path, split: str) -> Iterator[Chunk]:
    for path in shard_paths(dataset, load_manifest(dataset), split):
        yield from read_chunks(path)


def _sorted_marks(dataset: Path, splits: Sequence[str]) -> Marks:
    """The marks of all held-out examples, in order; one may be there several times."""
    joined = bytearray()
    for name in splits:
        for chunk in _held_out(dataset, name):
            joined += b"".join(mark for marks in _marks_of(chunk) for mark in marks)
    held_out = np.frombuffer(joined, _MARK)
    held_out.sort()  # in place
    return held_out


def _places_of(marks: Sequence[bytes], held_out: Marks) -> Int[np.ndarray, " n"]:
    """Where each mark is first among those of held-out examples; -1 if it is not."""
    sought = np.frombuffer(b"".join(marks), _MARK)
    places = np.searchsorted(held_out, sought)
    is_met = held_out[np.minimum(places, len(held_out) - 1)] == sought
    return np.where(is_met, places, -1)


def _met_in(train: Iterable[Split | Chunk], held_out: Marks) -> Bool[np.ndarray, " m"]:
    """Which marks of held-out examples training has too; the first of equal ones tells."""
    is_met = np.zeros(len(held_out), bool)
    marks = (mark for part in train for marks in _marks_of(part) for mark in marks)
    while block := list(islice(marks, _AT_ONCE)):
        places = _places_of(block, held_out)
        is_met[places[places >= 0]] = True
    return is_met


def _leaked_of(chunk: Chunk, held_out: Marks, is_met: Bool[np.ndarray, " m"]) -> Iterator[str]:
    """The sample ids of a held-out chunk that share a mark with training."""
    for sample_id, marks in zip(chunk.sample_ids, _marks_of(chunk), strict=True):
        if is_met[_places_of(marks, held_out)].any():
            yield sample_id


def check_no_leak(
    dataset: Path, train: Iterable[Split | Chunk], splits: Sequence[str] = ("val", "test")
) -> None:
    """Raises ValueError if a held-out example of a DATASET shares its original with training.

    The original is identified by the parent id, by the sample id, and, in case both are wrong, by
    the digest of the pixels. `train` may come in any number of parts. The held-out examples are
    read first, and only marks of 16 bytes are kept; they are read again if there is a leak.
    """
    held_out = _sorted_marks(dataset, splits)
    if not len(held_out):
        return
    is_met = _met_in(train, held_out)
    if not is_met.any():
        return
    for name in splits:
        chunks = _held_out(dataset, name)
        leaked = {each for chunk in chunks for each in _leaked_of(chunk, held_out, is_met)}
        if leaked:
            raise ValueError(
                f"{len(leaked)} {name} examples of {dataset} come from training images, first "
                f"{min(leaked)}: their score would measure memory; build the dataset anew"
            )
