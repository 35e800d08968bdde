"""JAX's cache of compiled programs: switched on, in the user's cache folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kkanji_jax.files import cache_folder

FOLDER = "compiled"
LEAST_COMPILE_S = 0.1  # what compiles sooner is not worth a file
_KEPT = "/jax/compilation_cache/cache_misses"  # JAX's event of a program that was written


def enable_compilation_cache() -> Path | None:
    """Lets JAX keep compiled programs in the user's cache; returns the folder that it uses.

    Returns None without a cache: with KKANJI_CACHE=off, or if the folder is not writable, which is
    reported on stderr. A folder that was set in JAX (JAX_COMPILATION_CACHE_DIR) is kept. Must be
    called before anything is compiled; programs compiled earlier are not kept.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    given = jax.config.values["jax_compilation_cache_dir"]
    if given:
        return Path(given)
    base = cache_folder()
    if base is None:
        return None
    folder = base / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as err:
        told = f"compiled programs are not kept: {folder}: {err.strerror}"
        print(f"{told}; KKANJI_CACHE names another folder, or is off", file=sys.stderr)
        return None
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_COMPILE_S)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()  # JAX looks once, when it first compiles, if there is a folder
    return folder


@contextmanager
def counting_kept_programs() -> Iterator[list[str]]:
    """A list that gets an entry for each program that is compiled in the block and then kept."""
    import jax

    kept: list[str] = []

    def note(event: str, **_: str | int) -> None:
        if event == _KEPT:
            kept.append(event)

    jax.monitoring.register_event_listener(note)
    try:
        yield kept
    finally:
        jax.monitoring.unregister_event_listener(note)
