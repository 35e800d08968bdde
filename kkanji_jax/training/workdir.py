"""The folder of a run: its lock, the record of its environment, the signals that stop it."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from types import FrameType
from typing import Any

from kkanji_jax.files import require_utf8
from kkanji_jax.locks import HeldError, Lock, hold

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_GIT_TIMEOUT_S = 10.0  # do not wait longer for a repository on a slow disk


class StopSignal:
    """Sets `received` on the first SIGTERM or SIGINT; a second one ends the process at once.

    The second signal works even while Python runs no handlers, as during compilation, because a
    separate thread waits for it. `close` restores the previous handlers.
    """

    NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._old_handlers = {number: signal.getsignal(number) for number in self.NUMBERS}
        self._old_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self.NUMBERS:
            signal.signal(number, self._receive)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = signal.Signals(number)

    def _watch(self) -> None:
        num_seen = 0
        while received := os.read(self._read, 1):  # a byte for each signal; none once closed
            num_seen += received[0] in self.NUMBERS
            if num_seen == 2:
                os._exit(128 + received[0])
        os.close(self._read)

    def close(self) -> None:
        """Restores what the signals did before."""
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        os.close(self._write)


def lock(workdir: Path) -> Lock:
    """Locks the workdir for this process until the lock closes or the process ends.

    ValueError if another process holds it, or if Orbax could not write there.
    """
    require_utf8(workdir.resolve())
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        return hold(workdir / "LOCK")
    except HeldError as err:
        raise ValueError(
            f"another trainer is running in {workdir} ({err}); wait for it, or give another "
            "--workdir"
        ) from err


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(devices: list[str]) -> dict[str, Any]:
    """What is needed to repeat a run elsewhere: command, versions, commit, devices.

    What cannot be determined is None: recording never stops a run.
    """
    return {
        "command": sys.argv,
        "versions": {name: _version_of(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "commit": commit_of(Path(__file__).parents[1]),
        "devices": devices,
        "processors": os.cpu_count(),
    }


def commit_of(package: Path) -> str | None:
    """The commit of the source in `package`, in a checkout or installed from one; else None.

    A repository that merely surrounds it, for example around the environment, does not count:
    `package` must be tracked at its root.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == package.resolve().parent:
        tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "rev-parse", "HEAD") if tracked else None
    try:  # pip notes where it installed from (PEP 610)
        installed = distribution(package.name)
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    is_this = Path(str(installed.locate_file(package.name))).resolve() == package.resolve()
    return origin.get("vcs_info", {}).get("commit_id") if is_this else None


def _git(folder: Path, *words: str) -> str | None:
    """The output of git in `folder`; None without git, without a repository, or after a timeout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
