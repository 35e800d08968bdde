"""Copies of glyphs that are no whole, upright characters: turned ones, and halves."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.glyphs.published_form import GLYPH_PX

MOST_COPIED = 2400  # examples of each group
_HALF = GLYPH_PX // 2
_HALVES = (
    (slice(None), slice(None, _HALF)),
    (slice(None), slice(_HALF, None)),
    (slice(None, _HALF), slice(None)),
    (slice(_HALF, None), slice(None)),
)
_ENLARGED = 3  # as a cut-out of a photograph: what is smaller than a published glyph is no such

Glyphs = UInt8[np.ndarray, "n 64 64"]


class OddCopies(NamedTuple):
    """Copies, and of which example each is one."""

    rows: Int[np.ndarray, " m"]
    glyphs: UInt8[np.ndarray, "m 64 64"]


def odd_copies(glyphs: Glyphs, sample_ids: Sequence[str], groups: Sequence[str]) -> OddCopies:
    """Four copies of at most MOST_COPIED examples of each group: turned by 90°, 180°, 270°; a half.

    Which examples, and which half of each, follows from the SHA-256 of their ids.
    """
    digests = [hashlib.sha256(name.encode()).digest() for name in sample_ids]
    chosen: list[int] = []
    for group in sorted(set(groups)):
        inside = [row for row, name in enumerate(groups) if name == group]
        chosen += sorted(inside, key=digests.__getitem__)[:MOST_COPIED]
    rows = np.array(sorted(chosen), np.int64)
    turned = [np.rot90(glyphs[rows], turns, axes=(1, 2)) for turns in (1, 2, 3)]
    halves = [half_of(glyphs[row], digests[row][-1] % len(_HALVES)) for row in rows]
    return OddCopies(np.tile(rows, 4), np.concatenate([*turned, np.stack(halves)]))


def half_of(glyph: UInt8[np.ndarray, "64 64"], which: int) -> UInt8[np.ndarray, "64 64"]:
    """The left, right, upper or lower half of a glyph as `glyph_image` shows it cut out."""
    cut = Image.fromarray(255 - glyph[_HALVES[which]])
    size = (cut.width * _ENLARGED, cut.height * _ENLARGED)
    return glyph_image(cut.resize(size, Image.Resampling.BICUBIC))
