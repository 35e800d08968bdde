"""What a step reads and writes: weights, statistics, optimizer, and their moving average."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from kkanji_jax.model.network import (
    ModelConfig,
    Variables,
    abstract_variables,
    init_variables,
)


class TrainState(NamedTuple):
    """Everything on the device that a checkpoint must hold; all schedules depend on `step`."""

    step: Int[Array | np.ndarray, ""]
    params: Variables
    batch_stats: Variables
    opt_state: optax.OptState
    ema_params: Variables
    ema_batch_stats: Variables


def create_state(
    model: ModelConfig, num_classes: int, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """The state before step 0, on the host, computed without JAX: nothing has to be compiled.

    The average starts at the weights themselves. All counts and moments of `optimizer` must start
    at 0, as those of `optim.make_optimizer` do.
    """
    params, batch_stats = init_variables(model, num_classes, seed)
    opt_state = jax.eval_shape(optimizer.init, params)
    return TrainState(
        step=np.zeros((), np.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), opt_state),
        ema_params=params,
        ema_batch_stats=batch_stats,
    )


def abstract_state(
    model: ModelConfig, num_classes: int, optimizer: optax.GradientTransformation
) -> TrainState:
    """Shapes and dtypes of the state, without values but for `step`, which is 0."""
    params, batch_stats = abstract_variables(model, num_classes)
    return TrainState(
        step=np.zeros((), np.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=jax.eval_shape(optimizer.init, params),
        ema_params=params,
        ema_batch_stats=batch_stats,
    )


def ramped_decay(decay: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """The share of an average that step number `step` keeps: min(decay, (1 + t) / (10 + t)).

    It rises from a tenth to `decay`, so that the averages of a short run forget their initial
    values.
    """
    t = step.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))


def moving_average(
    average: Variables, value: Variables, decay: float, step: Int[Array, ""]
) -> Variables:
    """Exponential moving average that keeps `ramped_decay(decay, step)` of itself."""
    rate = 1 - ramped_decay(decay, step)
    return jax.tree.map(lambda a, v: a + rate * (v - a), average, value)
