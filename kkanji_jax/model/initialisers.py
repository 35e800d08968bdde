"""Initial values of weights and statistics, each drawn from a key of (seed, name).

As in the authors' code (tensorflow/tpu, efficientnet_model.py): convolutions normal, of variance 2
/ fan_out; the classifier uniform, within 1 / sqrt(fan_out).
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float32


@dataclass(frozen=True)
class Initial:
    """The initial value of an array, kept in the variable's metadata as `initial`.

    `scale` is the value of a constant, the standard deviation of a normal, the limit of a uniform.
    """

    kind: Literal["constant", "normal", "uniform"]
    scale: float


ZEROS = Initial("constant", 0.0)
ONES = Initial("constant", 1.0)


def convolution(fan_out: int) -> Initial:
    """The initial value of a kernel each of whose inputs reaches `fan_out` outputs."""
    return Initial("normal", (2.0 / fan_out) ** 0.5)


def classifier(fan_out: int) -> Initial:
    """The initial value of the last layer's kernel, with `fan_out` classes."""
    return Initial("uniform", fan_out**-0.5)


def parameter(initial: Initial, *shape: int) -> nnx.Param:
    """A weight with its initialiser; 0 until `initial_values` draws it, unless it is a constant."""
    return nnx.Param(_constant(initial, shape), initial=initial)


def statistic(initial: Initial, *shape: int) -> nnx.BatchStat:
    """A running statistic with its initialiser; see `parameter`."""
    return nnx.BatchStat(_constant(initial, shape), initial=initial)


def _constant(initial: Initial, shape: tuple[int, ...]) -> Float32[Array, "..."]:
    return jnp.full(shape, initial.scale if initial.kind == "constant" else 0.0, jnp.float32)


def initial_values(network: nnx.Module, kind: type[nnx.Variable], seed: int) -> Any:
    """Initial values of all variables of a kind, as a pure dict of float32 NumPy arrays.

    Drawn on the host: the same on every platform, without compiling a program of a hundred random
    draws. `network` may be abstract, as nnx.eval_shape returns it.
    """
    state = nnx.state(network, kind)
    for path, variable in nnx.to_flat_state(state):
        name = "".join(f"[{key!r}]" for key in path)
        initial = variable.get_metadata("initial")
        variable.set_value(initial_value(initial, name, tuple(variable.shape), seed))
    return nnx.to_pure_dict(state)


def initial_value(
    initial: Initial, name: str, shape: tuple[int, ...], seed: int
) -> Float32[np.ndarray, "..."]:
    """The value of one array, a function of (seed, name) only."""
    if initial.kind == "constant":
        return np.full(shape, initial.scale, np.float32)
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    rng = np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))
    if initial.kind == "uniform":
        return rng.uniform(-initial.scale, initial.scale, shape).astype(np.float32)
    return (rng.standard_normal(shape) * initial.scale).astype(np.float32)
