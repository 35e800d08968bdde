"""Augmented copies for files, by the engine of training: the same pixels as in training."""

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Int32, UInt8

from kkanji_jax.augment.policy import Policy
from kkanji_jax.data.records import address_of


class DeviceAugmenter:
    """`augmenter(images, sample_ids, copies)`: each a pure function of (seed, sample_id, copy).

    `kkanji_jax.augment` gives the same bits on every platform, so the files hold what training with
    the same seed would make of the same originals. Works in batches of `batch_size`.
    """

    def __init__(self, policy: Policy, seed: int, batch_size: int) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # workers cannot share an accelerator
        import jax

        from kkanji_jax.augment.engine import augment, sample_keys

        self._batch_size = batch_size
        self._augment = jax.jit(partial(augment, policy=policy))
        self._keys = jax.jit(partial(sample_keys, seed))

    def __call__(
        self,
        images: UInt8[np.ndarray, "b h w"],
        sample_ids: Sequence[str],
        copies: Int32[np.ndarray, " b"],
    ) -> UInt8[np.ndarray, "b h w"]:
        varied = np.empty_like(images)
        addresses = address_of(sample_ids)
        for start in range(0, len(images), self._batch_size):
            part = slice(start, start + self._batch_size)
            missing = self._batch_size - len(images[part])  # one shape, so compiled once

            def full(each: np.ndarray, part: slice = part, missing: int = missing) -> np.ndarray:
                return np.pad(each[part], [(0, missing)] + [(0, 0)] * (each.ndim - 1))

            numbers = full(copies)
            made = self._augment(full(images), self._keys(full(addresses), numbers), numbers)
            varied[part] = np.asarray(made)[: len(varied[part])]
        return varied
