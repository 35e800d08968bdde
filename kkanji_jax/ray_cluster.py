"""A connection to a Ray cluster, or to one that is started on this machine for one use."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

NOT_INSTALLED = 'ray is not installed: pip install "kkanji_jax[ray]"'
ADDRESS = "RAY_ADDRESS"
OBJECT_STORE_BYTES = 200_000_000  # of a cluster started here


@contextlib.contextmanager
def connected(address: str | None, num_cpus: int | None = None) -> Iterator[None]:
    """A connection to the cluster at `address` or RAY_ADDRESS; else to a new one on this machine.

    A new cluster has `num_cpus` CPUs, by default all cores. Its workers have the priority of this
    process, unless RAY_worker_niceness says otherwise. No usage statistics are sent unless
    RAY_USAGE_STATS_ENABLED is 1. ValueError if Ray is not installed, or if no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as err:
        raise ValueError(NOT_INSTALLED) from err
    address = address or os.environ.get(ADDRESS)
    options: dict[str, Any] = {"address": address}
    if address is None:
        # Ray's default is 15: beside other programs, workers would hardly get on.
        os.environ.setdefault("RAY_worker_niceness", "0")
        options = {
            "address": "local",
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    with _own_signals():
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, TimeoutError) as err:
            told = " ".join(str(err).split())
            if address is None:
                raise ValueError(f"cannot start Ray on this machine: {told}") from err
            raise ValueError(
                f"cannot reach a Ray cluster at {address}: {told}; if it needs a token, set "
                "RAY_AUTH_MODE=token, as where it was started"
            ) from err
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restores the handler of SIGTERM: Ray's own ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
