"""Images of characters that are not in a class index, which a model should not claim to know."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from kkanji_jax.data.class_index import ClassIndex, parse_codepoint
from kkanji_jax.data.manifest import MANIFEST_NAME, SPLITS, load_index, load_manifest
from kkanji_jax.data.streamed import Records
from kkanji_jax.files import is_foreign
from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.glyphs.image_files import SUFFIXES


class UnknownCharacters(NamedTuple):
    """Glyphs whose code points are not in an index."""

    images: UInt8[np.ndarray, "n 64 64"]
    sample_ids: list[str]
    codepoints: list[str]
    num_found: int  # before the sample was drawn


class _Found(NamedTuple):
    """An image of a character outside the index: its pixels, or the file that it is in."""

    codepoint: str
    sample_id: str
    image: UInt8[np.ndarray, "h w"] | Path


def load_unknown(path: Path, class_index: ClassIndex, most: int) -> UnknownCharacters:
    """At most `most` images of the characters outside `class_index`, from a DATASET or a folder.

    Of a DATASET all splits are used, because a model that does not know a character was trained on
    none of its images. In a folder, each image is in a folder named by its code point, as CODH
    publishes them. The images whose ids have the smallest SHA-256 are chosen, so that adding images
    changes little; `most` is at least 1. A DATASET is read a record at a time, and only the images
    chosen so far stay in memory. ValueError if there is no such image or one cannot be read.
    """
    if not path.is_dir():
        raise ValueError(f"no folder of characters outside the index at {path}")
    known = frozenset(class_index.codepoints)
    is_dataset = (path / MANIFEST_NAME).is_file()
    found = _of_dataset(path, known) if is_dataset else _of_folder(path, known)
    chosen, num_found = _drawn(found, most)
    if not num_found:
        raise ValueError(
            f"{path} has no image of a character outside the {len(known)} of the index; expected a "
            "DATASET of more classes, or folders named by code point such as U+6625"
        )
    return UnknownCharacters(
        images=np.stack(
            [
                glyph_image(each.image) if isinstance(each.image, Path) else each.image
                for each in chosen
            ]
        ),
        sample_ids=[each.sample_id for each in chosen],
        codepoints=[each.codepoint for each in chosen],
        num_found=num_found,
    )


def _drawn(found: Iterable[_Found], most: int) -> tuple[list[_Found], int]:
    """Those whose ids have the smallest SHA-256, smallest first, and how many there were."""
    num_found = 0

    def counted() -> Iterator[_Found]:
        nonlocal num_found
        for each in found:
            num_found += 1
            yield each

    chosen = heapq.nsmallest(
        most, counted(), key=lambda each: hashlib.sha256(each.sample_id.encode()).digest()
    )
    return chosen, num_found


def _of_dataset(path: Path, known: frozenset[str]) -> Iterator[_Found]:
    manifest = load_manifest(path)
    codepoints = load_index(path, manifest).codepoints
    for name in SPLITS:
        if not manifest["splits"][name]["num_examples"]:
            continue
        records = Records(path, name)
        records.check_bytes(0, 1)
        for chunk in records:
            for row, label in enumerate(chunk.class_ids.tolist()):
                is_original = chunk.sample_ids[row] == chunk.parent_ids[row]
                if is_original and codepoints[label] not in known:
                    # A copy: a view would keep the whole record in memory.
                    yield _Found(codepoints[label], chunk.sample_ids[row], chunk.images[row].copy())


def _of_folder(path: Path, known: frozenset[str]) -> Iterator[_Found]:
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        try:
            codepoint = parse_codepoint(folder.name)
        except ValueError:
            continue  # an unrelated folder, for example of papers or licences
        if codepoint in known:
            continue
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in SUFFIXES and not is_foreign(file.name):
                yield _Found(codepoint, f"{codepoint}/{file.name}", file)
