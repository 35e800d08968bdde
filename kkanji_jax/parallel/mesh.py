"""One mesh axis over all devices, and the two shardings that the project uses."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"
GRADIENT_BYTES = 2**29  # more than the float32 gradients of B7
# XLA sums all float32 gradients over GPUs at once; its default limit is 30 MB.
_ON_GPUS = {"xla_gpu_all_reduce_combine_threshold_bytes": GRADIENT_BYTES}
# On a CPU it may add up in another order, so that sums are vector loops, and vectors are as wide as
# the processor's (256 bits by default). NaN and infinity are kept, by which a run that has
# diverged is found.
_ON_CPUS = {
    "xla_cpu_enable_fast_math": True,
    "xla_cpu_fast_math_honor_nans": True,
    "xla_cpu_fast_math_honor_infs": True,
    "xla_cpu_prefer_vector_width": 512,
}
_OPTIONS = {"gpu": _ON_GPUS, "cuda": _ON_GPUS, "cpu": _ON_CPUS}


def devices() -> list[Any]:
    """JAX's devices; ValueError if the platform that JAX_PLATFORMS names has none."""
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as err:  # JAX asserts where it finds no platform at all
        named = os.environ.get("JAX_PLATFORMS", "")
        reason = f" ({' '.join(str(err).split())[:200]})" if str(err) else ""
        if jax.distributed.is_initialized():
            raise ValueError(
                f"JAX finds no device here for JAX_PLATFORMS={named!r}, or did not hear "
                f"of those of the other processes{reason}: see what they say"
            ) from err
        raise ValueError(
            f"JAX finds no device here for JAX_PLATFORMS={named!r}{reason}; unset it, set it to "
            "cpu, or install JAX for the GPU (pip install 'kkanji_jax[cuda12]')"
        ) from err


def make_mesh(chosen: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh over the `chosen` devices, or over all of them."""
    chosen = devices() if chosen is None else chosen
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)


def platform(mesh: Mesh) -> str:
    """JAX's name for what the devices of `mesh` are: cpu, gpu, cuda."""
    return mesh.devices.flat[0].platform


def compiler_options(mesh: Mesh) -> dict[str, Any]:
    """What XLA is told beside its defaults, to train on the devices of `mesh`.

    An option that XLA_FLAGS names in the environment is the user's, and left out here.
    """
    options = _OPTIONS.get(platform(mesh), {})
    given = {word.lstrip("-").partition("=")[0] for word in os.environ.get("XLA_FLAGS", "").split()}
    return {name: value for name, value in options.items() if name not in given}


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The array is split over the devices along `axis`."""
    return NamedSharding(mesh, PartitionSpec(*([None] * axis), AXIS))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts host arrays, the same in every process, on every device."""
    sharding = replicated(mesh)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    with jax.transfer_guard("allow"):
        return jax.tree.map(place, tree)


def to_global(batch: Any, mesh: Mesh, axis: int = 0) -> Any:
    """This process's part of a batch, as one array split over all devices along `axis`."""
    sharding = sharded(mesh, axis)
    with jax.transfer_guard("allow"):  # with several processes JAX calls this copy implicit
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch
        )


def split_whole(batch: Any, mesh: Mesh) -> Any:
    """Host arrays, the same in every process, each split over all devices along its first axis."""
    sharding = sharded(mesh)
    with jax.transfer_guard("allow"):
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(sharding, leaf, leaf.shape), batch
        )


def check_divides(batch_size: int, mesh: Mesh, microbatches: int = 1) -> None:
    """Raises ValueError unless each microbatch splits evenly over the devices."""
    if batch_size % (microbatches * mesh.size):
        parts = f"{microbatches} microbatches x " if microbatches > 1 else ""
        raise ValueError(f"batch_size must divide by {parts}{mesh.size} devices, got {batch_size}")
