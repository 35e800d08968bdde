"""The state before the first step, and averages that forget what they began with."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kkanji_jax.config import default_config
from kkanji_jax.model.network import init_variables
from kkanji_jax.training.optim import make_optimizer
from kkanji_jax.training.state import (
    abstract_state,
    create_state,
    moving_average,
    ramped_decay,
)

MODEL = default_config().model.to_dict() | {"variant": "nano"}


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.1), (8, 0.5), (80, 0.9), (889, 890 / 899), (891, 0.99), (10**6, 0.99)]
)
def test_an_average_keeps_a_tenth_of_itself_first_and_all_but_its_rate_later(
    step: int, share: float
) -> None:
    assert float(ramped_decay(0.99, jnp.int32(step))) == pytest.approx(share, rel=1e-6)


def test_the_ramp_only_rises_and_a_decay_of_zero_keeps_nothing() -> None:
    shares = [float(ramped_decay(0.999, jnp.int32(step))) for step in range(0, 20_000, 500)]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(0.999)
    assert float(ramped_decay(0.0, jnp.int32(50))) == 0


def test_an_average_goes_towards_the_value_by_what_it_does_not_keep() -> None:
    average, value = {"a": jnp.asarray([1.0, 8.0])}, {"a": jnp.asarray([3.0, 0.0])}
    # Step 8 keeps half: (1 + 3) / 2 and (8 + 0) / 2. Step 80 of 0.6 keeps 0.6.
    np.testing.assert_allclose(moving_average(average, value, 0.99, jnp.int32(8))["a"], [2, 4])
    found = moving_average(average, value, 0.6, jnp.int32(80))["a"]
    np.testing.assert_allclose(found, [1.8, 4.8], rtol=1e-6)


def test_after_fifty_steps_nothing_is_left_of_the_first_value() -> None:
    average = {"a": jnp.asarray(1e6)}
    for step in range(50):
        average = moving_average(average, {"a": jnp.asarray(2.0)}, 0.999, jnp.int32(step))
    assert float(average["a"]) == pytest.approx(2.0, rel=1e-3)


def test_a_fresh_state_is_that_of_its_seed_with_the_average_at_the_weights() -> None:
    state = create_state(MODEL, 5, optax.adam(1e-3), seed=3)
    params, batch_stats = init_variables(MODEL, 5, 3)
    for tree, expected in (
        (state.params, params),
        (state.ema_params, params),
        (state.batch_stats, batch_stats),
        (state.ema_batch_stats, batch_stats),
    ):
        jax.tree.map(np.testing.assert_array_equal, tree, expected)
    assert state.step == 0 and state.step.dtype == np.int32
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(state))
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.opt_state))


@pytest.mark.parametrize("weight_decay", [0.0, 1e-4])
@pytest.mark.parametrize("grad_clip_norm", [None, 1.0])
def test_the_optimizer_starts_as_optax_would_start_it(
    weight_decay: float, grad_clip_norm: float | None
) -> None:
    optimizer = make_optimizer(
        optax.linear_schedule(1e-3, 0.0, 10),
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        weight_decay=weight_decay,
        grad_clip_norm=grad_clip_norm,
    )
    state = create_state(MODEL, 5, optimizer, seed=3)
    expected = jax.jit(optimizer.init)(state.params)
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, expected)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    abstract = abstract_state(MODEL, 5, optimizer)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract)
    assert shapes.opt_state == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), expected)
