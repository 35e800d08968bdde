"""The memory that glibc holds for this process: kept between steps, given back after compiling.

Linux with glibc only; elsewhere nothing is done. What the user has said to glibc stands.
"""

import ctypes
import os

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version.restype = ctypes.c_char_p
    except (AttributeError, OSError, TypeError):
        return None
    return library


def keep_freed_memory() -> bool:
    """Has `free` keep what a step leaves for the next one; whether that was done.

    A step on a CPU allocates its temporaries anew. By default glibc returns each large one to the
    kernel, which clears its pages again when the next step touches them. Not done where the
    environment has GLIBC_TUNABLES or MALLOC_ variables of glibc.
    """
    is_told = "GLIBC_TUNABLES" in os.environ or any(
        name.startswith("MALLOC_") and name.endswith("_") for name in os.environ
    )
    library = _glibc()
    if library is None or is_told:
        return False
    # No allocation by mmap; never trimmed but by `give_back`.
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, -1))


def give_back() -> None:
    """Returns to the kernel what is free now: after compiling, one or two gigabytes."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
