"""The folder of a run: its lock, its record of where it ran, and the wish to stop."""

import fcntl
import os
import platform
import signal
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class StopSignal:
    """Turns the first SIGTERM or SIGINT into `received`; the second ends the process at once.

    At once even where Python does not come to its handlers, as while a network compiles: the second
    is seen by a thread of its own. `close` gives the signals back to whoever had them.
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


def lock(workdir: Path) -> TextIO:
    """Holds the workdir for this process until the returned file closes or the process ends.

    Raises ValueError if another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / "LOCK").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        file.close()
        raise ValueError(
            f"another trainer is running in {workdir}; wait for it, or give another --workdir"
        ) from err
    return file


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment(devices: list[str]) -> dict[str, Any]:
    """What a reader needs to repeat a run elsewhere: command, versions, commit, devices."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "command": sys.argv,
        "versions": {name: _version_of(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
        "devices": devices,
        "processors": os.cpu_count(),
    }
