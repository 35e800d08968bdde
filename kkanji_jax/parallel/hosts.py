"""Several processes, one run: joining them, meeting, and agreeing."""

import os

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


def any_says(flag: bool) -> bool:
    """Whether `flag` holds in any process; the same answer in all, which wait for each other."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    with jax.transfer_guard("allow"):
        return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
