"""Changes of strokes on the device: their width, and how sharp their edges are.

All arithmetic is in integers, so every platform gives the same bits.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int32, UInt8, UInt16


def change_strokes(
    image: UInt8[Array, "n n"], width_q8: Int32[Array, ""], edge_q8: Int32[Array, ""]
) -> UInt8[Array, "n n"]:
    """Makes white strokes on black wider or thinner, and their edges softer or sharper.

    `width_q8` / 256 is how far edges move outwards, in px within [-1, 1]: a blend with the 3x3
    dilation or erosion. `edge_q8` / 256 is the share of the difference to a 5x5 binomial blur that
    is added: 1 blurs, and negative values sharpen (unsharp masking). Both start from `image`.
    """
    wide = image.astype(jnp.int32)
    blurred = (_blur_sum(image).astype(jnp.int32) + 2**7) >> 8
    edge = (edge_q8 * (blurred - wide) + 2**7) >> 8
    return jnp.clip(_change_width(image, width_q8) + edge, 0, 255).astype(jnp.uint8)


def _change_width(image: UInt8[Array, "n n"], width_q8: Int32[Array, ""]) -> Int32[Array, "n n"]:
    flip = jnp.where(width_q8 < 0, 255, 0).astype(jnp.uint8)  # erosion is the paper's dilation
    bright = image ^ flip
    padded = jnp.pad(bright, 1)
    rows = jnp.maximum(jnp.maximum(padded[:-2], padded[2:]), padded[1:-1])
    dilated = jnp.maximum(jnp.maximum(rows[:, :-2], rows[:, 2:]), rows[:, 1:-1])
    start, end, turn = (part.astype(jnp.int32) for part in (bright, dilated, flip))
    return jnp.abs(start + ((jnp.abs(width_q8) * (end - start) + 2**7) >> 8) - turn)


def _blur_sum(image: UInt8[Array, "n n"]) -> UInt16[Array, "n n"]:
    """256 times the blur, at most 65,280; what lies outside the frame is black."""
    n = image.shape[0]
    padded = jnp.pad(image, 2).astype(jnp.uint16)

    def blend(parts: list[UInt16[Array, "..."]]) -> UInt16[Array, "..."]:
        return parts[0] + parts[4] + 4 * (parts[1] + parts[3]) + 6 * parts[2]

    rows = blend([padded[start : start + n] for start in range(5)])
    return blend([rows[:, start : start + n] for start in range(5)])
