"""The PyTorch repository's recipe, for comparison: what it did, on our network and our splits.

full   python -m kkanji_jax.train --config configs/legacy.py
       10,000 images a class, the same ones in every epoch, batch 50,000, Adam(amsgrad) at a
       constant 1e-3, 50 epochs. It was run on 8 H100s; here it has not been run.
"""

from kkanji_jax.config import Config, default_config


def get_config(variant: str = "full") -> Config:
    """Returns the run that `variant` (only full) names."""
    if variant != "full":
        raise ValueError(f"configs/legacy.py has the variant full only, got {variant!r}")
    config = default_config()
    config.data.per_class = 10_000
    config.data.fresh_copies = False
    config.augment.policy = "legacy"
    config.loss.label_smoothing = 0.0
    config.model.drop_path = 0.0
    config.optim.schedule = "constant"
    config.optim.warmup_epochs = 0.0
    config.ema_decay = 0.0
    config.batch_size = 50_000
    config.epochs = 50.0
    config.log_every_steps = 10
    return config
