"""What a step reads and writes: weights, statistics, optimizer, and their moving average."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Int

from kkanji_jax.model.efficientnet import EfficientNet
from kkanji_jax.model.initialisers import initial_value
from kkanji_jax.model.variants import get_variant

Variables = Any  # a pure dict of arrays, as nnx.to_pure_dict gives


class TrainState(NamedTuple):
    """All that a checkpoint must hold of the device; `step` is the only clock."""

    step: Int[Array | np.ndarray, ""]
    params: Variables
    batch_stats: Variables
    opt_state: optax.OptState
    ema_params: Variables
    ema_batch_stats: Variables


def build_network(model: Mapping[str, Any], num_classes: int, rngs: nnx.Rngs) -> EfficientNet:
    """The network that a config's `model` section describes."""
    return EfficientNet(
        get_variant(model["variant"]),
        num_classes,
        stem_stride=model["stem_stride"],
        dropout=model["dropout"],
        drop_path=model["drop_path"],
        norm_group=model.get("norm_group"),  # older bundles lack it
        dtype=jnp.dtype(model["dtype"]),
        rngs=rngs,
    )


def make_graphdef(model: Mapping[str, Any], num_classes: int) -> nnx.GraphDef:
    """The network's structure without its arrays."""
    return nnx.graphdef(
        nnx.eval_shape(lambda: build_network(model, num_classes, nnx.Rngs(params=0)))
    )


def abstract_variables(model: Mapping[str, Any], num_classes: int) -> tuple[Variables, Variables]:
    """Shapes and dtypes of the weights and the batch statistics, computing nothing."""
    network = nnx.eval_shape(lambda: build_network(model, num_classes, nnx.Rngs(params=0)))
    _, params, batch_stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def init_variables(
    model: Mapping[str, Any], num_classes: int, seed: int
) -> tuple[Variables, Variables]:
    """Fresh weights and batch statistics as NumPy arrays, float32.

    Each array is drawn from an address of its own, (seed, path), on the host: the same on every
    platform, and without compiling a program of a hundred random draws.
    """
    params, batch_stats = abstract_variables(model, num_classes)

    def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        return initial_value(name, leaf.shape, seed)

    return (
        jax.tree_util.tree_map_with_path(fill, params),
        jax.tree_util.tree_map_with_path(fill, batch_stats),
    )


def create_state(
    model: Mapping[str, Any], num_classes: int, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """The state before step 0, on the host. The average starts at the weights themselves."""
    params, batch_stats = init_variables(model, num_classes, seed)
    return TrainState(
        step=np.zeros((), np.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=jax.device_get(optimizer.init(params)),
        ema_params=params,
        ema_batch_stats=batch_stats,
    )


def moving_average(
    average: Variables, value: Variables, decay: float, step: Int[Array, ""]
) -> Variables:
    """Exponential moving average whose decay rises to `decay`: min(decay, (1 + t) / (10 + t)).

    The ramp keeps the random start out of a short run's average.
    """
    t = step.astype(jnp.float32)
    rate = 1 - jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda a, v: a + rate * (v - a), average, value)
