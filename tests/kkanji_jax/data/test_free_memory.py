"""What a container or a batch system leaves counts, where it is less than the machine has."""

from pathlib import Path

import pytest

from kkanji_jax.data.free_memory import free_bytes

GB = 10**9


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    write(tmp_path / "proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:   8000000 kB\n")
    return tmp_path


def limit(machine: Path, group: str, most: str, used: int, cache: int = 0) -> None:
    folder = machine / "sys/fs/cgroup" / group
    write(folder / "memory.max", f"{most}\n")
    write(folder / "memory.current", f"{used}\n")
    write(folder / "memory.stat", f"anon {used - cache}\ninactive_file {cache}\n")


def test_without_groups_the_machine_tells_and_without_either_nobody(machine: Path, tmp_path: Path):
    assert free_bytes(machine) == 8_000_000 * 1024
    assert free_bytes(tmp_path / "none") is None


def test_the_narrowest_group_on_the_way_up_counts_and_cache_is_free(machine: Path):
    write(machine / "proc/self/cgroup", "1:name=systemd:/\n0::/job_7/step_0\n")
    limit(machine, "job_7/step_0", "max", GB)
    assert free_bytes(machine) == 8_000_000 * 1024
    limit(machine, "job_7", str(4 * GB), 3 * GB, cache=GB // 2)
    assert free_bytes(machine) == 3 * GB // 2
    limit(machine, "", str(2 * GB), 2 * GB + 1)
    assert free_bytes(machine) == 0


def test_here_it_is_told():
    free = free_bytes()
    assert free is None or free > 0
