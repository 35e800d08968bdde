"""Mixup: a network learns from blends of two images (Zhang et al. 2018, arXiv:1710.09412)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Key

from kkanji_jax.augment.policy_tables import TABLE_BITS


class Mixed(NamedTuple):
    """Images that are each `share` of one character and 1 - `share` of another."""

    images: Float[Array, "b h w c"]
    share: Float32[Array, " b"]  # in [0.5, 1], so that the image keeps its own label
    other_labels: Int[Array, " b"]


def mix_pairs(
    images: Float[Array, "b h w c"], labels: Int[Array, " b"], keys: Key[Array, " b"], alpha: float
) -> Mixed:
    """Blends each image with its neighbour in the batch, which is on the same device.

    The share is drawn from Beta(alpha, alpha) with the image's key, and the image keeps the larger
    part. ValueError for a batch of odd size.
    """
    if len(images) % 2:
        raise ValueError(f"mixup needs an even number of images, not {len(images)}")
    words = jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32))(keys)
    share = jnp.asarray(share_quantiles(alpha))[words >> (32 - TABLE_BITS)]
    own = share[:, None, None, None].astype(images.dtype)
    return Mixed(own * images + (1 - own) * _neighbours(images), share, _neighbours(labels))


def share_quantiles(alpha: float) -> Float32[np.ndarray, " q"]:
    """2**TABLE_BITS equally likely values of max(s, 1 - s), for s from Beta(alpha, alpha).

    A table, because the usual sampler is a rejection loop, in which a GPU waits for the host.
    """
    from scipy.special import betaincinv  # imported here: it loads much that others do without

    num_values = 2**TABLE_BITS
    # The distribution is symmetric, so its upper half is that of the larger share.
    upper_half = 0.5 + (np.arange(num_values) + 0.5) / (2 * num_values)
    return betaincinv(alpha, alpha, upper_half).astype(np.float32)


def _neighbours(rows: Array) -> Array:
    """The rows 1, 0, 3, 2 and so on."""
    return rows.reshape(-1, 2, *rows.shape[1:])[:, ::-1].reshape(rows.shape)
