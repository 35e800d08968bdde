"""The optimizer is PyTorch's amsgrad, and the schedule is what the config says."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kkanji_jax.training.optim import amsgrad, learning_rate_schedule, make_optimizer

GOLDEN = Path(__file__).parents[2] / "golden" / "torch_amsgrad.npz"


def run(transform: optax.GradientTransformation, golden: dict[str, np.ndarray]) -> np.ndarray:
    params = jnp.asarray(golden["start"])
    state = transform.init(params)
    trail: list[Any] = []
    for gradient in golden["gradients"]:
        updates, state = transform.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        trail.append(params)
    return np.stack(trail)


@pytest.fixture
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def test_amsgrad_takes_the_steps_that_pytorch_took(golden: dict[str, np.ndarray]) -> None:
    lr = float(golden["lr"])
    ours = run(optax.chain(amsgrad(0.9, 0.99, 1e-8), optax.scale(-lr)), golden)
    # 40 float32 steps of about 0.05: rounding stays below 1e-5 of a parameter of size 1.
    np.testing.assert_allclose(ours, golden["parameters"], rtol=1e-5, atol=2e-6)


def test_the_recorded_steps_tell_optax_amsgrad_from_pytorch(golden: dict[str, np.ndarray]) -> None:
    theirs = run(optax.amsgrad(float(golden["lr"]), b1=0.9, b2=0.99, eps=1e-8), golden)
    assert np.abs(theirs - golden["parameters"]).max() > 1e-2


def test_warm_up_rises_to_the_peak_and_cosine_falls_to_the_fraction() -> None:
    schedule = learning_rate_schedule("cosine", 1.0, 10, 110, 0.1)
    values = np.array([float(np.asarray(schedule(step))) for step in range(111)])
    assert values[0] == pytest.approx(0.1)  # no step is wasted at zero
    assert values[10] == pytest.approx(1.0)
    assert values[60] == pytest.approx(0.55)
    assert values[110] == pytest.approx(0.1)
    assert (np.diff(values[:11]) > 0).all() and (np.diff(values[10:]) < 0).all()


def test_a_warm_up_longer_than_the_run_is_cut() -> None:
    schedule = learning_rate_schedule("constant", 1.0, 500, 20, 0.0)
    assert float(np.asarray(schedule(19))) == pytest.approx(1.0)


def test_weight_decay_leaves_biases_and_norms_alone() -> None:
    params: Any = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    optimizer = make_optimizer(
        optax.constant_schedule(0.1),
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        weight_decay=0.5,
        grad_clip_norm=None,
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates: Any
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05)
    np.testing.assert_array_equal(updates["bias"], 0.0)
