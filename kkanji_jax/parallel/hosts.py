"""Several processes, one run: joining them, meeting, and agreeing."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

JOIN_TIMEOUT_S = 180


def join() -> None:
    """Joins the processes of a run, where the environment tells of more than one.

    SLURM's step variables (srun sets them) are found by JAX. Elsewhere JAX_COORDINATOR_ADDRESS
    (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID say it. A process takes all
    devices of its machine, unless SLURM has several tasks there, each with the device of its
    number, or JAX_LOCAL_DEVICE_IDS names some. Must come before anything else touches a device.
    ValueError if the others do not come, or one value is missing.
    """
    # It would take SIGTERM, and keep it, until the trainer listens.
    jax.config.update("jax_enable_preemption_service", False)
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    in_slurm = "SLURM_PROCID" in os.environ and "SLURM_STEP_NODELIST" in os.environ
    try:
        if address is not None:
            jax.distributed.initialize(
                address,
                int(os.environ["JAX_NUM_PROCESSES"]),
                int(os.environ["JAX_PROCESS_ID"]),
                cluster_detection_method="deactivate",  # a cluster's would allot a device each
                initialization_timeout=JOIN_TIMEOUT_S,
            )
        elif in_slurm and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            jax.distributed.initialize(
                cluster_detection_method="slurm", initialization_timeout=JOIN_TIMEOUT_S
            )
            if _is_alone_on_its_node() and "JAX_LOCAL_DEVICE_IDS" not in os.environ:
                for platform in ("cuda", "rocm"):
                    jax.config.update(f"jax_{platform}_visible_devices", "all")
    except KeyError as err:
        raise ValueError(
            f"JAX_COORDINATOR_ADDRESS is set, so {err.args[0]} must be set too"
        ) from err
    except RuntimeError as err:
        raise ValueError(
            f"the processes of this run did not find each other within {JOIN_TIMEOUT_S} s: start "
            "one for each task with srun, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            f"JAX_PROCESS_ID ({str(err).splitlines()[0]})"
        ) from err


def _is_alone_on_its_node() -> bool:
    """Whether SLURM has one task a node, to which JAX would give one device all the same."""
    tasks, nodes = os.environ["SLURM_NTASKS"], os.environ.get("SLURM_STEP_NUM_NODES", "0")
    return int(tasks) == int(nodes)


def is_first() -> bool:
    """Whether this process is the one that writes and speaks for the run."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Waits until every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        with jax.transfer_guard("allow"):
            multihost_utils.sync_global_devices(name)


class Meetings:
    """When the processes of a run ask each other something between their steps.

    Alone, a process may ask itself after every dispatch. Several ask where they wait for each other
    anyway, and every so many dispatches: as many as take `every_s` seconds in the slowest of them,
    measured on the second dispatch, for the first one compiles.
    """

    def __init__(self, *, every_s: float) -> None:
        self._every_s = every_s
        self._num_dispatches = 0
        self._began_s = time.monotonic()
        self._period: int | None = None

    def is_due(self, is_meeting: bool) -> bool:
        """Whether to ask after this dispatch; `is_meeting` where all processes wait as it is."""
        if jax.process_count() == 1:
            return True
        self._num_dispatches += 1
        if self._num_dispatches == 1:
            meet("first dispatch")
            self._began_s = time.monotonic()
        elif self._num_dispatches == 2:
            slowest_s = max(_gather(np.float32(time.monotonic() - self._began_s)).tolist())
            self._period = max(1, int(self._every_s / max(slowest_s, 1e-3)))
        is_periodic = self._period is not None and self._num_dispatches % self._period == 0
        return is_meeting or is_periodic


def check_same(what: Mapping[str, str]) -> None:
    """Raises ValueError, in every process, if one holds another of `what` than most of them do.

    `what` maps the name of a thing, as a person calls it, to a text that tells it from others.
    """
    if jax.process_count() == 1:
        return
    digests = [hashlib.sha256(text.encode()).digest() for text in what.values()]
    held = _gather(np.frombuffer(b"".join(digests), np.uint8).reshape(len(what), -1))
    for number, name in enumerate(what):
        texts = [row.tobytes() for row in held[:, number]]
        usual, count = Counter(texts).most_common(1)[0]
        odd = [str(process) for process, text in enumerate(texts) if text != usual]
        if odd:
            raise ValueError(
                f"process {', '.join(odd)} of 0 to {len(texts) - 1} holds another {name} than the "
                f"{count} that agree: give every process the same files and flags"
            )


def _gather(value: Any) -> np.ndarray:
    """`value` of every process, along a new first axis."""
    from jax.experimental import multihost_utils

    with jax.transfer_guard("allow"):
        return np.asarray(multihost_utils.process_allgather(np.asarray(value)))


def any_says(flag: bool) -> bool:
    """Whether `flag` holds in any process; the same answer in all, which wait for each other."""
    if jax.process_count() == 1:
        return flag
    return bool(_gather(flag).any())
