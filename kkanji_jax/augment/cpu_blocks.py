"""Augmentation of a batch on a CPU: in blocks that fit its cache, and in separate steps.

XLA may compute an array at the place where it is read. On a CPU this turns vectorised loops into
scalar code around each read of a gather, and computes a neighbouring pixel again for each pixel
that reads it. Also, the intermediate arrays of a whole batch are newly allocated in every call,
which takes longer than filling them.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, Key, UInt8

BLOCK_IMAGES = 32  # their intermediate arrays, about a megabyte, fit the cache of a core

# Calls a function with arrays; on a CPU, XLA computes the result once, not at every read.
Step = Callable[..., Array]


def together(function: Callable[..., Array], *arrays: Array) -> Array:
    """The step for GPUs: barriers mark what is computed separately. XLA removes them on CPUs."""
    return function(*arrays)


def in_blocks(
    vary: Callable[..., UInt8[Array, "b n n"]],
    images: UInt8[Array, "b n n"],
    keys: Key[Array, " b"],
    copies: Int32[Array, " b"],
) -> UInt8[Array, "b n n"]:
    """`vary(images, keys, copies, step)`, block by block; `vary` must treat images independently.

    If all copies are 0, steps return zeros, and `vary` must then return its images unchanged.
    """
    is_any_varied = jnp.any(copies != 0)

    def apart(function: Callable[..., Array], *arrays: Array) -> Array:
        # XLA fuses nothing into or out of the branches of a condition that it cannot foresee.
        result = jax.eval_shape(function, *arrays)

        def skip(*arrays: Array) -> Array:
            return jnp.zeros(result.shape, result.dtype)

        return lax.cond(is_any_varied, function, skip, *arrays)

    block = math.gcd(len(copies), BLOCK_IMAGES)

    def split(array: Array) -> Array:
        """Every block has images of each device, so no device needs images of another."""
        return array.reshape(block, -1, *array.shape[1:]).swapaxes(0, 1)

    blocks = (split(images), split(keys), split(copies))
    varied = lax.map(lambda part: vary(*part, apart), blocks)
    return varied.swapaxes(0, 1).reshape(images.shape)
