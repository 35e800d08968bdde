"""Cross-entropy and its gradient against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kkanji_jax.model.losses import example_losses

NUM_ROWS, NUM_CLASSES = 6, 5


def numpy_losses(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> np.ndarray:
    exact = logits.astype(np.float64)
    log_probs = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    targets = (1 - smoothing) * np.eye(exact.shape[1])[labels] + smoothing / exact.shape[1]
    return -(targets * log_probs).sum(axis=1)


@pytest.fixture
def batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    logits = (3 * rng.normal(size=(NUM_ROWS, NUM_CLASSES))).astype(np.float32)
    return logits, rng.integers(0, NUM_CLASSES, NUM_ROWS).astype(np.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_the_formula(batch, smoothing: float) -> None:
    logits, labels = batch
    ours = example_losses(jnp.asarray(logits), jnp.asarray(labels), smoothing)
    # float32 against float64, on values of about 10.
    np.testing.assert_allclose(ours, numpy_losses(logits, labels, smoothing), rtol=1e-5, atol=1e-6)


def test_bfloat16_logits_are_summed_in_float32(batch) -> None:
    logits, labels = batch
    rounded = jnp.asarray(logits, jnp.bfloat16)
    ours = example_losses(rounded, jnp.asarray(labels))
    assert ours.dtype == jnp.float32
    exact = numpy_losses(np.asarray(rounded, np.float32), labels, 0.0)
    np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_the_formula(batch) -> None:
    logits, labels = batch
    gradient = jax.grad(lambda x: jnp.mean(example_losses(x, jnp.asarray(labels), 0.1)))(
        jnp.asarray(logits)
    )
    exact = logits.astype(np.float64)
    probs = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    targets = 0.9 * np.eye(NUM_CLASSES)[labels] + 0.1 / NUM_CLASSES
    np.testing.assert_allclose(gradient, (probs - targets) / NUM_ROWS, atol=1e-6)


@pytest.mark.parametrize("label", [-1, NUM_CLASSES])
def test_a_label_that_is_no_class_is_never_a_silent_number(batch, label: int) -> None:
    logits, labels = batch
    losses = np.asarray(example_losses(jnp.asarray(logits), jnp.asarray(labels).at[2].set(label)))
    assert np.flatnonzero(np.isnan(losses)).tolist() == [2]


@settings(max_examples=20)  # each runs a handful of programs
@given(shift=st.floats(-1e3, 1e3, width=32), smoothing=st.sampled_from([0.0, 0.1]))
def test_adding_a_constant_to_all_logits_changes_nothing(shift: float, smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(3, NUM_CLASSES)), jnp.float32)
    labels = jnp.arange(3, dtype=jnp.int32)
    shifted = example_losses(logits + jnp.float32(shift), labels, smoothing)
    # logits + 1000 are themselves rounded by up to 3e-5.
    np.testing.assert_allclose(shifted, example_losses(logits, labels, smoothing), atol=2e-4)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_outside_its_range_is_refused(batch, smoothing: float) -> None:
    logits, labels = (jnp.asarray(array) for array in batch)
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\), not"):
        example_losses(logits, labels, smoothing)
