"""One change at a time, on 300 classes of every size.

`scripts/experiments/ablations.py` runs each twice.

base             python -m kkanji_jax.train --config configs/ablation.py:base
                 What the others differ from: the default recipe, twelve short epochs on a CPU.
natural, equal   classes as often as they have images; all alike (base: by the square root)
sharp_labels     no label smoothing
mixup            images blended in pairs
stride_1         a stem that keeps the resolution: 3.9 times the arithmetic
stride_1_48px    the same at 48 px, as the released model: twice the arithmetic
last_stride_1    the last two stages keep it: twice the arithmetic
weight_decay     0.05, on kernels
stride_1_decay, last_stride_1_decay   both at once
first_48px, then_64px   eight epochs at 48 px, and from their weights six at 64 px: as much
                 arithmetic as the base
no_augmentation  the images as they are
bfloat16         activations in half precision
"""

from kkanji_jax.config import Config, default_config

CHANGES = {
    "base": {},
    "natural": {"data.sampling_exponent": 1.0},
    "equal": {"data.sampling_exponent": 0.0},
    "sharp_labels": {"loss.label_smoothing": 0.0},
    "mixup": {"augment.mixup_alpha": 0.2},
    "stride_1": {"model.stem_stride": 1},
    "stride_1_48px": {"model.image_px": 48, "model.stem_stride": 1},
    "last_stride_1": {"model.last_stride": 1},
    "weight_decay": {"optim.weight_decay": 0.05},
    "stride_1_decay": {"model.stem_stride": 1, "optim.weight_decay": 0.05},
    "last_stride_1_decay": {"model.last_stride": 1, "optim.weight_decay": 0.05},
    "first_48px": {"epochs": 8.0, "model.image_px": 48},
    "then_64px": {"epochs": 6.0},
    "no_augmentation": {"augment.policy": "none"},
    "bfloat16": {"model.dtype": "bfloat16"},
}
STARTS_FROM = {"then_64px": "first_48px"}  # the weights of which row


def get_config(variant: str = "base") -> Config:
    """Returns the run that `variant`, a key of CHANGES, names."""
    if variant not in CHANGES:
        raise ValueError(f"configs/ablation.py has {', '.join(CHANGES)}, got {variant!r}")
    config = default_config()
    config.data.dataset = "data/ablation"
    config.batch_size = 32
    config.epochs = 12.0
    config.ema_decay = 0.998
    config.optim.lr_peak = 2e-3
    config.model.drop_path = 0.0
    config.log_every_steps = 20
    config.steps_per_dispatch = 4
    for field, value in CHANGES[variant].items():
        config.update_from_flattened_dict({field: value})
    return config
