"""Bilinear sampling of an image in integers: one look-up per pixel, the same bits everywhere.

Fixed-point numbers carry their number of fractional bits in their name: `x_q8` is x * 2**8.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, UInt8, UInt32

from kkanji_jax.augment.cpu_blocks import Step


def sample(
    image: UInt8[Array, "n n"],
    x_q8: Int32[Array, "n n"],
    y_q8: Int32[Array, "n n"],
    border: str,
    step: Step,
) -> Int32[Array, "n n"]:
    """Grey levels at the places (x, y) in 24.8 fixed point, rounded, as int32 in [0, 255].

    `border` is `reflect`, which mirrors at the outer edges of the outermost pixels; any other value
    is black. Four neighbouring pixels are packed into one 32-bit word, so there is one gather per
    pixel.
    """
    n = image.shape[0]
    if border == "reflect":
        x_q8, y_q8 = (_reflect_q8(coord, n) for coord in (x_q8, y_q8))
        padded = jnp.pad(image, ((1, 2), (1, 2)), mode="edge")
    else:
        x_q8, y_q8 = (jnp.clip(coord, -256, 256 * n) for coord in (x_q8, y_q8))
        padded = jnp.pad(image, ((1, 2), (1, 2)))
    padded = padded.astype(jnp.uint32)
    packed = (
        padded[:-1, :-1] | (padded[:-1, 1:] << 8) | (padded[1:, :-1] << 16) | (padded[1:, 1:] << 24)
    )
    index = ((y_q8 >> 8) + 1) * (n + 2) + (x_q8 >> 8) + 1
    place = (index << 16) | ((y_q8 & 255) << 8) | (x_q8 & 255)
    # A GPU's next kernel does all the rest. Without the barrier it would keep the words as well.
    place = lax.optimization_barrier(place)
    word = step(_look_up, packed.reshape(-1), place)
    right, down = (place & 255).astype(jnp.uint32), ((place >> 8) & 255).astype(jnp.uint32)
    top = (word & 255) * (256 - right) + ((word >> 8) & 255) * right
    bottom = ((word >> 16) & 255) * (256 - right) + (word >> 24) * right
    return ((top * (256 - down) + bottom * down + 2**15) >> 16).astype(jnp.int32)


@jax.custom_batching.custom_vmap
def _look_up(packed: UInt32[Array, " pixels"], place: Int32[Array, "n n"]) -> UInt32[Array, "n n"]:
    return packed.at[place >> 16].get(mode="promise_in_bounds")


@_look_up.def_vmap
def _look_up_each(
    axis_size: int, in_batched: list[bool], packed: Array, place: Array
) -> tuple[Array, bool]:
    each = jax.vmap(_look_up.fun)
    return lax.platform_dependent(packed, place, cpu=each, default=_look_up_in_one_table), True


def _look_up_in_one_table(
    packed: UInt32[Array, "b pixels"], place: Int32[Array, "b n n"]
) -> UInt32[Array, "b n n"]:
    """For GPUs: all images of a device as one table; XLA fuses no gather with two indices."""

    def look_up(packed: Array, place: Array) -> Array:
        b, pixels = packed.shape
        start = pixels * jnp.arange(b, dtype=jnp.int32)[:, None, None]
        return packed.reshape(-1).at[start + (place >> 16)].get(mode="promise_in_bounds")

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return look_up(packed, place)
    split = jax.sharding.PartitionSpec(mesh.axis_names)
    return jax.shard_map(look_up, in_specs=(split, split), out_specs=split)(packed, place)


def _reflect_q8(coord_q8: Int32[Array, "n n"], n: int) -> Int32[Array, "n n"]:
    """Mirrors coordinates at the outer edges of the first and the last pixel."""
    period = 2 * 256 * n
    from_edge = jnp.mod(coord_q8 + 128, period)
    return jnp.minimum(from_edge, period - from_edge) - 128
