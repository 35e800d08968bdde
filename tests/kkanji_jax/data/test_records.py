"""Bytes of one record."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kkanji_jax.data.records import FORMAT_VERSION, Chunk, address_of, decode, encode


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    n, h, w = draw(st.integers(0, 5)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    ids = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=n, max_size=n)
    return Chunk(
        draw(hnp.arrays(np.uint8, (n, h, w))),
        draw(hnp.arrays(np.int32, n)),
        tuple(draw(ids)),
        tuple(draw(ids)),
    )


def small_chunk() -> Chunk:
    images = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    ids = ("kkanji/U+6625/a", "k49-train/000001#2")
    return Chunk(images, np.array([5, 70000], np.int32), ids, (ids[0], "k49-train/000001"))


@given(chunks())
def test_decode_undoes_encode(chunk: Chunk):
    decoded = decode(encode(chunk))
    np.testing.assert_array_equal(decoded.images, chunk.images)
    np.testing.assert_array_equal(decoded.class_ids, chunk.class_ids)
    assert decoded.images.shape == chunk.images.shape
    assert (decoded.images.dtype, decoded.class_ids.dtype) == (np.uint8, np.int32)
    assert decoded.sample_ids == chunk.sample_ids
    assert decoded.parent_ids == chunk.parent_ids


def test_the_bytes_are_those_the_format_describes():
    expected = b"".join(
        [
            b"KKJR",
            struct.pack("<HHHHI", FORMAT_VERSION, 2, 3, 0, 2),
            struct.pack("<ii", 5, 70000),
            bytes(range(12)),
            struct.pack("<IIII", 15, 18, 15, 16),
            b"kkanji/U+6625/ak49-train/000001#2kkanji/U+6625/ak49-train/000001",
        ]
    )
    assert encode(small_chunk()) == expected


def test_every_cut_and_every_surplus_byte_is_refused():
    record = encode(small_chunk())
    for length in range(len(record)):
        with pytest.raises(ValueError):
            decode(record[:length])
    with pytest.raises(ValueError, match="surplus"):
        decode(record + b"\0")


@given(st.binary(max_size=64))
def test_garbage_is_a_value_error_and_nothing_worse(garbage: bytes):
    for record in (garbage, b"KKJR" + garbage, b"KKJR\x01\x00" + garbage):
        try:
            chunk = decode(record)
        except ValueError:
            continue
        assert encode(chunk) == record


def test_a_huge_count_in_the_header_takes_no_memory():
    with pytest.raises(ValueError, match="4294967295 examples"):
        decode(struct.pack("<4sHHHHI", b"KKJR", FORMAT_VERSION, 65535, 65535, 0, 2**32 - 1))


def test_another_format_version_is_refused_by_number():
    record = bytearray(encode(small_chunk()))
    record[4] = 9
    with pytest.raises(ValueError, match="version 1, got 9"):
        decode(bytes(record))


def test_a_pickle_is_no_record():
    import pickle

    with pytest.raises(ValueError, match="KKJR"):
        decode(pickle.dumps(list(range(100))))


def test_fields_of_different_lengths_or_kinds_are_not_encoded():
    images, class_ids, sample_ids, parent_ids = small_chunk()
    with pytest.raises(ValueError, match="as many ids"):
        encode(Chunk(images, class_ids, sample_ids[:1], parent_ids))
    with pytest.raises(ValueError, match="as many ids"):
        encode(Chunk(images[:1], class_ids, sample_ids, parent_ids))
    with pytest.raises(ValueError, match="int32"):
        encode(Chunk(images, class_ids.astype(np.int64), sample_ids, parent_ids))
    with pytest.raises(ValueError, match="uint8"):
        encode(Chunk(images.astype(np.float32), class_ids, sample_ids, parent_ids))


def test_an_address_is_the_digest_of_the_id_and_of_nothing_else():
    ids = ["kkanji/U+6625/a", "k49-train/000001", "春"]
    addresses = address_of(ids)
    assert addresses.dtype == np.uint32 and addresses.shape == (3, 2)
    for sample_id, address in zip(ids, addresses, strict=True):
        digest = hashlib.blake2b(sample_id.encode(), digest_size=8).digest()
        assert struct.unpack("<II", digest) == tuple(address.tolist())
    np.testing.assert_array_equal(address_of(ids[::-1]), addresses[::-1])
    assert address_of([]).shape == (0, 2)


def test_addresses_of_many_ids_differ():
    addresses = address_of([f"k49-train/{row:06d}" for row in range(20_000)])
    assert len(np.unique(addresses, axis=0)) == 20_000
