"""The training images that look most alike to the network: an index, built once and kept.

Features are projected on their principal components, normalised and held in float16, so that the
whole of the data fits in some tens of megabytes; likeness is the cosine.
"""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kkanji_jax.array_types import Float, Float32, UInt8
from kkanji_jax.cli import Report, say_nothing
from kkanji_jax.files import cache_folder, written_whole
from kkanji_jax.saved.trained import digest_of_weights

VERSION = 1
NUM_COMPONENTS = 128
_ROWS = 8192  # of the index in float32 at a time

Outputs = Callable[[UInt8[np.ndarray, "n 64 64"]], tuple[np.ndarray, np.ndarray]]


class Neighbour(NamedTuple):
    """A training image: where it came from, what it is, and its likeness in [-1, 1]."""

    sample_id: str
    codepoint: str
    similarity: float


class NeighbourIndex(NamedTuple):
    """All training images of a dataset as the network sees them."""

    mean: Float32[np.ndarray, " d"]
    components: Float32[np.ndarray, "d p"]
    vectors: np.ndarray  # float16 [n p], each of length 1
    sample_ids: np.ndarray
    codepoints: np.ndarray

    def nearest(self, features: Float[np.ndarray, "b d"], count: int) -> list[list[Neighbour]]:
        """The `count` most alike of each row, most alike first."""
        count = min(count, len(self.vectors))
        queries = _unit((features - self.mean) @ self.components)
        likeness = np.empty((len(queries), len(self.vectors)), np.float32)
        for start in range(0, len(self.vectors), _ROWS):
            rows = self.vectors[start : start + _ROWS].astype(np.float32)
            likeness[:, start : start + _ROWS] = queries @ rows.T
        best = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        answers = []
        for row, columns in zip(likeness, best, strict=True):
            ordered = sorted(columns, key=lambda i, row=row: (-row[i], i))
            answers.append(
                [
                    Neighbour(str(self.sample_ids[i]), str(self.codepoints[i]), float(row[i]))
                    for i in ordered
                ]
            )
        return answers

    def save(self, path: Path) -> None:
        """Writes the index; the file appears when whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, version=np.array(VERSION), **self._asdict())  # pyright: ignore[reportArgumentType]

    @classmethod
    def load(cls, path: Path) -> "NeighbourIndex":
        """Reads an index; ValueError names the file and what to do."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                if archive["version"] != VERSION:
                    raise ValueError(f"version {archive['version']}, expected {VERSION}")
                return cls(**{name: archive[name] for name in cls._fields})
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as err:
            raise ValueError(
                f"{path} is damaged or of another version ({err}); remove it, and give --dataset "
                "to build it anew"
            ) from err


def build_index(
    outputs: Outputs,
    images: UInt8[np.ndarray, "n 64 64"],
    sample_ids: list[str],
    codepoints: list[str],
    report: Report = say_nothing,
) -> NeighbourIndex:
    """The index of `images` under a network; `report` is told how many are done."""
    parts = []
    for start in range(0, len(images), 512):
        parts.append(outputs(images[start : start + 512])[1].astype(np.float32))
        report("indexing training images", min(start + 512, len(images)), len(images))
    features = np.concatenate(parts)
    mean = features.mean(axis=0)
    centred = features - mean
    covariance = centred.T.astype(np.float64) @ centred / len(centred)
    _, vectors = np.linalg.eigh(covariance)  # ascending
    components = vectors[:, ::-1][:, :NUM_COMPONENTS].astype(np.float32)
    return NeighbourIndex(
        mean,
        np.ascontiguousarray(components),
        _unit(centred @ components).astype(np.float16),
        np.array(sample_ids),
        np.array(codepoints),
    )


def cached_index(
    recogniser: Any, dataset: Path | None, report: Report = say_nothing
) -> NeighbourIndex:
    """The index of a dataset's training images under a model, built on first use.

    It is kept in the folder of a run, or for a bundle, which stays as it was signed, in the user's
    cache, if there is to be one (KKANJI_CACHE). Without `dataset`, the only index that is there
    already; ValueError if there is not one.
    """
    trained = recogniser.trained
    folder = cache_folder() if trained.is_bundle else trained.path
    digest = digest_of_weights(trained)[:12]
    if dataset is None:
        if folder is None:
            raise ValueError(
                "--neighbours needs --dataset DATASET: KKANJI_CACHE=off keeps no index"
            )
        kept = sorted(folder.glob(f"neighbours-*-{digest}.npz"))
        if len(kept) != 1:
            raise ValueError(
                f"--neighbours needs --dataset DATASET: {len(kept)} indexes for this model are in "
                f"{folder}"
            )
        return NeighbourIndex.load(kept[0])

    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.data.manifest import load_manifest

    fingerprint = load_manifest(dataset)["fingerprint"]
    path = folder / f"neighbours-{fingerprint[:12]}-{digest}.npz" if folder else None
    if path and path.exists():
        return NeighbourIndex.load(path)

    from kkanji_jax.data.resident import load_split

    split = load_split(dataset, "train")
    names = ClassIndex.load(dataset / "index.json").codepoints
    what = f"{path} from {len(split.labels):,} images, once" if path else "an index, kept nowhere"
    print(f"building {what}", file=sys.stderr, flush=True)
    index = build_index(
        recogniser.outputs, split.images, split.sample_ids, [names[i] for i in split.labels], report
    )
    if path:
        index.save(path)
    return index


def _unit(vectors: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)
