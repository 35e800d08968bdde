"""Bytes of one record: a chunk of examples, encoded and decoded; no pickle.

Format version 1, little-endian, nothing between the parts:

    offset        bytes            what
    0             4                magic "KKJR"
    4             2                format version, uint16
    6             2, 2             height h and width w in pixels, uint16
    10            2                zero
    12            4                number of examples n, uint32
    16            4 n              class ids, int32
    16 + 4n       n h w            pixels, uint8, white on black, row by row
    ...           4 n              lengths in bytes of the sample ids, uint32
    ...           4 n              lengths in bytes of the parent ids, uint32
    ...           sum of lengths   sample ids, then parent ids, UTF-8

A sample id says where an image came from: `kkanji/U+6625/<file stem>`, `k49-train/000123`. A
written-out augmented copy k >= 1 is `<parent id>#<k>`; the parent of an original is itself.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8, UInt32

FORMAT_VERSION = 1
IMAGE_PX = 64
_MAGIC = b"KKJR"
_HEADER = struct.Struct("<4sHHHHI")


class Chunk(NamedTuple):
    """The examples of one record; row i of every field is the same example."""

    images: UInt8[np.ndarray, "n h w"]
    class_ids: Int32[np.ndarray, " n"]
    sample_ids: tuple[str, ...]
    parent_ids: tuple[str, ...]


def encode(chunk: Chunk) -> bytes:
    """The record that holds `chunk`; ValueError for unequal lengths or other dtypes."""
    images, class_ids, sample_ids, parent_ids = chunk
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(f"images must be uint8 [n, h, w], not {images.dtype} {images.shape}")
    if class_ids.dtype != np.int32 or class_ids.ndim != 1:
        raise ValueError(f"class ids must be int32 [n], not {class_ids.dtype} {class_ids.shape}")
    n, h, w = images.shape
    if not n == len(class_ids) == len(sample_ids) == len(parent_ids):
        lengths = (n, len(class_ids), len(sample_ids), len(parent_ids))
        raise ValueError(f"a chunk must have as many ids as images, not {lengths}")
    texts = [text.encode() for text in (*sample_ids, *parent_ids)]
    return b"".join(
        [
            _HEADER.pack(_MAGIC, FORMAT_VERSION, h, w, 0, n),
            class_ids.astype("<i4").tobytes(),
            images.tobytes(),
            np.array([len(text) for text in texts], "<u4").tobytes(),
            *texts,
        ]
    )


def decode(record: bytes) -> Chunk:
    """The chunk that a record holds; its arrays are read-only views of the record.

    ValueError for bytes that are not a record, another format version, and any surplus or missing
    byte.
    """
    if len(record) < _HEADER.size or record[:4] != _MAGIC:
        raise ValueError(
            f"expected a record that starts with {_MAGIC!r}, got {bytes(record[:8])!r}"
        )
    _, version, h, w, zero, n = _HEADER.unpack_from(record)
    if version != FORMAT_VERSION or zero:
        raise ValueError(
            f"expected a record of format version {FORMAT_VERSION}, got {version}: "
            "this kkanji_jax is older than the dataset"
        )
    pixels_at = _HEADER.size + 4 * n
    lengths_at = pixels_at + n * h * w
    texts_at = lengths_at + 8 * n
    if len(record) < texts_at:
        raise ValueError(
            f"a record of {n} examples must have over {texts_at} bytes, not {len(record)}"
        )
    ends = np.cumsum(np.frombuffer(record, "<u4", 2 * n, lengths_at), dtype=np.int64)
    if len(record) != texts_at + (int(ends[-1]) if n else 0):
        raise ValueError(f"a record of {n} examples has surplus or missing bytes: {len(record)}")
    bounds = [texts_at, *(ends + texts_at).tolist()]
    texts = [record[a:b].decode() for a, b in zip(bounds, bounds[1:], strict=False)]
    return Chunk(
        images=np.frombuffer(record, np.uint8, n * h * w, pixels_at).reshape(n, h, w),
        class_ids=np.frombuffer(record, "<i4", n, _HEADER.size).astype(np.int32, copy=False),
        sample_ids=tuple(texts[:n]),
        parent_ids=tuple(texts[n:]),
    )


def address_of(sample_ids: Sequence[str]) -> UInt32[np.ndarray, "n 2"]:
    """The address of each sample's randomness: BLAKE2b of its UTF-8 id, two uint32.

    Depends on the id alone, so adding samples or classes moves no address.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in sample_ids]
    words = np.frombuffer(b"".join(digests), "<u4").reshape(-1, 2)
    return words.astype(np.uint32, copy=False)
