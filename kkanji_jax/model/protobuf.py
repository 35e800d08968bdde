"""The few messages of ONNX's protocol buffers that a network of ours needs, as bytes.

Written by hand because onnx.proto is a stable table of field numbers, and so a bundle can be run
where neither JAX nor the onnx package is installed. Field numbers are those of onnx.proto (IR 8).
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FLOAT, UINT8, INT64, FLOAT16, BFLOAT16 = 1, 2, 7, 10, 16  # TensorProto.DataType
IR_VERSION, OPSET = 8, 17
_ATTRIBUTE_TYPES = {"f": 1, "i": 2, "ints": 7}
_EXTERNAL = 1  # TensorProto.DataLocation
_METADATA = 14  # ModelProto.metadata_props
_VARINT, _BYTES = 0, 2


class External(NamedTuple):
    """Bytes of a tensor that lie in another file beside the model."""

    location: str
    offset: int
    length: int


def _varint(number: int) -> bytes:
    number &= 0xFFFF_FFFF_FFFF_FFFF  # negative numbers take ten bytes
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _pair(number: int, key: str, value: str) -> bytes:
    return _field(number, _field(1, key) + _field(2, value))


def node(
    op: str, inputs: Sequence[str], output: str, **attributes: int | float | Sequence[int]
) -> bytes:
    """NodeProto with one output, after which it is named. Attributes are INT, FLOAT or INTS."""
    content = b"".join(_field(1, name) for name in inputs)
    content += _field(2, output) + _field(3, output) + _field(4, op)
    for name, value in attributes.items():
        if isinstance(value, float):
            kind, body = "f", _varint(2 << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            kind, body = "i", _field(3, value)
        else:
            kind, body = "ints", b"".join(_field(8, item) for item in value)
        body = _field(1, name) + body + _field(20, _ATTRIBUTE_TYPES[kind])
        content += _field(5, body)
    return content


def tensor(name: str, data_type: int, shape: Sequence[int], content: bytes | External) -> bytes:
    """TensorProto: little-endian bytes in C order, here or in another file."""
    body = b"".join(_field(1, side) for side in shape) + _field(2, data_type) + _field(8, name)
    if isinstance(content, bytes):
        return body + _field(9, content)
    pairs = (("location", content.location), ("offset", content.offset), ("length", content.length))
    body += b"".join(_pair(13, key, str(value)) for key, value in pairs)
    return body + _field(14, _EXTERNAL)


def value(name: str, data_type: int, shape: Sequence[int | str]) -> bytes:
    """ValueInfoProto of an input or output; a side that varies is a name."""
    sides = b"".join(_field(1, _field(2 if isinstance(s, str) else 1, s)) for s in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, data_type) + _field(2, sides)))


def model(
    *,
    nodes: Sequence[bytes],
    tensors: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    metadata: Mapping[str, str],
) -> bytes:
    """ModelProto of one graph."""
    parts = ((1, nodes), (5, tensors), (11, inputs), (12, outputs))
    graph = b"".join(_field(number, item) for number, items in parts for item in items)
    content = _field(1, IR_VERSION) + _field(2, "kkanji_jax")
    content += _field(7, _field(2, "kkanji_jax") + graph) + _field(8, _field(2, OPSET))
    return content + b"".join(_pair(_METADATA, key, text) for key, text in metadata.items())


# --- reading back ------------------------------------------------------------------------------


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(content):
        key, at = _read_varint(content, at)
        if key & 7 == _VARINT:
            found, at = _read_varint(content, at)
        elif key & 7 == _BYTES:
            length, at = _read_varint(content, at)
            found, at = content[at : at + length], at + length
        else:
            raise ValueError(f"wire type {key & 7} is not one that a model has on top")
        yield key >> 3, found


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a model, whoever wrote it; ValueError when the file is no model."""
    try:
        pairs = [dict(_fields(m)) for n, m in _fields(path.read_bytes())
                 if n == _METADATA and isinstance(m, bytes)]  # fmt: skip
        return {bytes(pair[1]).decode(): bytes(pair[2]).decode() for pair in pairs}
    except (IndexError, KeyError, TypeError, ValueError) as err:
        raise ValueError(f"{path} is damaged: it is no ONNX model ({err})") from err
