"""Sampling is bilinear, and the look-up of a GPU finds what a CPU's finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kkanji_jax.augment import warp
from kkanji_jax.augment.cpu_blocks import together


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_sampling_is_bilinear(border: str, rng: np.random.Generator):
    image = rng.integers(0, 256, (16, 16))
    x_q8, y_q8 = rng.integers(-40 * 256, 56 * 256, (2, 16, 16))

    def pixel(row: int, column: int) -> int:
        if border == "reflect":
            row, column = (min(i % 32, 31 - i % 32) for i in (row, column))
        inside = 0 <= row < 16 and 0 <= column < 16
        return int(image[row, column]) if inside else 0

    expected = np.zeros((16, 16))
    for at in np.ndindex(16, 16):
        column, row = int(x_q8[at] // 256), int(y_q8[at] // 256)
        right, down = x_q8[at] / 256 - column, y_q8[at] / 256 - row
        top = pixel(row, column) * (1 - right) + pixel(row, column + 1) * right
        bottom = pixel(row + 1, column) * (1 - right) + pixel(row + 1, column + 1) * right
        expected[at] = top * (1 - down) + bottom * down
    ink, x, y = jnp.asarray(image, jnp.uint8), *(jnp.asarray(a, jnp.int32) for a in (x_q8, y_q8))
    assert np.abs(np.asarray(warp.sample(ink, x, y, border, together)) - expected).max() <= 0.5


def test_a_gpu_looks_up_the_same_words_in_one_table(rng: np.random.Generator):
    images, n = 16, 20
    packed = jnp.asarray(rng.integers(0, 2**32, (images, (n + 2) ** 2), np.uint32))
    place = jnp.asarray(rng.integers(0, (n + 2) ** 2, (images, n, n)) << 16 | 0xABCD, jnp.int32)
    expected = jax.vmap(warp._look_up)(packed, place)
    np.testing.assert_array_equal(expected[7, 3, 5], packed[7, place[7, 3, 5] >> 16])
    in_one_table = jax.jit(warp._look_up_in_one_table)
    np.testing.assert_array_equal(in_one_table(packed, place), expected)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    split = jax.device_put((packed, place), NamedSharding(mesh, PartitionSpec("data")))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        compiled = jax.jit(warp._look_up_in_one_table).lower(*split).compile()
    np.testing.assert_array_equal(compiled(*split), expected)
    assert "all-gather" not in (compiled.as_text() or "all-gather")
