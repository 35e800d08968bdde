"""How much more memory a program may take."""

from collections.abc import Iterator
from pathlib import Path


def free_bytes(root: Path = Path("/")) -> int | None:
    """The smallest of the amounts that the machine and the control groups leave free, or None.

    None if it is unknown. Containers and batch systems limit a job by control groups (version 2),
    while /proc/meminfo describes the whole machine. Linux only; `root` is the folder with /proc and
    /sys.
    """
    return min([*_of_machine(root), *_of_groups(root)], default=None)


def _of_machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _of_groups(root: Path) -> Iterator[int]:
    """What each control group with a limit leaves free, from the process's group up to the root."""
    mount = root / "sys/fs/cgroup"
    own = [
        line.removeprefix("0::/")
        for line in _lines(root / "proc/self/cgroup")
        if line.startswith("0::/")
    ]
    for group in [mount / own[0], *(mount / own[0]).parents] if own else []:
        if not group.is_relative_to(mount):
            return
        limit, used = (_lines(group / f"memory.{name}") for name in ("max", "current"))
        if limit and used and limit[0] != "max":
            counts = dict(line.split() for line in _lines(group / "memory.stat"))
            cache = int(counts.get("inactive_file", 0))  # given back when it is expected
            yield max(int(limit[0]) - int(used[0]) + cache, 0)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
