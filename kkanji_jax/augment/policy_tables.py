"""An augmentation policy for one image size, as the integer constants that the device works with.

Fixed-point numbers carry their number of fractional bits in their name: `x_q8` is x * 2**8.
"""

import math
from typing import NamedTuple

import numpy as np

from kkanji_jax.augment.policy import REFERENCE_PX, Policy

TABLE_BITS = 10  # a parameter takes one of 1,024 equally likely values
BYTE_SUM_STD = math.sqrt(4 * (256**2 - 1) / 12)  # of four uniform bytes: our normal deviate
FLOAT32_EXACT = 2**24


class Tables(NamedTuple):
    """A policy for one image size, as integer constants: the quantiles of every parameter."""

    cos_q13: np.ndarray
    sin_q13: np.ndarray
    shear_q13: np.ndarray
    inverse_scale_q13: np.ndarray
    root_aspect_q13: np.ndarray  # mirrored, the same table holds its inverses
    translation_q8: np.ndarray
    stroke_q8: np.ndarray
    edge_q8: np.ndarray
    cutout_px: np.ndarray
    elastic_basis: np.ndarray  # [n, rank], whole numbers in float32
    elastic_shift: int  # bits dropped between the two products
    elastic_gain_q8: float  # what is left to px * 2**8


def make_tables(policy: Policy, image_px: int) -> Tables:
    num_values = 2**TABLE_BITS
    quantiles = (np.arange(num_values) + 0.5) / num_values
    signed = 2 * quantiles - 1
    px = image_px / REFERENCE_PX
    angles = np.radians(policy.rotation_max_deg) * signed
    scales = policy.scale_min + (policy.scale_max - policy.scale_min) * quantiles
    edges = -policy.sharpen_max + (policy.sharpen_max + policy.soften_max) * quantiles
    sides = (
        policy.cutout_min_frac + (policy.cutout_max_frac - policy.cutout_min_frac) * quantiles
    ) * image_px
    basis, gain = _elastic_basis(policy, image_px)
    shift = _exact_shift(basis)
    return Tables(
        cos_q13=_fixed(np.cos(angles), 13),
        sin_q13=_fixed(np.sin(angles), 13),
        shear_q13=_fixed(policy.shear_max * signed, 13),
        inverse_scale_q13=_fixed(1 / scales, 13),
        root_aspect_q13=_fixed(policy.aspect_max ** (signed / 2), 13),
        translation_q8=_fixed(policy.translation_max_px * px * signed, 8),
        stroke_q8=_fixed(policy.stroke_max_px * px * signed, 8),
        edge_q8=_fixed(edges * px, 8),
        cutout_px=np.floor(sides).astype(np.int32),
        elastic_basis=basis,
        elastic_shift=shift,
        elastic_gain_q8=gain * 2.0 ** (8 + shift),
    )


def _fixed(values: np.ndarray, fraction_bits: int) -> np.ndarray:
    return np.round(values * 2**fraction_bits).astype(np.int32)


def _elastic_basis(policy: Policy, image_px: int) -> tuple[np.ndarray, float]:
    """Whole-number A and gain g such that g A Z A^T (Z: byte sums) is the policy's field.

    A Gaussian filter with half-sample reflection is diagonal in the cosine basis, with the
    filter's frequency response as eigenvalues; the few that matter are kept.
    """
    modes = np.arange(image_px)
    sigma_px = policy.elastic_sigma_px * image_px / REFERENCE_PX
    response = np.exp(-0.5 * (np.pi * modes * sigma_px / image_px) ** 2)
    modes, response = modes[response**2 > 1e-3], response[response**2 > 1e-3]
    phases = np.pi * np.outer(np.arange(image_px) + 0.5, modes) / image_px
    basis = np.cos(phases) * np.where(modes == 0, 1.0, math.sqrt(2.0)) * response
    basis *= 511 / np.abs(basis).max()
    whole = np.round(basis).astype(np.float32)
    mean_variance = float(np.mean(np.sum(whole.astype(np.float64) ** 2, axis=1))) ** 2
    std_px = policy.elastic_std_px * image_px / REFERENCE_PX
    return whole, std_px / (BYTE_SUM_STD * math.sqrt(mean_variance))


def _exact_shift(basis: np.ndarray) -> int:
    """Bits to drop after A Z so that every partial sum of (A Z) A^T is exact in float32."""
    row_sum = float(np.abs(basis).sum(axis=1).max())
    first = 510 * row_sum
    shift = max(0, math.ceil(math.log2((first + 1) * row_sum / FLOAT32_EXACT)))
    if first >= FLOAT32_EXACT:
        raise ValueError(f"elastic_sigma_px is too small: {basis.shape[1]} modes, at most 60")
    return shift
