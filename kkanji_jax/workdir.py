"""The folder of a run: its lock, its record of where it ran, and the wish to stop."""

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class StopSignal:
    """Turns the first SIGTERM or SIGINT into `received`; the second ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is not None:
            os._exit(128 + number)
        self.received = signal.Signals(number)


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


def write_json(path: Path, content: object) -> None:
    """Writes `content` so that a kill leaves the old file or the new one."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    unfinished.replace(path)


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
