"""What an unfinished build leaves in DATASET, so that a kill at any moment costs one shard at most.

While a build is under way DATASET holds a folder `.build`: the fingerprint, unfinished files, and
the mark of each finished shard. Its last act is manifest.json, without which nothing is a dataset.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_tools.sources import sha256_of
from kkanji_jax.data.manifest import BUILD_STATE_NAME, MANIFEST_NAME, load_manifest, read_manifest


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unfinished_path(path: Path) -> Path:
    """Where a file of DATASET is written before it is whole."""
    return path.parent / BUILD_STATE_NAME / f"{path.name}.unfinished"


def write_file(path: Path, content: str) -> None:
    """Writes a text file of DATASET, so that it is there whole or not at all."""
    unfinished = unfinished_path(path)
    unfinished.write_text(content, encoding="utf-8")
    sync(unfinished)
    os.replace(unfinished, path)
    sync(path.parent)


def to_text(content: Any) -> str:
    """JSON as DATASET's files have it: readable, with characters as they are."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _mark_path(out: Path, file: str) -> Path:
    return out / BUILD_STATE_NAME / f"{file}.finished.json"


def mark_finished(out: Path, entry: dict[str, Any]) -> None:
    """Records that the shard of this manifest entry is in place."""
    mark = _mark_path(out, entry["file"])
    unfinished = mark.with_name(mark.name + ".unfinished")
    unfinished.write_text(json.dumps(entry), encoding="utf-8")
    os.replace(unfinished, mark)


def read_mark(out: Path, file: str) -> dict[str, Any] | None:
    """The manifest entry of a shard that is finished and still has its bytes, else None."""
    mark, shard = _mark_path(out, file), out / file
    if not mark.is_file() or not shard.is_file():
        return None
    entry = json.loads(mark.read_text(encoding="utf-8"))
    is_same = entry["bytes"] == shard.stat().st_size and entry["sha256"] == sha256_of(shard)
    return entry if is_same else None


def check_out(out: Path, fingerprint: str | None = None) -> bool:
    """Whether `out` already holds the finished dataset of this fingerprint.

    Refuses a folder of anything else. Without a fingerprint only what needs none is checked.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise ValueError(f"--out wants a folder, {out} is a file")
    advice = "choose another --out, or delete it first"
    if (out / MANIFEST_NAME).exists():
        found = read_manifest(out)["fingerprint"]
        if fingerprint is None:
            return False
        if found != fingerprint:
            raise ValueError(f"{out} holds a dataset of other sources or options: {advice}")
        load_manifest(out)
        return True
    state = out / BUILD_STATE_NAME / "state.json"
    if state.is_file():
        found = json.loads(state.read_text(encoding="utf-8"))["fingerprint"]
        if fingerprint is not None and found != fingerprint:
            raise ValueError(
                f"{out} holds an unfinished build of other sources or options: {advice}"
            )
    elif any(path.name != BUILD_STATE_NAME for path in out.iterdir()):
        raise ValueError(f"{out} is not empty and is no dataset of data_tools.build: {advice}")
    return False


@contextmanager
def building(out: Path, fingerprint: str) -> Iterator[None]:
    """Holds DATASET/.build for one process; removes it on success, leaves it for resuming else."""
    import fcntl  # POSIX only, as ArrayRecord is

    folder = out / BUILD_STATE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is building {out}: wait for it") from None
        for unfinished in folder.glob("*.unfinished"):
            unfinished.unlink()
        # Not through write_file: it would be `.build/.build`.
        state = folder / "state.json.unfinished"
        state.write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")
        os.replace(state, folder / "state.json")
        yield
        shutil.rmtree(folder)
