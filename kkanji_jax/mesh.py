"""One mesh axis over all devices, and the two shardings that the project uses."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh over `devices`, or over all of them."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The array is split over the devices along `axis`."""
    return NamedSharding(mesh, PartitionSpec(*([None] * axis), AXIS))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts host arrays on every device."""
    return jax.device_put(tree, replicated(mesh))


def to_global(batch: Any, mesh: Mesh, axis: int = 0) -> Any:
    """This process's part of a batch, as one array split over all devices along `axis`."""
    sharding = sharded(mesh, axis)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch
    )


def check_divides(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError unless the batch splits evenly over the devices."""
    if batch_size % mesh.size:
        raise ValueError(f"batch_size must divide by {mesh.size} devices, got {batch_size}")
