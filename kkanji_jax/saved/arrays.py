"""An uncompressed .npz in half precision, each array of which begins on a 64-byte boundary.

NumPy can read it. A program that needs raw bytes, such as ONNX Runtime, finds each array at
`places_in` without unpacking, so the weights are on disk only once.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kkanji_jax.array_types import Float32, Shaped

DTYPES = ("float16", "bfloat16")
ALIGNMENT = 64
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip entry: 30 bytes, then name and extra field
_PADDING_ID = 0xD935  # of an extra field that only aligns; the number that zipalign took
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ArrayPlace(NamedTuple):
    """Where an array is in the file: little-endian, in C order."""

    offset: int
    num_bytes: int
    shape: tuple[int, ...]


def to_half(array: Float32[np.ndarray, "..."], dtype: str) -> Shaped[np.ndarray, "..."]:
    """float16, or the bits of bfloat16 as uint16; rounded to nearest, ties to even.

    ValueError if a finite number would become infinite.
    """
    if dtype not in DTYPES:
        raise ValueError(f"expected a dtype of {' or '.join(DTYPES)}, got {dtype!r}")
    if not np.isfinite(array).all():
        raise ValueError("expected finite weights, got NaN or infinity: the run diverged")
    if dtype == "float16":
        if np.abs(array).max(initial=0) > np.finfo(np.float16).max:
            raise ValueError("a weight is beyond float16's 65,504; use --dtype bfloat16")
        return array.astype("<f2")
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def from_half(array: Shaped[np.ndarray, "..."], dtype: str) -> Float32[np.ndarray, "..."]:
    """The inverse of `to_half`, except for rounding."""
    if dtype == "float16":
        return array.astype(np.float32)
    return (array.astype(np.uint32) << 16).view(np.float32)


def write_arrays(path: Path, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    """Writes `arrays` under their names; the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            start = archive.start_dir + 30 + len(entry.filename.encode()) + 4
            entry.extra = struct.pack("<HH", _PADDING_ID, -start % ALIGNMENT)
            entry.extra += bytes(-start % ALIGNMENT)
            archive.writestr(entry, content.getvalue())


def read_arrays(path: Path, dtype: str) -> dict[str, Float32[np.ndarray, "..."]]:
    """Every array by name, as float32; ValueError names a damaged file."""
    stored = np.dtype(np.float16 if dtype == "float16" else np.uint16)
    arrays = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                array = archive[name]
                if array.dtype != stored:
                    raise ValueError(f"{name} is {array.dtype}, expected {stored} for {dtype}")
                arrays[name] = from_half(array, dtype)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as err:
        raise ValueError(f"{path} is damaged: {err}") from err
    return arrays


def places_in(path: Path) -> dict[str, ArrayPlace]:
    """Where each array of a file made by `write_arrays` lies."""
    places = {}
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            file.seek(entry.header_offset)
            name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(30))
            file.seek(name_bytes + extra_bytes, 1)
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"{path}: expected .npy format 1.0 in {entry.filename}")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            num_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            places[entry.filename.removesuffix(".npy")] = ArrayPlace(file.tell(), num_bytes, shape)
    return places
