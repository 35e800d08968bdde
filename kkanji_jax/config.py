"""The only schema of a run: every field and its default is born here."""

import hashlib
import json
from typing import Any

from ml_collections import ConfigDict, config_dict

from kkanji_jax.model.variants import get_variant

Config = Any  # a locked ml_collections.ConfigDict, whose fields no type checker can know

POLICY_NAMES = ("glyph_safe", "legacy", "none")
DTYPE_NAMES = ("float32", "bfloat16")
READINGS = ("resident", "streamed")
BEST_METRICS = ("val_accuracy", "val_macro_accuracy", "val_loss")


def default_config() -> Config:
    """Returns the locked default run: B0 at 64 px, square-root sampling, amsgrad with cosine decay.

    A field that may be unset is a placeholder, so that the command line can set it.
    """
    config: Any = ConfigDict()
    config.seed = 0  # addresses all randomness of the run
    config.init_from = config_dict.placeholder(str)  # folder of a run to take the weights from

    config.data = ConfigDict()
    config.data.dataset = "data/kuzushiji"  # folder written by data_tools.build
    config.data.reading = "resident"  # or "streamed", for what is larger than memory
    config.data.pool_examples = 65_536  # streamed: mixed at a time, 4 KB of memory each
    config.data.per_class = config_dict.placeholder(int)  # examples of each class per epoch
    config.data.sampling_exponent = 0.5  # class share ~ size**x: 1 natural, 0 equal
    # Unset: drawn like others. Else a class's photographed images are a class of their own to the
    # sampling, drawn this many times as often as one of that size.
    config.data.photograph_weight = config_dict.placeholder(float)
    config.data.fresh_copies = True  # new augmentations in every epoch
    config.data.allow_leaky_protocol = config_dict.placeholder(str)  # legacy: train on it anyway

    config.model = ConfigDict()
    config.model.variant = "b0"  # a row of kkanji_jax/model/variants.py
    config.model.image_px = 64  # side of the network's input
    config.model.stem_stride = 2  # 2 as in the paper, 1 keeps twice the resolution
    config.model.dropout = config_dict.placeholder(float)  # unset: the paper's, by variant
    config.model.drop_path = 0.2  # rate of the last block; grows linearly from 0
    config.model.norm_group = config_dict.placeholder(int)  # images that share batch statistics
    config.model.dtype = "float32"  # of activations; weights and statistics stay float32

    config.augment = ConfigDict()
    config.augment.policy = "glyph_safe"
    config.augment.mixup_alpha = 0.0  # images blended in pairs, by Beta(alpha, alpha); 0: none

    config.loss = ConfigDict()
    config.loss.label_smoothing = 0.1  # in [0, 1)

    config.optim = ConfigDict()
    config.optim.lr_peak = 1e-3  # Adam step size after warm-up
    config.optim.warmup_epochs = 1.0  # linear, from 0
    config.optim.lr_final_fraction = 0.01  # of lr_peak, reached at the last step
    config.optim.schedule = "cosine"  # or "constant"
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.eps = 1e-8
    config.optim.weight_decay = 0.0  # decoupled, on kernels only
    config.optim.grad_clip_norm = config_dict.placeholder(float)  # global norm

    config.ema_decay = 0.999  # of weights and batch statistics; 0 keeps no average
    config.batch_size = 1024  # images per step, over all devices
    config.microbatches = 1  # parts of a batch, one after another; each has its batch statistics
    config.epochs = 50.0  # passes over the balanced plan
    config.steps_per_dispatch = 1  # steps in one compiled call
    config.log_every_steps = 50
    config.tensorboard = False  # writes event files beside metrics.jsonl
    config.profile = 0  # steps to trace into workdir/profile, from the second dispatch on
    config.eval_every_steps = config_dict.placeholder(int)  # unset: once an epoch
    config.ckpt_every_steps = config_dict.placeholder(
        int
    )  # more often than evaluations, which save too
    config.max_checkpoints = 2  # latest ones kept, beside the best
    config.best_metric = "val_accuracy"  # what makes a checkpoint the best
    return config.lock()


def complete(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved config with the fields that were born since, at their defaults.

    So a new field's default must be what was done before there was one.
    """

    def overlay(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        nested = {
            key: overlay(default, values[key])
            for key, default in defaults.items()
            if isinstance(default, dict) and key in values
        }
        return defaults | values | nested

    return overlay(default_config().to_dict(), saved)


def paper_config(model_variant: str, run_variant: str) -> Config:
    """Returns the run of configs/`model_variant`.py that is named full or smoke.

    full: bfloat16, ten steps a dispatch, for GPUs. smoke: one epoch of small batches at 32 px.
    """
    config = default_config()
    config.model.variant = model_variant
    if run_variant == "full":
        config.model.dtype = "bfloat16"
        config.steps_per_dispatch = 10
        config.log_every_steps = 100
    elif run_variant == "smoke":
        config.model.image_px = 32
        config.batch_size = 16
        config.epochs = 1.0
        config.log_every_steps = 5
    else:
        raise ValueError(
            f"configs/{model_variant}.py has the variants full and smoke, got {run_variant!r}"
        )
    return config


def _require(condition: bool, wanted: str, got: object) -> None:
    if not condition:
        raise ValueError(f"config: {wanted}, got {got!r}")


def validate(config: Config) -> None:
    """Raises ValueError naming the first field that cannot be run."""
    model, optim, data = config.model, config.optim, config.data
    get_variant(model.variant)
    _require(model.dtype in DTYPE_NAMES, f"model.dtype must be one of {DTYPE_NAMES}", model.dtype)
    _require(model.stem_stride in (1, 2), "model.stem_stride must be 1 or 2", model.stem_stride)
    _require(8 <= model.image_px <= 64, "model.image_px must be in 8..64", model.image_px)
    _require(0 <= model.drop_path < 1, "model.drop_path must be in [0, 1)", model.drop_path)
    if model.norm_group is not None:
        _require(model.norm_group > 0, "model.norm_group must be at least 1", model.norm_group)
        _require(
            config.batch_size // config.microbatches % model.norm_group == 0,
            "model.norm_group must divide the images of a microbatch",
            model.norm_group,
        )
    if model.dropout is not None:
        _require(0 <= model.dropout < 1, "model.dropout must be in [0, 1)", model.dropout)
    policy = config.augment.policy
    _require(policy in POLICY_NAMES, f"augment.policy must be one of {POLICY_NAMES}", policy)
    alpha = config.augment.mixup_alpha
    _require(alpha >= 0, "augment.mixup_alpha must be >= 0", alpha)
    if alpha:
        size = config.batch_size
        _require(
            size % (2 * config.microbatches) == 0,
            "with mixup, batch_size must divide into microbatches of pairs",
            size,
        )
    smoothing = config.loss.label_smoothing
    _require(0 <= smoothing < 1, "loss.label_smoothing must be in [0, 1)", smoothing)
    _require(data.reading in READINGS, f"data.reading must be one of {READINGS}", data.reading)
    _require(data.pool_examples > 0, "data.pool_examples must be positive", data.pool_examples)
    if data.per_class is not None:
        _require(data.per_class > 0, "data.per_class must be positive", data.per_class)
    leaky = data.allow_leaky_protocol
    _require(leaky in (None, "legacy"), "data.allow_leaky_protocol must be legacy or unset", leaky)
    weight = data.photograph_weight
    if weight is not None:
        _require(weight > 0, "data.photograph_weight must be positive", weight)
        _require(data.per_class is None, "data.photograph_weight goes without data.per_class",
                 data.per_class)  # fmt: skip
    exponent = data.sampling_exponent
    _require(0 <= exponent <= 1, "data.sampling_exponent must be in [0, 1]", exponent)
    _require(
        optim.schedule in ("cosine", "constant"),
        "optim.schedule must be cosine or constant",
        optim.schedule,
    )
    _require(optim.lr_peak > 0, "optim.lr_peak must be positive", optim.lr_peak)
    _require(optim.warmup_epochs >= 0, "optim.warmup_epochs must be >= 0", optim.warmup_epochs)
    fraction = optim.lr_final_fraction
    _require(0 <= fraction <= 1, "optim.lr_final_fraction must be in [0, 1]", fraction)
    _require(0 <= config.ema_decay < 1, "ema_decay must be in [0, 1)", config.ema_decay)
    _require(
        config.best_metric in BEST_METRICS,
        f"best_metric must be one of {BEST_METRICS}",
        config.best_metric,
    )
    # With one, a kill during a save could leave none.
    _require(
        config.max_checkpoints >= 2, "max_checkpoints must be 2 or more", config.max_checkpoints
    )
    for name in ("batch_size", "microbatches", "epochs", "steps_per_dispatch", "log_every_steps"):
        _require(config[name] > 0, f"{name} must be positive", config[name])
    for name in ("eval_every_steps", "ckpt_every_steps"):
        if config[name] is not None:
            _require(config[name] > 0, f"{name} must be positive", config[name])


def fingerprint(config: dict[str, Any]) -> str:
    """SHA-256 of a resolved config as plain data: equal runs have equal fingerprints."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """One line `field: old -> new` for every field in which two resolved configs differ."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return lines
