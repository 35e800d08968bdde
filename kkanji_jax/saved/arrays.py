"""An uncompressed .npz of rounded weights, each array of which begins on a 64-byte boundary.

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

from kkanji_jax.array_types import Float32, Int8, Shaped
from kkanji_jax.model.forward_pass import SCALE

DTYPES = ("float16", "bfloat16", "int8")
MOST = 127  # of int8: as far from 0 on both sides
ALIGNMENT = 64
_STORED = {"float16": "<f2", "bfloat16": "<u2", "int8": "<i1"}
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip entry: 30 bytes, then name and extra field
_PADDING_ID = 0xD935  # of an extra field that only aligns; the number that zipalign took
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ArrayPlace(NamedTuple):
    """Where an array is in the file: little-endian, in C order; bfloat16 as uint16."""

    dtype: np.dtype
    offset: int
    num_bytes: int
    shape: tuple[int, ...]


def rounded(
    variables: Mapping[str, Float32[np.ndarray, "..."]], dtype: str
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """What a file of `dtype` holds: every number rounded to nearest, ties to even.

    float16   as it is called
    bfloat16  its bits, as uint16
    int8      weights of two or more axes, from -127 to 127; NAME:scale holds what 1 stands for, a
              float32 for each channel of the output, which is the last axis. The rest, 1 % of a B0,
              stays float32. (Krishnamoorthi, arXiv:1806.08342, sections 2.2 and 3.1.1: symmetric,
              weights only, a scale for each channel.)

    ValueError if a number is not finite, or would not be.
    """
    if dtype not in DTYPES:
        raise ValueError(f"expected a dtype of {', '.join(DTYPES)}, got {dtype!r}")
    found = {}
    for name, array in variables.items():
        if not np.isfinite(array).all():
            raise ValueError("expected finite weights, got NaN or infinity: the run diverged")
        if dtype != "int8":
            found[name] = _to_half(array, dtype)
        elif array.ndim > 1:
            found[name], found[name + SCALE] = _to_int8(array)
        else:
            found[name] = array.astype("<f4")
    return found


def _to_half(array: Float32[np.ndarray, "..."], dtype: str) -> Shaped[np.ndarray, "..."]:
    if dtype == "float16":
        if np.abs(array).max(initial=0) > np.finfo(np.float16).max:
            raise ValueError("a weight is beyond float16's 65,504; use --dtype bfloat16")
        return array.astype("<f2")
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _to_int8(
    array: Float32[np.ndarray, "... n"],
) -> tuple[Int8[np.ndarray, "... n"], Float32[np.ndarray, " n"]]:
    """Whole numbers and their scales.

    A scale has 16 significant bits. So its products with whole numbers are exact in float32: every
    program restores the same weights, and these, rounded again, are the same whole numbers.
    """
    most = np.abs(array).max(axis=tuple(range(array.ndim - 1)), initial=0)
    bits = (most / MOST).astype(np.float32).view(np.uint32)
    scale = ((bits + 0x80) & np.uint32(0xFFFFFF00)).view(np.float32)
    scale = np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint(array / scale), -MOST, MOST).astype(np.int8), scale.astype("<f4")


def restored(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], dtype: str
) -> dict[str, Float32[np.ndarray, "..."]]:
    """The inverse of `rounded`, except for rounding; ValueError if they are not of `dtype`."""
    found = {}
    for name, array in arrays.items():
        if name.endswith(SCALE):
            continue
        is_scaled = dtype == "int8" and array.ndim > 1
        stored = np.dtype("<f4" if dtype == "int8" and not is_scaled else _STORED[dtype])
        if array.dtype != stored:
            raise ValueError(f"{name} is {array.dtype}, expected {stored} for {dtype}")
        if is_scaled:
            scale = arrays.get(name + SCALE)
            if scale is None or (scale.dtype, scale.shape) != ("<f4", array.shape[-1:]):
                raise ValueError(f"{name} needs {name}{SCALE}, a float32 for each output")
            found[name] = array * scale
        elif dtype == "bfloat16":
            found[name] = (array.astype(np.uint32) << 16).view(np.float32)
        else:
            found[name] = array.astype(np.float32)
    return found


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
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return restored({name: archive[name] for name in archive.files}, dtype)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as err:
        raise ValueError(f"{path} is damaged: {err}") from err


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
            name = entry.filename.removesuffix(".npy")
            places[name] = ArrayPlace(dtype, file.tell(), num_bytes, shape)
    return places
