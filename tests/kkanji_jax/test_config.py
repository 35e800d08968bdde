"""A mistake in a config is refused before anything runs, and what is accepted can be run."""

import importlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import b0
from kkanji_jax import config as config_lib
from kkanji_jax.augment.policy import POLICIES
from kkanji_jax.config import FIELDS, Config, Field
from kkanji_jax.data.balance import mix_address
from kkanji_jax.training.optim import learning_rate_schedule, make_optimizer
from kkanji_jax.training.schedule import Pace


def test_a_typo_in_a_field_fails_with_a_suggestion() -> None:
    config = config_lib.default_config()
    with pytest.raises(AttributeError, match="batch_size"):
        config.batchsize = 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.variant", "b9", "b0"),
        ("model.stem_stride", 3, "stem_stride"),
        ("model.last_stride", 0, "last_stride"),
        ("model.dtype", "float16", "dtype"),
        ("augment.policy", "wild", "glyph_safe"),
        ("loss.label_smoothing", 1.0, "label_smoothing"),
        ("augment.mixup_alpha", -0.1, "mixup_alpha"),
        ("data.sampling_exponent", 2.0, "sampling_exponent"),
        ("optim.lr_peak", 0.0, "lr_peak"),
        ("optim.b1", 1.0, "b1"),
        ("optim.b2", -0.1, "b2"),
        ("optim.eps", 0.0, "eps"),
        ("optim.weight_decay", -1e-4, "weight_decay"),
        ("optim.grad_clip_norm", 0.0, "grad_clip_norm"),
        ("seed", -1, "seed"),
        ("seed", 2**32, "seed"),
        ("profile", -1, "profile"),
        ("batch_size", 0, "batch_size"),
        ("max_checkpoints", 1, "max_checkpoints"),
        ("best_metric", "val_f1", "best_metric"),
        ("optim.grad_clip_norm", 0.0, "optim.grad_clip_norm must be 1e-06 to 1e\\+06, not 0.0"),
        ("optim.grad_clip_norm", -1.0, "optim.grad_clip_norm"),
        ("optim.weight_decay", -5.0, "optim.weight_decay must be 0 to 100, not -5.0"),
        ("optim.b1", 1.5, "optim.b1 must be 0 to 0.9999, not 1.5"),
        ("optim.b2", 0.99999999, "optim.b2"),
        ("epochs", math.inf, "epochs must be 1e-06 to 100000, not inf"),
        ("epochs", 1e30, "epochs"),
        ("optim.warmup_epochs", math.inf, "optim.warmup_epochs"),
        ("seed", 10**20, "seed must be 0 to 4,294,967,295, not 100000000000000000000"),
        ("profile", -1, "profile"),
        ("data.dataset", " ", "data.dataset must not be empty"),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: object, message: str) -> None:
    config = config_lib.default_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        config_lib.validate(config)


@pytest.mark.parametrize("variant", ["full", "cpu", "open_set", "smoke"])
def test_every_variant_of_b0_is_valid(variant: str) -> None:
    config_lib.validate(b0.get_config(variant))


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="full, cpu"):
        b0.get_config("laptop")


@pytest.mark.parametrize("name", [f"b{size}" for size in range(1, 8)])
def test_every_size_has_its_config_file(name: str) -> None:
    get_config = importlib.import_module(f"configs.{name}").get_config
    for variant in ("full", "smoke"):
        config = get_config(variant)
        config_lib.validate(config)
        assert config.model.variant == name
    with pytest.raises(ValueError, match=f"configs/{name}.py has the variants full and smoke"):
        get_config("cpu")


def test_the_config_knows_every_policy() -> None:
    assert set(config_lib.POLICY_NAMES) == set(POLICIES)


def test_differences_name_the_field_and_both_values() -> None:
    old = config_lib.default_config()
    new = config_lib.default_config()
    new.optim.lr_peak = 0.5
    assert config_lib.differences(old.to_dict(), new.to_dict()) == ["optim.lr_peak: 0.001 -> 0.5"]
    assert config_lib.fingerprint(old.to_dict()) != config_lib.fingerprint(new.to_dict())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"microbatches": 0, "model.norm_group": 4}, "microbatches must be 1 to"),
        ({"microbatches": 0, "augment.mixup_alpha": 0.3}, "microbatches must be 1 to"),
        ({"microbatches": 3}, "batch_size must divide by microbatches, got a batch_size of 1024"),
        ({"model.norm_group": 3}, "model.norm_group must divide the images of a microbatch, got 3"),
        ({"microbatches": 1024, "augment.mixup_alpha": 0.3}, "microbatches of pairs, got 1024"),
        ({"optim.weight_decay": 10.0, "optim.lr_peak": 0.1}, "weight_decay times optim.lr_peak"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(values: dict[str, Any], message: str) -> None:
    config = config_lib.default_config()
    config.update_from_flattened_dict(values)
    with pytest.raises(ValueError, match=f"^config: .*{message}"):
        config_lib.validate(config)


# --- every field, at its extremes --------------------------------------------------------------

WILD: list[Any] = [
    None,
    True,
    False,
    "",
    "x",
    0,
    1,
    -1,
    2,
    10**20,
    -(10**20),
    0.0,
    -0.0,
    1.0,
    1.5,
    -5.0,
    math.nan,
    math.inf,
    -math.inf,
    1e30,
    1e-300,
    5e-324,
    math.nextafter(1, 0),
    [],
    (),
    {},
]


def around(field: Field) -> list[Any]:
    """A field's extremes and what lies just beyond them; its choices and others; anything."""
    values = [*WILD, field.default, *field.choices, *field.also]
    if field.kind is int and not field.choices:
        low, high = field.bounds
        values += [low - 1, low, low + 1, high - 1, high, high + 1]
    if field.kind is float:
        low, high = field.bounds
        values += [math.nextafter(low, -math.inf), low, math.nextafter(low, math.inf)]
        values += [math.nextafter(high, -math.inf), high, math.nextafter(high, math.inf)]
    return values


def config_with(path: str, value: Any) -> Config:
    """The default run with one field changed, whatever its type; neighbours made to fit."""
    config = config_lib.default_config().unlock()
    with config.ignore_type():
        group, _, name = path.rpartition(".")
        (config[group] if group else config)[name] = value
        if path == "microbatches" and type(value) is int:
            config.batch_size = min(max(value, 1), 2**24)
        if path == "batch_size":
            config.microbatches = 1
        if path == "model.norm_group" and isinstance(value, int) and 0 < value <= 2**24:
            config.batch_size = value
        if path == "optim.lr_peak":
            config.optim.weight_decay = 0.0
    return config.lock()


def assert_runs(config: Config) -> None:
    """What a run computes of its config is finite, and its gradients move the weights."""
    optim = config.optim
    try:
        pace = Pace.of(
            100_000,
            batch_size=config.batch_size,
            epochs=config.epochs,
            per_dispatch=config.steps_per_dispatch,
            log_every=config.log_every_steps,
            eval_every=config.eval_every_steps,
            ckpt_every=config.ckpt_every_steps,
        )
    except ValueError as err:
        assert "give fewer epochs" in str(err) and "\n" not in str(err)
        return
    assert pace.is_due(pace.total_steps, pace.log_every)
    schedule = learning_rate_schedule(
        optim.schedule,
        optim.lr_peak,
        round(optim.warmup_epochs * pace.steps_per_epoch),
        pace.total_steps,
        optim.lr_final_fraction,
    )
    steps = jnp.array([0, 1, pace.total_steps // 2, pace.total_steps - 1])
    rates = np.asarray(jax.vmap(schedule)(steps))
    assert np.isfinite(rates).all() and (rates >= 0).all() and rates.max() <= 1.0
    optimizer = make_optimizer(
        lambda _: 1e-3,
        b1=optim.b1,
        b2=optim.b2,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        grad_clip_norm=optim.grad_clip_norm,
    )
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    first, state = params, optimizer.init(params)
    for _ in range(3):
        grads = jax.tree.map(lambda leaf: 100.0 * leaf, params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    for before, after in zip(jax.tree.leaves(first), jax.tree.leaves(params), strict=True):
        assert bool(jnp.isfinite(after).all())
        assert bool((after < before).all()), "downhill: the gradients point up"
    assert np.float32(config.ema_decay) < 1 and np.float32(1 - config.model.drop_path) > 0
    key = jax.random.key(config.seed)
    assert bool(jnp.isfinite(jax.random.normal(key, ())))
    mix_address(config.seed, np.zeros((1, 2), np.uint32), np.zeros(1, np.int32))
    if config.augment.mixup_alpha:
        share = jax.random.beta(key, config.augment.mixup_alpha, config.augment.mixup_alpha)
        assert 0 <= float(share) <= 1


def is_in_range(field: Field, value: Any) -> bool:
    """The range said again, by other words than the table's code."""
    if value is None:
        return field.may_be_unset
    if field.kind is bool:
        return value is True or value is False
    if isinstance(value, bool) or not isinstance(value, (field.kind, int)):
        return False
    if field.kind is not float and not isinstance(value, field.kind):
        return False
    if field.choices:
        return value in field.choices
    if field.kind is str:
        return bool(value.strip())
    return not (value < field.low or value > field.high or value != value) or value in field.also


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_at_its_extremes_is_refused_by_name_or_can_be_run(path: str) -> None:
    field = FIELDS[path]
    for value in around(field):
        config = config_with(path, value)
        held = config_lib.value_of(config, path)  # a ConfigDict makes 1.0 of True
        if is_in_range(field, held):
            config_lib.validate(config)
            assert_runs(config)
        else:
            with pytest.raises(ValueError, match=f"^config: {path} must ") as refused:
                config_lib.validate(config)
            assert "\n" not in str(refused.value)


@given(st.data())
def test_any_value_of_any_field_is_refused_by_name_or_in_its_range(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(FIELDS)))
    value = data.draw(st.none() | st.booleans() | st.integers() | st.floats() | st.text())
    problem = FIELDS[path].problem_of(value)
    assert (problem is None) is is_in_range(FIELDS[path], value)


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_has_a_default_in_its_range_a_meaning_and_a_range(path: str) -> None:
    field = FIELDS[path]
    assert is_in_range(field, field.default)
    assert field.help and (field.range or field.kind is str)
    if field.kind is int and not field.choices:
        assert math.isfinite(field.low) and math.isfinite(field.high), "counts have bounds"


def test_the_table_is_the_schema() -> None:
    config = config_lib.default_config()
    flat: dict[str, Any] = {}
    for key, value in config.to_dict().items():
        nested = value.items() if isinstance(value, dict) else [(None, value)]
        flat |= {key if name is None else f"{key}.{name}": each for name, each in nested}
    assert flat == {path: field.default for path, field in FIELDS.items()}
