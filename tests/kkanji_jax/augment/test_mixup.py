"""Blends of two images against NumPy, and the loss that they are learnt with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kkanji_jax.augment.mixup import mix_pairs

NUM_IMAGES = 2000


def keys(seed: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), NUM_IMAGES)


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.random((NUM_IMAGES, 2, 2, 1), np.float32)
    return images, np.arange(NUM_IMAGES, dtype=np.int32)


def test_each_image_is_blended_with_its_neighbour(batch) -> None:
    images, labels = batch
    mixed = mix_pairs(jnp.asarray(images), jnp.asarray(labels), keys(1), 0.3)
    other = labels ^ 1  # 1, 0, 3, 2
    np.testing.assert_array_equal(mixed.other_labels, other)
    share = np.asarray(mixed.share)[:, None, None, None]
    expected = share * images + (1 - share) * images[other]
    np.testing.assert_allclose(mixed.images, expected, rtol=1e-6)


def test_shares_are_the_larger_part_of_a_beta_draw(batch) -> None:
    images, labels = (jnp.asarray(array) for array in batch)
    share = np.asarray(mix_pairs(images, labels, keys(2), 0.3).share)
    assert share.min() >= 0.5
    assert share.max() <= 1.0
    assert (share[0::2] != share[1::2]).mean() > 0.9  # each image's own
    draws = np.random.default_rng(0).beta(0.3, 0.3, 200_000)
    for level in (0.1, 0.25, 0.5, 0.75):
        # Of 2,000 draws a share has a standard error of at most 1.1 points.
        expected = np.quantile(np.maximum(draws, 1 - draws), level)
        assert (share < expected).mean() == pytest.approx(level, abs=0.045)


def test_a_batch_that_is_not_of_pairs_is_refused(batch) -> None:
    images, labels = (jnp.asarray(array[:3]) for array in batch)
    with pytest.raises(ValueError, match="even number of images, not 3"):
        mix_pairs(images, labels, keys(0)[:3], 0.3)
