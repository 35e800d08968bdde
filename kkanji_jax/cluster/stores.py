"""Where files are: on disks that every node sees, or in an object store that pyarrow can read."""

import heapq
import io
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from kkanji_jax.inputs.finding import entries_in_order

NOT_INSTALLED = 'pyarrow is not installed: pip install "kkanji_jax[ray]"'
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.+)", re.DOTALL)


class Entry(NamedTuple):
    """A file or a folder in a folder."""

    name: str
    is_folder: bool


def is_uri(path: str) -> bool:
    """Whether a path is of an object store, as s3://bucket/key."""
    return _URI.fullmatch(path) is not None


def entries(folder: str) -> Iterator[Entry]:
    """What a folder holds, in the order of names; hidden files and links to folders left out.

    OSError if it cannot be listed, ValueError for an unknown kind of store.
    """
    if is_uri(folder):
        yield from _remote_entries(folder)
        return
    for entry in entries_in_order(folder or "."):
        is_folder = entry.is_dir(follow_symlinks=False)
        if not entry.name.startswith(".") and (is_folder or not entry.is_dir()):
            yield Entry(entry.name, is_folder)


def _remote_entries(folder: str) -> Iterator[Entry]:
    from pyarrow import fs

    system, path = _resolve(folder)
    found = system.get_file_info(fs.FileSelector(path, recursive=False))
    order = [(info.base_name, info.type == fs.FileType.Directory) for info in found]
    heapq.heapify(order)
    while order:
        name, is_folder = heapq.heappop(order)
        if name and not name.startswith("."):
            yield Entry(name, is_folder)


def kind_of(uri: str) -> str:
    """`file`, `folder` or `nothing`: what is at an address in a store."""
    from pyarrow import fs

    system, path = _resolve(uri)
    found = system.get_file_info(path).type
    return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(found, "nothing")


def open_file(path: str) -> Any:
    """A seekable stream of bytes; OSError or ValueError if it cannot be opened."""
    if not is_uri(path):
        return open(path, "rb")
    system, inside = _resolve(path)
    return system.open_input_file(inside)


def read_file(uri: str) -> io.BytesIO:
    """The content of a file in a store; the stream's name is the address."""
    with open_file(uri) as file:
        return named(file.read(), uri)


def named(content: bytes, name: str) -> io.BytesIO:
    """Bytes as a stream whose name error messages can use."""
    stream = io.BytesIO(content)
    stream.name = name  # pyright: ignore[reportAttributeAccessIssue]
    return stream


def join(folder: str, name: str) -> str:
    """The path of an entry of a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_uri(folder) else os.path.join(folder, name)


def _resolve(uri: str) -> tuple[Any, str]:
    match = _URI.fullmatch(uri)
    assert match is not None
    scheme, inside = match[1].lower(), match[2]
    if scheme == "file":
        return _system("file", ""), inside if inside.startswith("/") else f"/{inside}"
    return _system(scheme, inside.partition("/")[0]), inside


@lru_cache(maxsize=32)
def _system(scheme: str, bucket: str) -> Any:
    """The file system of a store; credentials are found where the store's own tools find them."""
    try:
        from pyarrow import ArrowInvalid, fs
    except ModuleNotFoundError as err:
        raise ValueError(NOT_INSTALLED) from err
    if scheme == "file":
        return fs.LocalFileSystem()
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]
    except ArrowInvalid as err:
        raise ValueError(f"{scheme}:// is no store that pyarrow knows: {err}") from err
