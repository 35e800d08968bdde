"""Reads untrusted archives: arrays of npz and gzipped IDX files, the members of a tar.

Sizes are checked before memory is allocated, pickles are refused, large arrays are read as a stream
of rows, and nothing is extracted to disk.
"""

import gzip
import io
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import UInt8

MAX_ARRAY_BYTES = 2**31  # read whole: labels, of which Kuzushiji-49 has 0.2 MB
MAX_STREAM_BYTES = 2**34  # read as a stream: images, of which Kuzushiji-49 has 182 MB
MAX_DIRECTORY_BYTES = 2**20  # of a zip; that of an npz has some 60
ROWS_PER_BLOCK = 4_096
MAX_MEMBERS = 2_000_000  # Kuzushiji-Kanji has 140,424
MAX_MEMBER_BYTES = 2**20  # its PNGs are of 1-2 kB
_BLOCK = 512  # of a tar


class _ColumnsError(ValueError):
    """An undamaged array in an order that is not supported; downloading it again will not help."""


class _Opened(NamedTuple):
    """An array whose header was read; `file` is positioned at its data."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    file: Any  # whatever has read()


def _check_directory(path: Path) -> None:
    """Refuses a zip that lists many files, before zipfile makes an object of each."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 22 - 0xFFFF))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at >= 0 and len(tail) >= at + 16:
        (num_bytes,) = struct.unpack_from("<I", tail, at + 12)
        if num_bytes > MAX_DIRECTORY_BYTES:
            raise ValueError(f"lists {num_bytes:,} bytes of files, far more than an npz has")


@contextmanager
def _open_npz(path: Path) -> Iterator[_Opened]:
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names.count("arr_0.npy") != 1:
                there = ", ".join(names[:5]) or "nothing"
                raise ValueError(f"expected one array, arr_0, got {there}")
            info = archive.getinfo("arr_0.npy")
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }.get(version)
                if read_header is None:
                    raise ValueError(f"arr_0 has an unknown npy version {version}")
                shape, is_fortran, dtype = read_header(file)
                if dtype.hasobject:
                    raise ValueError("arr_0 holds pickled Python objects, which are never loaded")
                size = math.prod(shape) * dtype.itemsize
                if size > MAX_STREAM_BYTES:
                    raise ValueError(f"arr_0 states {size:,} bytes, over the limit")
                if is_fortran and len(shape) > 1:
                    raise _ColumnsError(
                        f"{path}: arr_0 is stored column by column (Fortran order), which cannot "
                        "be read row by row: save it again as "
                        "np.savez_compressed(file, np.ascontiguousarray(array))"
                    )
                if file.tell() + size != info.file_size:
                    raise ValueError(
                        f"arr_0 states shape {shape} of {dtype}, which its bytes are not"
                    )
                yield _Opened(shape, dtype, file)
    except _ColumnsError:
        raise
    except (ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as err:
        raise ValueError(f"{path}: {err or 'is cut short'}: download it again") from err
    except zipfile.BadZipFile as err:
        with open(path, "rb") as file:
            start = file.read(16)
        raise ValueError(
            f"{path} is no npz file, or damaged ({err}); it starts with {start!r}: "
            "download it again"
        ) from err


@contextmanager
def _open_idx(path: Path) -> Iterator[_Opened]:
    try:
        with gzip.open(path) as file:
            zeros, kind, ndim = struct.unpack(">HBB", file.read(4))
            if zeros or kind != 8 or ndim not in (1, 3):
                raise ValueError("expected an IDX file of uint8, of 1 or 3 dimensions")
            shape = struct.unpack(f">{ndim}I", file.read(4 * ndim))
            if math.prod(shape) > MAX_STREAM_BYTES:
                raise ValueError(f"states {math.prod(shape):,} bytes, over the limit")
            yield _Opened(shape, np.dtype(np.uint8), file)
    except (OSError, EOFError, struct.error, zlib.error, ValueError) as err:
        if isinstance(err, FileNotFoundError | PermissionError):
            raise
        raise ValueError(f"{path}: {err or 'is cut short'}: download it again") from err


def _open_array(path: Path) -> Any:
    return _open_npz(path) if path.suffix == ".npz" else _open_idx(path)


def _read_exactly(opened: _Opened, num_bytes: int, is_last: bool) -> bytes:
    """The next bytes of the data; after the last ones the end is read too, to check checksums."""
    pieces = []
    while num_bytes and (piece := opened.file.read(min(num_bytes, 2**24))):
        pieces.append(piece)
        num_bytes -= len(piece)
    if num_bytes or (is_last and opened.file.read(1)):
        raise ValueError(f"states shape {opened.shape}, which its bytes are not")
    return b"".join(pieces)


def peek_array(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype that the array of an npz (`arr_0`) or gzipped IDX file states."""
    with _open_array(path) as opened:
        return opened.shape, opened.dtype


def read_array(path: Path) -> np.ndarray:
    """The whole array of an npz (`arr_0`) or gzipped IDX file, of MAX_ARRAY_BYTES at most."""
    with _open_array(path) as opened:
        size = math.prod(opened.shape) * opened.dtype.itemsize
        if size > MAX_ARRAY_BYTES:
            raise ValueError(f"states {size:,} bytes, over the limit of {MAX_ARRAY_BYTES:,}")
        data = _read_exactly(opened, size, is_last=True)
        return np.frombuffer(data, opened.dtype).reshape(opened.shape)


def iterate_rows(path: Path) -> Iterator[UInt8[np.ndarray, "n ..."]]:
    """The rows of a uint8 array, in blocks of ROWS_PER_BLOCK: memory does not grow with the file.

    Damage may be found only at the end; all rows before it must then be discarded.
    """
    with _open_array(path) as opened:
        if opened.dtype != np.uint8:
            raise ValueError(f"expected uint8, got {opened.dtype}")
        num_rows, row_shape = opened.shape[0], opened.shape[1:]
        for start in range(0, num_rows, ROWS_PER_BLOCK):
            count = min(ROWS_PER_BLOCK, num_rows - start)
            is_last = start + count == num_rows
            data = _read_exactly(opened, count * math.prod(row_shape), is_last)
            yield np.frombuffer(data, np.uint8).reshape(count, *row_shape)


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


class _ShortReads(io.FileIO):
    """A file that returns little at a time, because tarfile trusts the sizes in headers."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"a header that states {size} bytes")
        return super().read(size)


def _clean_name(member: tarfile.TarInfo) -> str:
    """The path of a plain file or folder inside the archive; ValueError for anything else."""
    name, parts = member.name, PurePosixPath(member.name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(f"has a member outside it, {name!r}")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ValueError(f"has a link or device, {name!r}")
    if member.size > MAX_MEMBER_BYTES:
        raise ValueError(f"has a member of {member.size:,} bytes, {name!r}")
    return "/".join(part for part in parts if part != ".")


def _scan_tar(raw: BinaryIO) -> list[_Member]:
    """The position of every file in a tar, after all of its headers have been checked."""
    members: list[_Member] = []
    seen: set[str] = set()
    size = raw.seek(0, io.SEEK_END)
    raw.seek(max(0, size - 2 * _BLOCK))
    if size < 2 * _BLOCK or raw.read(2 * _BLOCK).strip(b"\0"):
        raise ValueError("is no tar file, or cut short")
    raw.seek(0)
    num_seen = ends_at = 0
    with tarfile.open(fileobj=raw, mode="r:") as archive:
        while (member := archive.next()) is not None:
            # otherwise TarFile keeps every member that it has read
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
            name = _clean_name(member)
            num_seen += 1
            if num_seen > MAX_MEMBERS:
                raise ValueError(f"has over {MAX_MEMBERS:,} members")
            if member.isreg():
                if name in seen:
                    raise ValueError(f"has {name!r} twice")
                seen.add(name)
                members.append(_Member(name, member.offset_data, member.size))
            ends_at = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
    raw.seek(ends_at)
    num_zeros = 0
    while piece := raw.read(MAX_MEMBER_BYTES):
        num_zeros += len(piece)
        if piece.strip(b"\0"):
            num_zeros = 0
            break
    if num_zeros < 2 * _BLOCK:
        raise ValueError(f"is damaged after {num_seen:,} members")
    return members


def iterate_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file of a tar, in its order, without writing any to disk.

    ValueError, before the first file, for a member that is absolute, contains `..`, is a link or a
    device, comes twice or is over MAX_MEMBER_BYTES, for more than MAX_MEMBERS, and for an archive
    that is truncated or damaged.
    """
    advice = "refusing the whole archive: download it again"
    with _ShortReads(path) as raw:
        try:
            members = _scan_tar(raw)
        except tarfile.TarError as err:
            raise ValueError(f"{path} is damaged ({err}); {advice}") from err
        except ValueError as err:
            raise ValueError(f"{path} {err}; {advice}") from err
        for member in members:
            raw.seek(member.offset)
            data = raw.read(member.size)
            if len(data) != member.size:
                raise ValueError(f"{path} changed while it was read")
            yield member.name, data
