"""Applies an augmentation policy on the device: one composed warp, one gather per pixel.

All arithmetic from random bits to pixels is exact: integers, sums of float32 integers below 2**24,
or one correctly rounded float32 operation converted back to an integer. The result for an image is
therefore bit-identical whatever its neighbours, the batch size, the number of devices, the
compiler's order of operations or the platform.

Fixed-point numbers carry their number of fractional bits in their name: `x_q8` is x * 2**8.
"""

import functools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float32, Int32, Key, UInt8, UInt32

from kkanji_jax import random_streams
from kkanji_jax.augment.cpu_blocks import Step, in_blocks, together
from kkanji_jax.augment.policy import NONE, Policy
from kkanji_jax.augment.policy_tables import TABLE_BITS, Tables, make_tables
from kkanji_jax.augment.strokes import change_strokes
from kkanji_jax.augment.warp import sample

MAX_IMAGE_PX = 128  # int32 holds every product up to here
NUM_PARAMETERS = 13
NIBBLE_SUM_STD = math.sqrt(4 * (16**2 - 1) / 12)  # of four half bytes: a coarse one, for noise


def sample_keys(
    seed: int, addresses: UInt32[Array, "b 2"], copies: Int32[Array, " b"]
) -> Key[Array, " b"]:
    """One key per image: a function of (seed, address of the sample, copy number) only."""
    root = jax.random.key(seed, impl="threefry2x32")

    def fold(address: UInt32[Array, "2"], copy: Int32[Array, ""]) -> Key[Array, ""]:
        key = jax.random.fold_in(root, address[0])
        return jax.random.fold_in(jax.random.fold_in(key, address[1]), copy)

    return jax.vmap(fold)(addresses, copies)


def augment(
    images: UInt8[Array, "b h w"],
    keys: Key[Array, " b"],
    copies: Int32[Array, " b"],
    policy: Policy,
) -> UInt8[Array, "b h w"]:
    """Augments each image by the policy; copy 0 is returned unchanged, bit for bit.

    Images are square, at most 128 px, white ink on black. `policy` is static under `jit`.
    """
    height, width = images.shape[1:]
    if height != width or not 2 <= width <= MAX_IMAGE_PX:
        raise ValueError(f"images must be square, of 2 to {MAX_IMAGE_PX} px, not {height}x{width}")
    if policy._replace(name=NONE.name) == NONE:
        return images
    tables = make_tables(policy, width)

    def vary(
        images: UInt8[Array, "b n n"],
        keys: Key[Array, " b"],
        copies: Int32[Array, " b"],
        step: Step = together,
    ) -> UInt8[Array, "b n n"]:
        vary_each = jax.vmap(lambda image, key: _augment_image(image, key, policy, tables, step))
        return jnp.where((copies == 0)[:, None, None], images, vary_each(images, keys))

    with jax.named_scope("augment"):
        varied = lax.platform_dependent(
            images, keys, copies, cpu=functools.partial(in_blocks, vary), default=vary
        )
        # Otherwise XLA would compute coordinates in one kernel, and the pixels in those that read
        # them, several times over.
        return lax.optimization_barrier(varied)


def _augment_image(
    image: UInt8[Array, "n n"], key: Key[Array, ""], policy: Policy, tables: Tables, step: Step
) -> UInt8[Array, "n n"]:
    n = image.shape[0]
    rank = tables.elastic_basis.shape[1]
    words = jax.random.bits(key, (NUM_PARAMETERS + 2 * rank * rank,), jnp.uint32)
    parameters, field_words = words[:NUM_PARAMETERS], words[NUM_PARAMETERS:]
    ink = image
    pivot_q8 = _centroid_q8(ink) if policy.pivot == "ink" else jnp.zeros(2, jnp.int32)
    if policy.stroke_max_px or policy.soften_max or policy.sharpen_max:
        width, edge = _pick(tables.stroke_q8, parameters[6]), _pick(tables.edge_q8, parameters[12])
        ink = lax.optimization_barrier(step(change_strokes, ink, width, edge))
    shift_q8 = _elastic_q8(field_words.reshape(2, rank, rank), tables)
    x_q8, y_q8 = _source_q8(parameters, pivot_q8, shift_q8, tables)
    varied = sample(ink, x_q8, y_q8, policy.border, step)
    if policy.cutout_prob:
        varied = jnp.where(_hole(parameters[7:], n, policy.cutout_prob, tables), 0, varied)
    if policy.noise_std:
        noise_words = jax.random.bits(
            jax.random.fold_in(key, random_streams.NOISE), ((n * n + 1) // 2,), jnp.uint32
        )
        noise = _nibble_sums(noise_words)[: n * n].reshape(n, n)
        noise = jnp.round(noise.astype(jnp.float32) * (policy.noise_std / NIBBLE_SUM_STD))
        varied = jnp.clip(varied + noise.astype(jnp.int32), 0, 255)
    return varied.astype(jnp.uint8)


def _pick(table: np.ndarray, word: UInt32[Array, ""]) -> Int32[Array, ""]:
    return jnp.asarray(table)[word >> (32 - TABLE_BITS)]


def _mul_q13(a: Int32[Array, "..."], b: Int32[Array, "..."]) -> Int32[Array, "..."]:
    return (a * b + 2**12) >> 13


def _byte_sums(words: UInt32[Array, "..."]) -> Int32[Array, "..."]:
    """Approximately normal integers, one per word: mean 0, std 147.8, within +-510."""
    total = (words & 255) + ((words >> 8) & 255) + ((words >> 16) & 255) + (words >> 24)
    return total.astype(jnp.int32) - 510


def _nibble_sums(words: UInt32[Array, " n"]) -> Int32[Array, " m"]:
    """Coarser than `_byte_sums`, two per word: mean 0, std 9.22, within +-30."""
    halves = jnp.concatenate([words & 0xFFFF, words >> 16])
    total = (halves & 15) + ((halves >> 4) & 15) + ((halves >> 8) & 15) + (halves >> 12)
    return total.astype(jnp.int32) - 30


def _centroid_q8(image: UInt8[Array, "n n"]) -> Int32[Array, "2"]:
    """(x, y) of the ink's centre of mass; the middle of the frame when there is none."""
    n, ink = image.shape[0], image.astype(jnp.int32)
    columns, rows = jnp.sum(ink, axis=0), jnp.sum(ink, axis=1)
    total = jnp.sum(rows)
    coords = jnp.arange(n, dtype=jnp.int32)
    moments = jnp.stack([jnp.sum(columns * coords), jnp.sum(rows * coords)])
    centre = moments.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32)
    return jnp.where(total == 0, (n - 1) * 128, jnp.round(centre * 256).astype(jnp.int32))


def _elastic_q8(words: UInt32[Array, "2 rank rank"], tables: Tables) -> Int32[Array, "2 n n"]:
    """The displacement field (x, y), a smooth Gaussian one: A Z A^T of low rank."""
    basis = jnp.asarray(tables.elastic_basis)
    coefficients = _byte_sums(words).astype(jnp.float32)
    rows: Float32[Array, "2 n rank"] = jnp.einsum(
        "ir,crs->cis", basis, coefficients, precision="highest"
    )
    rows = jnp.round(rows * 2.0**-tables.elastic_shift)

    def by_product(rows: Float32[Array, "2 n rank"]) -> Float32[Array, "2 n n"]:
        return jnp.einsum("cis,js->cij", rows, basis, precision="highest")

    def by_terms(rows: Float32[Array, "2 n rank"]) -> Float32[Array, "2 n n"]:
        terms = (rows[:, :, None, s] * basis[None, None, :, s] for s in range(basis.shape[1]))
        return functools.reduce(operator.add, terms)

    # A GPU computes the terms where they are used, instead of writing the field to memory. The
    # sums are exact, so both are the same bits.
    field = lax.platform_dependent(rows, cpu=by_product, default=by_terms)
    return jnp.round(field * np.float32(tables.elastic_gain_q8)).astype(jnp.int32)


def _source_q8(
    words: UInt32[Array, " parameters"],
    pivot_q8: Int32[Array, "2"],
    shift_q8: Int32[Array, "2 n n"],
    tables: Tables,
) -> tuple[Int32[Array, "n n"], Int32[Array, "n n"]]:
    """Where each output pixel comes from: the inverse of rotation . shear . scale, then shift."""
    n = shift_q8.shape[1]
    cos, sin = _pick(tables.cos_q13, words[0]), _pick(tables.sin_q13, words[0])
    shear = _pick(tables.shear_q13, words[1])
    inverse_scale = _pick(tables.inverse_scale_q13, words[2])
    scale_x = _mul_q13(inverse_scale, _pick(tables.root_aspect_q13[::-1], words[3]))
    scale_y = _mul_q13(inverse_scale, _pick(tables.root_aspect_q13, words[3]))
    xx = _mul_q13(scale_x, cos + _mul_q13(shear, sin))
    xy = _mul_q13(scale_x, sin - _mul_q13(shear, cos))
    yx, yy = _mul_q13(scale_y, -sin), _mul_q13(scale_y, cos)

    # pivot + matrix (output + shift - pivot - translation), with what is constant in one term
    fixed_x = pivot_q8[0] + _pick(tables.translation_q8, words[4])
    fixed_y = pivot_q8[1] + _pick(tables.translation_q8, words[5])
    start_x = (pivot_q8[0] << 13) + 2**12 - xx * fixed_x - xy * fixed_y
    start_y = (pivot_q8[1] << 13) + 2**12 - yx * fixed_x - yy * fixed_y
    coords_q8 = jnp.arange(n, dtype=jnp.int32) * 256
    x, y = coords_q8[None, :] + shift_q8[0], coords_q8[:, None] + shift_q8[1]
    return (xx * x + xy * y + start_x) >> 13, (yx * x + yy * y + start_y) >> 13


def _hole(
    words: UInt32[Array, " parameters"], n: int, prob: float, tables: Tables
) -> Bool[Array, "n n"]:
    """True inside the erased rectangle; nowhere if no rectangle is drawn."""
    is_cut = words[0] < np.uint32(min(prob * 2**32, 2**32 - 1))
    edges = []
    for side_word, place_word in ((words[1], words[3]), (words[2], words[4])):
        side = jnp.where(is_cut, _pick(tables.cutout_px, side_word), 0)
        start = ((place_word >> 16).astype(jnp.int32) * (n - side + 1)) >> 16
        coords = jnp.arange(n, dtype=jnp.int32)
        edges.append((coords >= start) & (coords < start + side))
    return edges[1][:, None] & edges[0][None, :]
