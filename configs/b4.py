"""EfficientNet-B4 at 64 px.

full   python -m kkanji_jax.train --config configs/b4.py
       All classes, one GPU or more. Not run yet: no time or score to state.
smoke  python -m kkanji_jax.train --config configs/b4.py:smoke
       One epoch of small batches at 32 px: does everything work? Scores mean nothing.
"""

from kkanji_jax.config import Config, default_config


def get_config(variant: str = "full") -> Config:
    """Returns the run that `variant` (full or smoke) names."""
    config = default_config()
    config.model.variant = "b4"
    if variant == "smoke":
        config.model.image_px = 32
        config.batch_size = 16
        config.epochs = 1.0
        config.log_every_steps = 5
    elif variant == "full":
        config.model.dtype = "bfloat16"
        config.steps_per_dispatch = 10
        config.log_every_steps = 100
    else:
        raise ValueError(f"configs/b4.py has variants full and smoke, got {variant!r}")
    return config
