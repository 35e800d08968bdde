"""The memory of this process: kept between steps, given back after compiling.

What is said to glibc is for Linux only; elsewhere nothing is done. What the user has said to it
stands.
"""

import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version.restype = ctypes.c_char_p
    except (AttributeError, OSError, TypeError):
        return None
    return library


def keep_freed_memory() -> bool:
    """Has `free` keep what a step leaves for the next one; whether that was done.

    A step on a CPU allocates its temporaries anew. By default glibc returns large ones to the
    kernel, which clears their pages again when the next step touches them. To be called before JAX
    or any other library starts threads: they would have heaps of their own, which cannot hold a
    large block. Not done where the environment has GLIBC_TUNABLES or MALLOC_ variables of glibc.
    """
    is_told = "GLIBC_TUNABLES" in os.environ or any(
        name.startswith("MALLOC_") and name.endswith("_") for name in os.environ
    )
    library = _glibc()
    if library is None or is_told:
        return False
    # One heap, from which everything is taken, and which only `give_back` trims.
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))
    return all([library.mallopt(name, value) for name, value in settings])


def give_back() -> None:
    """Returns to the kernel what is free now: after compiling, one or two gigabytes."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Python's garbage collector rests, as while a program is traced.

    Tracing makes millions of objects and drops few in cycles, so that searching them again and
    again for cycles takes a third of its time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
