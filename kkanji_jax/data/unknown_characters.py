"""Images of characters that are not in a class index, which a model should not claim to know."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from kkanji_jax.data.class_index import ClassIndex, parse_codepoint
from kkanji_jax.data.manifest import SPLITS, load_manifest
from kkanji_jax.data.resident import load_split
from kkanji_jax.glyphs.glyph_image import glyph_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


class UnknownCharacters(NamedTuple):
    """Glyphs whose code points are not in an index."""

    images: UInt8[np.ndarray, "n 64 64"]
    sample_ids: list[str]
    codepoints: list[str]
    num_found: int  # before the sample was drawn


def load_unknown(path: Path, class_index: ClassIndex, most: int) -> UnknownCharacters:
    """At most `most` images of the characters outside `class_index`, from a DATASET or a folder.

    Of a DATASET all splits are used, because a model that does not know a character was trained on
    none of its images. In a folder, each image is in a folder named by its code point, as CODH
    publishes them. The images whose ids have the smallest SHA-256 are chosen, so that adding images
    changes little. ValueError if there is no such image or one cannot be read.
    """
    if not path.is_dir():
        raise ValueError(f"no folder of characters outside the index at {path}")
    is_dataset = (path / "manifest.json").is_file()
    known = set(class_index.codepoints)
    if is_dataset:
        rows = list(_of_dataset(path, known))
    else:
        rows = [
            (codepoint, f"{codepoint}/{file.name}", file)
            for codepoint, file in _of_folder(path)
            if codepoint not in known
        ]
    if not rows:
        raise ValueError(
            f"{path} has no image of a character outside the {len(known)} of the index; expected a "
            "DATASET of more classes, or folders named by code point such as U+6625"
        )
    chosen = sorted(rows, key=lambda row: hashlib.sha256(row[1].encode()).digest())[:most]
    images = [glyph_image(image) if isinstance(image, Path) else image for *_, image in chosen]
    return UnknownCharacters(
        np.stack(images), [row[1] for row in chosen], [row[0] for row in chosen], len(rows)
    )


def _of_dataset(path: Path, known: set[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    manifest = load_manifest(path)
    index = ClassIndex.load(path / "index.json")
    for name in SPLITS:
        if not manifest["splits"][name]["num_examples"]:
            continue
        split = load_split(path, name)
        for row, label in enumerate(split.labels):
            is_original = split.sample_ids[row] == split.parent_ids[row]
            codepoint = index.codepoints[label]
            if codepoint not in known and is_original:
                yield codepoint, split.sample_ids[row], split.images[row]


def _of_folder(path: Path) -> Iterator[tuple[str, Path]]:
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        try:
            codepoint = parse_codepoint(folder.name)
        except ValueError:
            continue  # an unrelated folder, for example of papers or licences
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
                yield codepoint, file
