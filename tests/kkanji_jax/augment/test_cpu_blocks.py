"""A batch in blocks: the same results, in little memory, and with steps that stay apart."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kkanji_jax.augment.cpu_blocks import Step, in_blocks, together


def brighten(images: jax.Array, keys: jax.Array, copies: jax.Array, step: Step = together):
    """By the copy's number and a random one; written with a step that its readers could redo."""
    drawn = jax.vmap(lambda key: jax.random.randint(key, (), 1, 9))(keys)
    doubled = step(lambda image: 2 * image, images)
    mixed = doubled + doubled[:, ::-1] + (copies * drawn)[:, None, None].astype(jnp.uint8)
    return jnp.where((copies == 0)[:, None, None], images, mixed)


def batch_of(num: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    images = np.random.default_rng(0).integers(0, 256, (num, 8, 8), dtype=np.uint8)
    keys = jax.random.split(jax.random.key(0), num)
    return jnp.asarray(images), keys, jnp.arange(num, dtype=jnp.int32) % 3


@pytest.mark.parametrize("num", [1, 31, 32, 40, 128])
def test_blocks_give_what_the_whole_batch_gives(num: int) -> None:
    batch = batch_of(num)
    made = jax.jit(partial(in_blocks, brighten))(*batch)
    assert (np.asarray(made) == np.asarray(brighten(*batch))).all()


def test_originals_come_back_and_no_step_is_taken() -> None:
    images, keys, copies = batch_of(64)
    made = jax.jit(partial(in_blocks, brighten))(images, keys, 0 * copies)
    assert (np.asarray(made) == np.asarray(images)).all()


def test_a_step_is_a_computation_of_its_own() -> None:
    compiled = jax.jit(partial(in_blocks, brighten)).lower(*batch_of(128)).compile()
    assert str(compiled.as_text()).count(" conditional(") == 1
