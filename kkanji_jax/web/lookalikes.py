"""Example images of every character, which the web page shows beside its candidates.

They are taken from a DATASET's training images when the page is made, and keep their licence.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.resident import Split, load_split

FOLDER = "lookalikes"
PER_CLASS = 3
TILE_PX = 48
PER_SHEET = 128  # classes: a page fetches the sheets of its candidates, a few hundred kB each
_COARSE_PX = 16  # on which likeness is judged
_TYPICAL_SHARE = 0.8  # the share of a class: the rest may be damaged or mislabelled


def typical_and_different(images: UInt8[np.ndarray, "n h w"], most: int) -> list[int]:
    """Up to `most` of a class's images: the one nearest to the mean, then the most different ones.

    All are chosen among the images nearest to the mean (farthest-first traversal; Gonzalez 1985).
    """
    coarse = (
        np.stack(
            [
                np.asarray(
                    Image.fromarray(image).resize((_COARSE_PX, _COARSE_PX), Image.Resampling.BOX)
                )
                for image in images
            ]
        )
        .reshape(len(images), -1)
        .astype(np.float32)
    )
    from_mean = np.linalg.norm(coarse - coarse.mean(axis=0), axis=1)
    by_mean = np.argsort(from_mean, kind="stable")
    pool = by_mean[: max(most, int(np.ceil(_TYPICAL_SHARE * len(images))))]
    chosen = [int(pool[0])]
    nearest = np.linalg.norm(coarse[pool] - coarse[pool[0]], axis=1)
    while len(chosen) < min(most, len(pool)):
        place = int(np.argmax(nearest))
        chosen.append(int(pool[place]))
        apart = np.linalg.norm(coarse[pool] - coarse[pool[place]], axis=1)
        nearest = np.minimum(nearest, apart)
        nearest[place] = -1.0
    return chosen


def write_lookalikes(out: Path, dataset: Path, class_index: ClassIndex) -> dict[str, Any]:
    """Writes the sheets into `out`/lookalikes; returns what the page needs to know about them.

    A sheet has a row for each of PER_SHEET classes and a column for each example, in tiles of
    TILE_PX. ValueError if the dataset has none of the model's characters.
    """
    split, theirs = load_split(dataset, "train"), ClassIndex.load(dataset / "index.json")
    rows_of = _rows_of(split, theirs, class_index.codepoints)
    if not any(map(len, rows_of)):
        raise ValueError(f"{dataset} has none of the model's {len(class_index)} characters")
    (out / FOLDER).mkdir()
    counts = []
    for first in range(0, len(class_index), PER_SHEET):
        classes = rows_of[first : first + PER_SHEET]
        sheet = np.zeros((len(classes) * TILE_PX, PER_CLASS * TILE_PX), np.uint8)
        for number, rows in enumerate(classes):
            chosen = typical_and_different(split.images[rows], PER_CLASS) if len(rows) else []
            counts.append(len(chosen))
            for column, choice in enumerate(chosen):
                tile = Image.fromarray(split.images[rows[choice]])
                tile = tile.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
                top, left = number * TILE_PX, column * TILE_PX
                sheet[top : top + TILE_PX, left : left + TILE_PX] = np.asarray(tile)
        path = out / FOLDER / f"{first // PER_SHEET}.png"
        Image.fromarray(sheet).save(path, optimize=True)
    return {"tile_px": TILE_PX, "per_sheet": PER_SHEET, "counts": counts}


def _rows_of(
    split: Split, theirs: ClassIndex, codepoints: Sequence[str]
) -> list[Int[np.ndarray, " n"]]:
    """The rows of each code point's originals, in the dataset's order."""
    pairs = zip(split.sample_ids, split.parent_ids, strict=True)
    order = np.flatnonzero([sample == parent for sample, parent in pairs])
    order = order[np.argsort(split.labels[order], kind="stable")]
    starts = np.searchsorted(split.labels[order], np.arange(len(theirs) + 1))
    ids = {codepoint: number for number, codepoint in enumerate(theirs.codepoints)}
    none = np.zeros(0, np.int64)
    return [order[starts[ids[c]] : starts[ids[c] + 1]] if c in ids else none for c in codepoints]
