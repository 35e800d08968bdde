"""File locks: one process at a time may use a workdir, a build, or a folder of downloads.

Uses flock if the file system has it: the kernel releases it, however the process ends. Some
parallel file systems have none. There, the lock is a file that only one process can create; it
names host and process, so that others on the same host can see whether the holder has ended.
"""

import errno
import fcntl  # POSIX only, as ArrayRecord is
import json
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

# What a file system without flock answers: Lustre ENOSYS, FUSE EOPNOTSUPP, NFS ENOLCK.
NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
_EVERY_S = 0.1  # between looks at a lock that is waited for
_WRITTEN_WITHIN_S = 1.0  # by who has created a lock's file
_warned: set[str] = set()


class HeldError(ValueError):
    """Another process holds the lock; the message names it, if it is known."""


class Holder(NamedTuple):
    """The process that created a lock file; `boot` and `started` make its number unique."""

    host: str
    process: int
    boot: str  # of the kernel, and the name space that `process` is a number of; empty: unknown
    started: str

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        return cls(socket.gethostname(), os.getpid(), _boot(), _started(os.getpid()) or "")

    def has_ended(self) -> bool:
        """Whether it is certain that this process no longer runs.

        Only processes under the same kernel, in the same PID namespace, can know. Host names are
        not compared: containers and images often share one.
        """
        if not self.boot or self.boot != _boot():
            return False
        return _started(self.process) != self.started


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """When a process began, in the kernel's ticks; None if it has ended, whether reaped or not."""
    try:
        status = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return None
    state, *fields = status.rpartition(b")")[2].split()
    return None if state in (b"Z", b"X") else fields[18].decode()


class Lock:
    """A lock that is held until `close`, the end of a `with`, or the end of the process."""

    def __init__(self, descriptor: int | None, created: Path | None) -> None:
        self._descriptor = descriptor
        self._created = created

    def close(self) -> None:
        """Releases the lock. A second call does nothing."""
        if self._created is not None:
            self._created.unlink(missing_ok=True)
            self._created = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def hold(path: Path, *, shared: bool = False, wait: bool = False) -> Lock:
    """Takes the lock of `path`, a folder or a file, which is created if it does not exist.

    Exclusive, or `shared` with other shared holders. HeldError if others hold it, unless `wait`.
    Without flock a warning, once, says how the lock is kept instead.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError as err:
        os.close(descriptor)
        raise HeldError("another process holds it") from err
    except OSError as err:
        os.close(descriptor)
        if err.errno not in NO_FLOCK:
            raise
        _warn_of(path, err)
        while True:
            try:
                return Lock(None, _create(path, shared=shared))
            except HeldError:
                if not wait:
                    raise
                time.sleep(_EVERY_S)
    return Lock(descriptor, None)


def _warn_of(path: Path, err: OSError) -> None:
    folder = path if path.is_dir() else path.parent
    if str(folder) not in _warned:
        _warned.add(str(folder))
        print(
            f"warning: the file system of {folder} has no flock ({err.strerror}): a file "
            f"{_names(path)[0].name} or the like is its lock; of a process that was killed on "
            "another host it stays, and is yours to remove",
            file=sys.stderr,
        )


def _names(path: Path) -> tuple[Path, str]:
    """(the file of an exclusive holder of `path`, the prefix of the files of shared holders)."""
    folder, name = (path, "folder") if path.is_dir() else (path.parent, path.name.lstrip("."))
    return folder / f".{name}.held", f".{name}.shared."


def _create(path: Path, *, shared: bool) -> Path:
    """Creates the lock's file; HeldError if others hold the lock.

    Each process creates its file first, and then looks for files of others.
    """
    alone, shared_prefix = _names(path)
    if shared:
        mine = alone.with_name(f"{shared_prefix}{secrets.token_hex(8)}")
        _write_new(mine)
        others = [alone]
    else:
        mine = alone
        if (holder := _living(alone)) is not None:
            raise HeldError(holder)
        try:
            _write_new(mine)
        except FileExistsError as err:
            raise HeldError(_living(alone) or "another process holds it") from err
        others = [each for each in alone.parent.iterdir() if each.name.startswith(shared_prefix)]
    for other in others:
        if (holder := _living(other)) is not None:
            mine.unlink(missing_ok=True)
            raise HeldError(holder)
    return mine


def _write_new(path: Path) -> None:
    """Creates `path` with this process in it; FileExistsError if it is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(Holder.here()._asdict()))


def _read(path: Path) -> Holder | None:
    """Who created the lock's file; None if it is not there. ValueError for other content."""
    give_up_s = time.monotonic() + _WRITTEN_WITHIN_S
    while True:
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            return Holder(**content)
        except FileNotFoundError:
            return None
        except (TypeError, ValueError) as err:  # it may have been created this very moment
            if time.monotonic() > give_up_s:
                raise ValueError(f"{path} tells of no process") from err
            time.sleep(_EVERY_S)


def _living(path: Path) -> str | None:
    """The process that holds the lock by this file, in words, or None. Removes a stale file."""
    try:
        holder = _read(path)
    except ValueError as err:
        return f"{err}: remove it if no other process is at work"
    if holder is None:
        return None
    if not holder.has_ended():
        return (
            f"process {holder.process} on {holder.host} holds it; if that has ended, remove {path}"
        )
    # Moved first, so that of several that find it stale one takes it, and looked at again.
    taken = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        path.rename(taken)
    except FileNotFoundError:
        return _living(path)
    if _read(taken) != holder:  # another has taken it over meanwhile: given back
        taken.rename(path)
        return "another process holds it"
    taken.unlink()
    return None
