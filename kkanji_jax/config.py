"""The schema of a run's config: every field, its type, default, range and meaning, in one table."""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kkanji_jax.model.variants import VARIANTS
from kkanji_jax.random_streams import MAX_SEED

Config = Any  # a locked ml_collections.ConfigDict, whose fields no type checker can know

POLICY_NAMES = ("glyph_safe", "legacy", "none")
MAX_COUNT = 2**31 - 1  # steps and images are counted in int32 on the device


class Field(NamedTuple):
    """One field: its type, default and range; `also` lists permitted values outside the range.

    `default` None: the field may be unset, and is by default. The range includes its bounds.
    Strings have `choices`, or may be any text that is not empty.
    """

    kind: type
    default: Any
    help: str
    low: float = -math.inf
    high: float = math.inf
    also: tuple[float, ...] = ()
    choices: tuple[Any, ...] = ()
    may_be_unset: bool = False

    @property
    def range(self) -> str:
        """The range in words, such as `0 or 0.01 to 10`; empty if any value is allowed."""
        if self.kind is bool:
            return "True or False"
        if self.choices:
            return _either(list(map(str, self.choices)))
        if self.kind is str:
            return ""
        words = [f"{value:g}" for value in self.also]
        low, high = (f"{bound:,}" if self.kind is int else f"{bound:g}" for bound in self.bounds)
        return _either([*words, f"{low} to {high}"])

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The least and the largest value, of the field's type."""
        return self.kind(self.low), self.kind(self.high)

    def problem_of(self, value: Any) -> str | None:
        """What is wrong with a value, as `must be ..., not ...`; None if nothing is."""
        if value is None:
            return None if self.may_be_unset else "must be set"
        shown = " ".join(repr(value).split())[:80]
        if self.kind is float and type(value) is int:
            value = float(value) if abs(value) <= 2**53 else math.inf
        if type(value) is not self.kind:
            expected = {
                int: "a whole number",
                float: "a number",
                str: "text",
                bool: "True or False",
            }
            return f"must be {expected[self.kind]}, not {shown}"
        if self.choices:
            is_good = value in self.choices
        elif self.kind is str:
            return None if value.strip() else "must not be empty"
        else:  # comparisons with NaN are False
            is_good = self.kind is bool or value in self.also or self.low <= value <= self.high
        return None if is_good else f"must be {self.range}, not {shown}"


def _either(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# What float32 cannot tell from 1, or from 0, is outside the ranges: it divides by zero.
FIELDS: dict[str, Field] = {
    "seed": Field(int, 0, "seed of everything random in the run", 0, MAX_SEED),
    "init_from": Field(
        str, None, "run or bundle with whose weights training begins", may_be_unset=True
    ),
    "data.dataset": Field(str, "data/kuzushiji", "folder written by data_tools.build"),
    "data.reading": Field(
        str,
        "resident",
        "images in memory; or streamed, for what is larger than memory",
        choices=("resident", "streamed"),
    ),
    "data.pool_examples": Field(
        int, 65_536, "streamed: images shuffled at a time, 4 KB of memory each", 1, 2**27
    ),
    "data.per_class": Field(
        int, None, "images of each class in an epoch", 1, 10**7, may_be_unset=True
    ),
    "data.sampling_exponent": Field(
        float, 0.5, "a class's share is its size to this power: 1 natural, 0 equal", 0, 1
    ),
    "data.photograph_weight": Field(
        float,
        None,
        "weight of photographed images, sampled as classes of their own; unset: like the others",
        0.01,
        1000,
        may_be_unset=True,
    ),
    "data.fresh_copies": Field(
        bool, True, "new images and augmentations in every epoch; False: each repeats the first"
    ),
    "data.allow_leaky_protocol": Field(
        str,
        None,
        "train on a dataset of this leaky protocol",
        choices=("legacy",),
        may_be_unset=True,
    ),
    "model.variant": Field(str, "b0", "which EfficientNet", choices=tuple(VARIANTS)),
    "model.image_px": Field(int, 64, "side of the network's input, in pixels", 8, 64),
    "model.stem_stride": Field(
        int, 2, "2 as in the paper; 1 keeps twice the resolution", choices=(1, 2)
    ),
    "model.last_stride": Field(
        int, 2, "2 as in the paper; 1 keeps it in the last two stages", choices=(1, 2)
    ),
    "model.dropout": Field(
        float,
        None,
        "dropout rate before the classifier; unset: the paper's",
        0,
        0.9,
        may_be_unset=True,
    ),
    "model.drop_path": Field(
        float, 0.2, "drop-path rate of the last block; grows linearly from 0", 0, 0.9
    ),
    "model.norm_group": Field(
        int, None, "images that share batch statistics; unset: all", 1, 2**24, may_be_unset=True
    ),
    "model.dtype": Field(
        str,
        "float32",
        "type of activations; weights and statistics stay float32",
        choices=("float32", "bfloat16"),
    ),
    "augment.policy": Field(str, "glyph_safe", "how images are varied", choices=POLICY_NAMES),
    "augment.mixup_alpha": Field(
        float, 0.0, "images blended in pairs, by Beta(alpha, alpha); 0: none", 0.01, 100, (0,)
    ),
    "loss.label_smoothing": Field(float, 0.1, "share of the label spread over all classes", 0, 0.9),
    "optim.lr_peak": Field(float, 1e-3, "Adam's step size after warm-up", 1e-12, 1),
    "optim.warmup_epochs": Field(
        float,
        1.0,
        "epochs of linear growth from 0; if the run is not longer, a tenth of it",
        0,
        100_000,
    ),
    "optim.lr_final_fraction": Field(
        float, 0.01, "share of lr_peak that is reached at the last step", 0, 1
    ),
    "optim.schedule": Field(
        str, "cosine", "the step size after warm-up", choices=("cosine", "constant")
    ),
    "optim.b1": Field(float, 0.9, "decay per step of the mean of the gradients", 0, 0.9999),
    "optim.b2": Field(float, 0.999, "decay per step of the mean of their squares", 0, 0.999999),
    "optim.eps": Field(float, 1e-8, "added to the square root of that mean", 1e-16, 1),
    "optim.weight_decay": Field(
        float, 0.0, "decoupled, on kernels only, times the step size", 0, 100
    ),
    "optim.grad_clip_norm": Field(
        float,
        None,
        "largest global norm of the gradients; unset: no limit",
        1e-6,
        1e6,
        may_be_unset=True,
    ),
    "ema_decay": Field(
        float,
        0.999,
        "decay per step of the average of weights and statistics; 0: none",
        0,
        0.999999,
    ),
    "batch_size": Field(int, 1024, "images per step, on all devices together", 1, 2**24),
    "microbatches": Field(
        int, 1, "parts of a batch, one after another, each with its own batch statistics", 1, 2**24
    ),
    "epochs": Field(float, 50.0, "passes over the training plan", 1e-6, 100_000),
    "steps_per_dispatch": Field(int, 1, "steps in one compiled call", 1, 100_000),
    "log_every_steps": Field(int, 50, "steps between lines of the log", 1, MAX_COUNT),
    "tensorboard": Field(bool, False, "writes event files beside metrics.jsonl"),
    "profile": Field(
        int, 0, "steps traced into WORKDIR/profile, from the second dispatch on", 0, 100_000
    ),
    "eval_every_steps": Field(
        int, None, "steps between evaluations; unset: one epoch", 1, MAX_COUNT, may_be_unset=True
    ),
    "ckpt_every_steps": Field(
        int,
        None,
        "steps between checkpoints; evaluations save as well",
        1,
        MAX_COUNT,
        may_be_unset=True,
    ),
    # With one, a kill during a save could leave none.
    "max_checkpoints": Field(int, 2, "latest ones kept, beside the best", 2, 10_000),
    "best_metric": Field(
        str,
        "val_accuracy",
        "what makes a checkpoint the best",
        choices=("val_accuracy", "val_macro_accuracy", "val_loss"),
    ),
}


def default_config() -> Config:
    """Returns the locked default run: B0 at 64 px, square-root sampling, amsgrad with cosine decay.

    A field that may be unset is a placeholder, so that the command line can set it.
    """
    from ml_collections import ConfigDict, config_dict  # here: a saved config is read without it

    config: Any = ConfigDict()
    for path, field in FIELDS.items():
        group, _, name = path.rpartition(".")
        if group and group not in config:
            config[group] = ConfigDict()
        place = config[group] if group else config
        is_unset = field.default is None
        place[name] = config_dict.placeholder(field.kind) if is_unset else field.default
    return config.lock()


def complete(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved config with all fields that were added since, at their defaults.

    The default of a new field must therefore be the earlier behaviour.
    """
    whole = copy.deepcopy(saved)
    for path, field in FIELDS.items():
        group, _, name = path.rpartition(".")
        place = whole.setdefault(group, {}) if group else whole
        place.setdefault(name, field.default)
    return whole


def paper_config(model_variant: str, run_variant: str) -> Config:
    """The run of configs/`model_variant`.py that is named full or smoke.

    full: bfloat16, ten steps per dispatch, for GPUs. smoke: one epoch of small batches at 32 px.
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


def value_of(config: Config | Mapping[str, Any], path: str) -> Any:
    """The value of the field `path`, such as `optim.lr_peak`."""
    for name in path.split("."):
        config = config[name]
    return config


# What fields must be together, once each is in its range: (what is expected, which field, whether).
_TOGETHER: tuple[tuple[str, str, Callable[[Config], bool]], ...] = (
    (
        "batch_size must divide by microbatches, got a batch_size of",
        "batch_size",
        lambda config: config.batch_size % config.microbatches == 0,
    ),
    (
        "model.norm_group must divide the images of a microbatch, got",
        "model.norm_group",
        lambda config: (
            not config.model.norm_group
            or config.batch_size // config.microbatches % config.model.norm_group == 0
        ),
    ),
    (
        "with mixup, batch_size must divide into microbatches of pairs, got",
        "batch_size",
        lambda config: (
            not config.augment.mixup_alpha or config.batch_size % (2 * config.microbatches) == 0
        ),
    ),
    (
        "data.photograph_weight goes without data.per_class, got",
        "data.per_class",
        lambda config: config.data.photograph_weight is None or config.data.per_class is None,
    ),
    (
        "optim.weight_decay times optim.lr_peak must be less than 1, or a step takes more than "
        "the weights, got",
        "optim.weight_decay",
        lambda config: config.optim.weight_decay * config.optim.lr_peak < 1,
    ),
)


def validate(config: Config) -> None:
    """ValueError that names the first field whose value is invalid or would ruin the run."""
    for path, field in FIELDS.items():
        if (problem := field.problem_of(value_of(config, path))) is not None:
            raise ValueError(f"config: {path} {problem}")
    for expected, path, holds in _TOGETHER:
        if not holds(config):
            raise ValueError(f"config: {expected} {value_of(config, path)!r}")


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
