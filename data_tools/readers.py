"""Bytes of CODH's formats -> checked arrays: PNG, npz, idx, tar, class maps.

Nothing here trusts a file: sizes are known before memory is taken, pickles are refused, and
nothing is extracted to disk.
"""

import csv
import gzip
import io
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kkanji_jax.data.class_index import character_of, parse_codepoint
from kkanji_jax.data.records import IMAGE_PX

MAX_ARRAY_BYTES = 2**31  # Kuzushiji-49 is 182 MB
MAX_MEMBERS = 2_000_000  # Kuzushiji-Kanji has 140,424
MAX_MEMBER_BYTES = 2**20  # its PNGs are of 1-2 kB
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class WrongSizeError(ValueError):
    """A sound image that is not IMAGE_PX x IMAGE_PX."""


def check_png(data: bytes) -> tuple[int, int]:
    """Width and height a PNG states, once all its chunks are there and undamaged.

    ValueError says what is wrong. Pixels are not decoded.
    """
    if not data:
        raise ValueError("is empty")
    if not data.startswith(_PNG_SIGNATURE):
        raise ValueError(f"is no PNG: it starts with {data[:8]!r}")
    at, kind, size = 8, b"", (0, 0)
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ValueError("is cut short")
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise ValueError("is cut short")
        body_ends = at + 8 + length
        if zlib.crc32(data[at + 4 : body_ends]) != struct.unpack_from(">I", data, body_ends)[0]:
            raise ValueError(f"is damaged: its {kind!r} chunk has the wrong checksum")
        if at == 8:
            if kind != b"IHDR" or length != 13:
                raise ValueError("is damaged: it has no header")
            size = struct.unpack_from(">II", data, 16)
        if kind == b"acTL":
            raise ValueError("is an animation")
        at = body_ends + 4
    return size


def decode_png(data: bytes) -> tuple[bytes, str | None]:
    """The pixels of a 64x64 PNG as 8-bit gray, row by row, and its mode where it was another.

    Other modes are converted: 1 bit to 0 and 255; 16 bits to their high byte; colours to
    ITU-R 601 luma; transparency is composited over black, the paper of white-on-black images.
    WrongSizeError for another size, before any pixel is decoded; ValueError for a bad file.
    """
    size = check_png(data)
    if size != (IMAGE_PX, IMAGE_PX):
        raise WrongSizeError(f"is {size[0]}x{size[1]}, not {IMAGE_PX}x{IMAGE_PX}")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as err:
        raise ValueError(f"cannot be decoded: {err}") from err
    mode = image.mode
    if mode == "L" and "transparency" not in image.info:
        return image.tobytes(), None
    if mode.startswith("I"):
        return (np.asarray(image, np.uint32) >> 8).astype(np.uint8).tobytes(), mode
    if "A" in mode or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("RGB").convert("L").tobytes(), mode


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
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
        if size > MAX_ARRAY_BYTES:
            raise ValueError(f"arr_0 states {size:,} bytes, over the limit of {MAX_ARRAY_BYTES:,}")
        if is_fortran or file.tell() + size != info.file_size:
            raise ValueError(f"arr_0 states shape {shape} of {dtype}, which its bytes are not")
        return np.frombuffer(file.read(size), dtype).reshape(shape)


def read_npz(path: Path) -> np.ndarray:
    """The array `arr_0` of an npz file; its size is checked before it is read, no pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            try:
                info = archive.getinfo("arr_0.npy")
            except KeyError:
                names = ", ".join(archive.namelist()[:5]) or "nothing"
                raise ValueError(f"wanted the array arr_0, got {names}") from None
            return _read_member(archive, info)
    except (ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as err:
        raise ValueError(f"{path}: {err}") from err
    except zipfile.BadZipFile as err:
        with open(path, "rb") as file:
            start = file.read(16)
        raise ValueError(
            f"{path} is no npz file, or damaged ({err}); it starts with {start!r}: "
            "download it again"
        ) from err


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of a gzipped IDX file, of the shape its header states."""
    try:
        with gzip.open(path) as file:
            zeros, kind, ndim = struct.unpack(">HBB", file.read(4))
            if zeros or kind != 8 or ndim not in (1, 3):
                raise ValueError("wanted an IDX file of uint8, of 1 or 3 dimensions")
            shape = struct.unpack(f">{ndim}I", file.read(4 * ndim))
            size = math.prod(shape)
            if size > MAX_ARRAY_BYTES:
                raise ValueError(f"states {size:,} bytes, over the limit of {MAX_ARRAY_BYTES:,}")
            data = file.read(size + 1)
    except (OSError, EOFError, struct.error, zlib.error, ValueError) as err:
        if isinstance(err, FileNotFoundError | PermissionError):
            raise
        raise ValueError(f"{path}: {err or 'is cut short'}: download it again") from err
    if len(data) != size:
        raise ValueError(f"{path} states shape {shape}, which its bytes are not")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_images(path: Path) -> UInt8[np.ndarray, "n 28 28"]:
    """The images of an npz or idx file."""
    images = read_npz(path) if path.suffix == ".npz" else read_idx(path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(
            f"{path} wants images uint8 [n, 28, 28], got {images.dtype} {list(images.shape)}"
        )
    return images


def read_labels(path: Path, num_classes: int, classmap: Path) -> list[int]:
    """The labels of an npz or idx file, each in [0, num_classes)."""
    labels = read_npz(path) if path.suffix == ".npz" else read_idx(path)
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise ValueError(f"{path} wants integers [n], got {labels.dtype} {list(labels.shape)}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"{path} has labels {labels.min()} to {labels.max()}, "
            f"but {classmap.name} lists {num_classes} classes"
        )
    return labels.tolist()


def read_classmap(path: Path) -> list[str]:
    """The code point of each label, from the columns `index` and `codepoint`."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        codepoints = []
        for number, row in enumerate(rows):
            if row.get("index") != str(number):
                raise ValueError(f"row {number + 1} wants index {number}, got {row.get('index')!r}")
            codepoints.append(parse_codepoint(row.get("codepoint") or ""))
            if row.get("char", character_of(codepoints[-1])) != character_of(codepoints[-1]):
                raise ValueError(f"row {number + 1}: {codepoints[-1]} is not {row['char']!r}")
    except (ValueError, csv.Error) as err:
        raise ValueError(f"{path}: {err}") from err
    if not codepoints or len(set(codepoints)) != len(codepoints):
        raise ValueError(f"{path} wants each class once, got {len(codepoints)} rows")
    return codepoints


def iterate_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file of a tar, in its order, without writing any to disk.

    The whole archive is refused for a member that is absolute, climbs with `..`, is a link or a
    device, comes twice or is over MAX_MEMBER_BYTES, and for an archive that is cut or damaged.
    """
    advice = "refusing the whole archive: download it again"
    seen: set[str] = set()
    with open(path, "rb") as raw:
        size = raw.seek(0, io.SEEK_END)
        raw.seek(max(0, size - 1024))
        if size < 1024 or raw.read().strip(b"\0"):
            raise ValueError(f"{path} is no tar file, or cut short; {advice}")
        raw.seek(0)
        ends_at = 0
        try:
            with tarfile.open(fileobj=raw, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    # or TarFile keeps every member it has seen
                    archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                    name = member.name
                    parts = PurePosixPath(name).parts
                    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
                        raise ValueError(f"{path} has a member outside it, {name!r}; {advice}")
                    if not (member.isreg() or member.isdir()) or member.issparse():
                        raise ValueError(f"{path} has a link or device, {name!r}; {advice}")
                    if member.size > MAX_MEMBER_BYTES:
                        raise ValueError(
                            f"{path} has a member of {member.size:,} bytes, {name!r}; {advice}"
                        )
                    clean_name = "/".join(part for part in parts if part != ".")
                    if member.isreg():
                        if clean_name in seen:
                            raise ValueError(f"{path} has {name!r} twice; {advice}")
                        seen.add(clean_name)
                        if len(seen) > MAX_MEMBERS:
                            raise ValueError(f"{path} has over {MAX_MEMBERS:,} members; {advice}")
                        file = archive.extractfile(member)
                        assert file is not None
                        yield clean_name, file.read()
                    ends_at = member.offset_data + -(-member.size // 512) * 512
        except tarfile.TarError as err:
            raise ValueError(f"{path} is damaged ({err}); {advice}") from err
        raw.seek(ends_at)
        rest = raw.read()
        if len(rest) < 1024 or rest.strip(b"\0"):
            raise ValueError(f"{path} is damaged after {len(seen):,} members; {advice}")
