"""Changes to the strokes of an image on the device: their width, and how sharp their edges are.

Integers throughout, so that every platform gives the same bits.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int32, UInt8

_BINOMIAL = (1, 4, 6, 4, 1)  # a blur of sigma 1 px along one axis; the sum is 16


def change_strokes(
    image: UInt8[Array, "n n"], width_q8: Int32[Array, ""], edge_q8: Int32[Array, ""]
) -> UInt8[Array, "n n"]:
    """White strokes on black made wider or thinner, and their edges softer or sharper.

    `width_q8` / 256 is how far edges move outwards, in px within [-1, 1]: a blend with the 3x3
    dilation or erosion. `edge_q8` / 256 is the share of the difference to a 5x5 binomial blur that
    is added: 1 blurs, and what is negative sharpens (unsharp masking). Both start from `image`.
    """
    wide = image.astype(jnp.int32)
    blurred_less_image = ((_blur_sum(wide) + 2**7) >> 8) - wide
    edge = (edge_q8 * blurred_less_image + 2**7) >> 8
    return jnp.clip(_change_width(wide, width_q8) + edge, 0, 255).astype(jnp.uint8)


def _change_width(wide: Int32[Array, "n n"], width_q8: Int32[Array, ""]) -> Int32[Array, "n n"]:
    flip = jnp.where(width_q8 < 0, 255, 0)  # erosion is the dilation of the paper
    bright = jnp.abs(wide - flip)
    rows = jnp.pad(bright, ((1, 1), (0, 0)))
    rows = jnp.maximum(jnp.maximum(rows[:-2], rows[2:]), bright)
    columns = jnp.pad(rows, ((0, 0), (1, 1)))
    dilated = jnp.maximum(jnp.maximum(columns[:, :-2], columns[:, 2:]), rows)
    return jnp.abs(bright + ((jnp.abs(width_q8) * (dilated - bright) + 2**7) >> 8) - flip)


def _blur_sum(wide: Int32[Array, "n n"]) -> Int32[Array, "n n"]:
    """256 times the blur; what lies outside the frame is black."""
    n = wide.shape[0]
    padded = jnp.pad(wide, 2)
    rows = sum(weight * padded[i : i + n] for i, weight in enumerate(_BINOMIAL))
    return jnp.asarray(sum(weight * rows[:, i : i + n] for i, weight in enumerate(_BINOMIAL)))
