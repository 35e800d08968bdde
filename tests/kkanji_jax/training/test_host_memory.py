"""Freed memory stays with the process until it is given back, as glibc's own counts tell."""

import gc
import os
import platform
import subprocess
import sys

import pytest

from kkanji_jax.training.host_memory import collector_paused

CODE = """
import sys
from pathlib import Path
from kkanji_jax.training.host_memory import give_back, keep_freed_memory

def resident_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

print(keep_freed_memory() if "keep" in sys.argv else None)
before = resident_mb()
block = bytes(1) * (300 << 20)
held = resident_mb() - before
del block
freed = resident_mb() - before
give_back()
print(held, freed, resident_mb() - before)
"""

THREADS_CODE = """
import resource, sys, threading
from kkanji_jax.training.host_memory import keep_freed_memory

if "keep" in sys.argv:
    keep_freed_memory()
faults = [0]
for _ in range(2):
    thread = threading.Thread(target=lambda: bytes(1) * (300 << 20))
    thread.start()
    thread.join()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[2] - faults[1])
"""


def run(*words: str, **environment: str) -> tuple[str, list[float]]:
    """Whether memory is kept, and MB more than before: allocated, freed, and given back."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    clean.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    is_kept, numbers = done.stdout.splitlines()
    return is_kept, [float(number) for number in numbers.split()]


on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is not glibc")


@on_glibc
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    is_kept, (held, freed, given) = run("keep")
    assert is_kept == "True"
    assert held > 290 and freed > 290 and given < 20


@on_glibc
def test_without_it_a_large_block_goes_back_at_once() -> None:
    _, (held, freed, _) = run()
    assert held > 290 and freed < 20


@on_glibc
@pytest.mark.parametrize(
    "told", [{"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}, {"MALLOC_MMAP_MAX_": "65536"}]
)
def test_what_the_user_has_told_glibc_stands(told: dict[str, str]) -> None:
    is_kept, (_, freed, _) = run("keep", **told)
    assert is_kept == "False" and freed < 20


@on_glibc
@pytest.mark.parametrize("words", [["keep"], []])
def test_a_thread_finds_the_memory_that_another_has_freed(words: list[str]) -> None:
    """XLA's threads allocate what a step needs; they would have heaps of their own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    clean.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", THREADS_CODE, *words],
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    pages = (300 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert int(done.stdout) < 0.02 * pages if words else int(done.stdout) > 0.5 * pages


def test_the_collector_is_as_it_was_after_a_pause_and_after_a_failure() -> None:
    with pytest.raises(KeyError), collector_paused():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
