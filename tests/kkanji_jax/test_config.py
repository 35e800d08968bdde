"""A mistake in a config is refused before anything runs."""

import importlib

import pytest

from configs import b0
from kkanji_jax import config as config_lib
from kkanji_jax.augment.policy import POLICIES


def test_a_typo_in_a_field_fails_with_a_suggestion() -> None:
    config = config_lib.default_config()
    with pytest.raises(AttributeError, match="batch_size"):
        config.batchsize = 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.variant", "b9", "b0"),
        ("model.stem_stride", 3, "stem_stride"),
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
