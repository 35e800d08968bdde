"""A batch of images worked on by a CPU: in blocks that its cache holds, and in steps.

XLA computes an array where it is read. On a CPU this turns loops over many pixels at once into
loops over single ones, around each read of a gather, and computes a neighbour anew for each pixel
that looks at it. And what lies between the steps of a whole batch is memory that the system hands
out anew in every call, which takes longer than filling it.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, Key, UInt8

BLOCK_IMAGES = 32  # what lies between their steps, a megabyte, fits the cache of a core

# Calls a function with arrays; on a CPU, XLA computes the result once, and not where it is read.
Step = Callable[..., Array]


def together(function: Callable[..., Array], *arrays: Array) -> Array:
    """A step for GPUs, where barriers say what is computed apart; CPUs take these away."""
    return function(*arrays)


def in_blocks(
    vary: Callable[..., UInt8[Array, "b n n"]],
    images: UInt8[Array, "b n n"],
    keys: Key[Array, " b"],
    copies: Int32[Array, " b"],
) -> UInt8[Array, "b n n"]:
    """`vary(images, keys, copies, step)`, in blocks, of what treats each image by itself.

    If all copies are 0, steps give zeros: `vary` must then give its images back.
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
        """Every block has images of each device, which then needs none of another's."""
        return array.reshape(block, -1, *array.shape[1:]).swapaxes(0, 1)

    blocks = (split(images), split(keys), split(copies))
    varied = lax.map(lambda part: vary(*part, apart), blocks)
    return varied.swapaxes(0, 1).reshape(images.shape)
