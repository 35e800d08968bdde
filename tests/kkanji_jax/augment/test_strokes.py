"""Changes of strokes on the device: widths follow their amount, edges soften and sharpen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kkanji_jax.augment.strokes import change_strokes


@pytest.fixture
def ink() -> jax.Array:
    """A ring of grey-edged strokes, well inside its frame."""
    rows, columns = np.mgrid[:40, :40] - 19.5
    distance = np.abs(np.hypot(rows, columns) - 10)
    return jnp.asarray(np.clip(255 * (3.5 - distance), 0, 255), jnp.uint8)


def changed(ink: jax.Array, width: int, edge: int) -> np.ndarray:
    return np.asarray(change_strokes(ink, jnp.int32(width), jnp.int32(edge))).astype(int)


def test_nothing_is_changed_by_nothing(ink: jax.Array) -> None:
    assert (changed(ink, 0, 0) == np.asarray(ink)).all()


def test_stroke_width_follows_its_amount(ink: jax.Array) -> None:
    masses = [changed(ink, amount, 0).sum() for amount in (-256, -128, -1, 0, 1, 128, 256)]
    assert masses == sorted(masses) and len(set(masses)) == 7


def test_the_frame_is_neither_ink_nor_paper() -> None:
    blank = jnp.zeros((8, 8), jnp.uint8)
    assert not changed(blank, -256, 0).any() and not changed(blank, 256, 256).any()
    assert (changed(blank + 255, -256, 0) == 255).all()


def test_a_full_edge_amount_is_the_binomial_blur(ink: jax.Array) -> None:
    weights = np.array([1, 4, 6, 4, 1]) / 16
    padded = np.pad(np.asarray(ink, float), 2)
    expected = sum(
        weights[i] * weights[j] * padded[i : i + 40, j : j + 40] for i in range(5) for j in range(5)
    )
    assert np.abs(changed(ink, 0, 256) - expected).max() <= 1


def test_edges_soften_and_sharpen_and_the_ink_stays(ink: jax.Array) -> None:
    def steepest(image: np.ndarray) -> int:
        return int(np.abs(np.diff(image, axis=1)).max())

    soft = changed(ink, 0, 256).astype(np.uint8)
    slopes = [steepest(changed(jnp.asarray(soft), 0, edge)) for edge in (256, 0, -256, -512)]
    assert slopes == sorted(slopes) and slopes[-1] > 1.5 * slopes[0]
    assert abs(changed(ink, 0, 256).sum() / float(np.asarray(ink, int).sum()) - 1) < 0.01
