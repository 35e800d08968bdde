"""The state of an unfinished build in DATASET, so that a kill costs at most one shard.

During a build DATASET holds a folder `.build`: the fingerprint, unfinished files, and the mark of
each finished shard. manifest.json is written last; a folder without it is not a dataset.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kkanji_jax import files
from kkanji_jax.data.manifest import BUILD_STATE_NAME, MANIFEST_NAME, load_manifest, read_manifest
from kkanji_jax.files import sha256_of
from kkanji_jax.locks import HeldError, hold, hold_or_refuse


@contextmanager
def naming_in_errors(path: Path) -> Iterator[None]:
    """Turns errors of writing into a WriteError that names `path`: a full disk's names no file."""
    try:
        with files.naming_in_errors(path):
            yield
    except RuntimeError as err:  # what ArrayRecord raises for a full disk, among others
        is_full = os.strerror(errno.ENOSPC) in str(err)
        number = errno.ENOSPC if is_full else errno.EIO
        raise files.WriteError(number, " ".join(str(err).split()), str(path)) from err


def sync(path: Path) -> None:
    """Waits until a file or folder has been written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unfinished_path(path: Path, owner: str) -> Path:
    """Where the build `owner` writes a file of DATASET until it is complete."""
    return path.parent / BUILD_STATE_NAME / f"{path.name}.{owner}.unfinished"


def put_in_place(unfinished: Path, path: Path) -> None:
    """Moves a complete file to its name, so that it survives a power cut."""
    sync(unfinished)
    os.replace(unfinished, path)
    sync(path.parent)


def _write_whole(unfinished: Path, path: Path, content: bytes | str) -> None:
    with naming_in_errors(path):
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        put_in_place(unfinished, path)


def write_file(path: Path, content: bytes | str, owner: str) -> None:
    """Writes a file of DATASET completely or not at all; OSError if that fails."""
    _write_whole(unfinished_path(path, owner), path, content)


def to_text(content: Any) -> str:
    """JSON as DATASET's files have it: readable, with characters as they are.

    Bytes of a name that are not UTF-8 are escapes, which JSON reads back as the same name.
    """
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _mark_path(out: Path, file: str) -> Path:
    return out / BUILD_STATE_NAME / f"{file}.finished.json"


def mark_finished(out: Path, entry: dict[str, Any], owner: str) -> None:
    """Records that the shard of this manifest entry is in place."""
    mark = _mark_path(out, entry["file"])
    unfinished = mark.with_name(f"{mark.name}.{owner}.unfinished")
    _write_whole(unfinished, mark, json.dumps(entry))


def is_marked(out: Path, file: str) -> bool:
    """Whether a shard is finished, by its mark and its size; its bytes are not read."""
    return _sized_mark(out, file) is not None


def read_mark(out: Path, file: str) -> dict[str, Any] | None:
    """The manifest entry of a shard that is finished and has the right digest, else None."""
    entry = _sized_mark(out, file)
    if entry is None or entry["sha256"] != sha256_of(out / file):
        return None
    return entry


def _sized_mark(out: Path, file: str) -> dict[str, Any] | None:
    """The manifest entry of a shard that is finished and has the right size, else None."""
    mark, shard = _mark_path(out, file), out / file
    if not mark.is_file() or not shard.is_file():
        return None
    entry = files.read_json(mark, having=("bytes", "sha256"))
    return entry if entry["bytes"] == shard.stat().st_size else None


def check_out(
    out: Path, fingerprint: str | None = None, options: Mapping[str, Any] | None = None
) -> bool:
    """Whether `out` already holds the finished dataset of this fingerprint.

    ValueError for a folder with anything else, except foreign files. Without a fingerprint only the
    `options` are compared, in the form of a manifest; they are known before the source is read.
    """
    files.require_utf8(out)
    if not out.exists():
        return False
    if not out.is_dir():
        raise ValueError(f"--out must be a folder, not the file {out}")
    advice = "choose another --out, or delete it first"
    if (out / MANIFEST_NAME).exists():
        manifest = read_manifest(out)
        if fingerprint is None:
            _refuse_other_options(out, "a dataset", manifest, options)
            return False
        if manifest["fingerprint"] != fingerprint:
            raise ValueError(f"{out} holds a dataset of other sources or options: {advice}")
        load_manifest(out)
        return True
    state = out / BUILD_STATE_NAME / "state.json"
    if state.is_file():
        found = files.read_json(state, having=("fingerprint",))
        if fingerprint is None:
            _refuse_other_options(out, "an unfinished build", found.get("options", {}), options)
        elif found["fingerprint"] != fingerprint:
            raise ValueError(
                f"{out} holds an unfinished build of other sources or options: {advice}"
            )
    elif not all(files.is_foreign(path.name) for path in out.iterdir()):  # .build is hidden too
        raise ValueError(f"{out} is not empty and is no dataset of data_tools.build: {advice}")
    return False


def _refuse_other_options(
    out: Path, what: str, recorded: Mapping[str, Any], options: Mapping[str, Any] | None
) -> None:
    """ValueError that names the options that differ, except those that an older version lacked.

    Both are in the form of JSON.
    """
    differing = [
        f"{name}: {recorded[name]!r} -> {value!r}"
        for name, value in (options or {}).items()
        if name in recorded and recorded[name] != value
    ]
    if differing:
        raise ValueError(
            f"{out} holds {what} of other options ({'; '.join(differing)}): "
            "choose another --out, or delete it first"
        )


def sweep(out: Path) -> None:
    """Removes what a build that was killed at its very end left beside the finished dataset."""
    shutil.rmtree(out / BUILD_STATE_NAME, ignore_errors=True)


def _collect_garbage(folder: Path, *, is_alone: bool) -> None:
    """Deletes unfinished files of builds that have ended, on any machine."""
    for alive in sorted(folder.glob("*.alive")):
        try:
            lock = hold(alive)
        except HeldError:
            continue
        with lock:
            for unfinished in folder.glob(f"*.{alive.stem}.unfinished"):
                unfinished.unlink(missing_ok=True)
            alive.unlink(missing_ok=True)
    for unfinished in folder.glob("*.unfinished") if is_alone else ():
        unfinished.unlink()


@contextmanager
def building(
    out: Path,
    fingerprint: str,
    *,
    options: Mapping[str, Any] | None = None,
    is_slice: bool = False,
) -> Iterator[str]:
    """Locks DATASET/.build; returns the name under which this build writes unfinished files.

    A whole build, or one that finishes slices, locks it exclusively and removes it on success.
    Builds of slices share the lock and leave the folder. After a failure it stays, for resuming.
    """
    folder = out / BUILD_STATE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    told = f"another process is building {out}"
    with hold_or_refuse(folder / "lock", told, shared=is_slice):
        with hold(folder / "claim", wait=True):  # for a moment only
            # Checked again: of two that began together, the other may have finished.
            check_out(out, fingerprint)
            _collect_garbage(folder, is_alone=not is_slice)
            descriptor, name = tempfile.mkstemp(suffix=".alive", prefix="", dir=folder)
            os.close(descriptor)
            alive, owner = hold(Path(name)), Path(name).stem
            state = folder / "state.json"
            if not state.is_file():
                unfinished = folder / f"state.json.{owner}.unfinished"
                content = {"fingerprint": fingerprint, "options": dict(options or {})}
                _write_whole(unfinished, state, json.dumps(content))
        with alive:
            try:
                yield owner
            finally:
                for unfinished in folder.glob(f"*.{owner}.unfinished"):
                    unfinished.unlink(missing_ok=True)  # in case the disk is full
                Path(name).unlink(missing_ok=True)
        if not is_slice:
            shutil.rmtree(folder)
