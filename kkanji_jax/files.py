"""Files that appear when they are whole, and SHA256SUMS of a folder of them."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUMS = "SHA256SUMS"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` to write to, which takes its place when the block ends.

    What stood at `path` stays until then, and for good if the block raises.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Writes `content` so that a kill leaves the old file or the new one."""
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Writes SHA256SUMS over all files below `folder`, atomically; its presence ends a save."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    with (
        written_whole(folder / SUMS) as unfinished,
        unfinished.open("w", encoding="utf-8") as file,
    ):
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def check_sums(folder: Path, what: str = "checkpoint") -> list[str]:
    """The names of the files that SHA256SUMS lists, relative to `folder`, all of them whole.

    Raises ValueError naming the first that is missing or has changed; `what` says whose it is.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise ValueError(f"{folder} has no {SUMS}: its save did not finish")
    names = []
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, separator, name = line.partition("  ")
        if not separator:
            raise ValueError(f"{sums} is damaged: {line[:80]!r} is no digest and name")
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{what} file {path} is missing")
        if sha256_of(path) != digest:
            raise ValueError(f"{what} file {path} is damaged: its SHA-256 has changed")
        names.append(name)
    return names
