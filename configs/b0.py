"""EfficientNet-B0 at 64 px.

full   python -m kkanji_jax.train --config configs/b0.py
       All classes, one GPU or more. Not run yet: no time or score to state.
cpu    python -m kkanji_jax.train --config configs/b0.py:cpu
       A laptop. On the 285 classes with 100 images or more (build --min-images 100), 2 shared
       cores, 70 minutes: 95.6 % top-1, 94.7 % mean per class on the honest test, n = 7,946.
open_set  python -m kkanji_jax.train --config configs/b0.py:open_set
       For scores on unknown characters: the classes with two images or more (build --out
       data/open_set --min-images 2), then evaluate --unknown with the folder of all. Not run at
       this length; configs/release.py's recipe on half of these images is: docs/RESULTS.md,
       5050-fine.
smoke  python -m kkanji_jax.train --config configs/b0.py:smoke
       A one-block-a-stage network at 32 px: does everything work? Scores mean nothing.
"""

from kkanji_jax.config import Config, default_config, paper_config


def get_config(variant: str = "full") -> Config:
    """Returns the run that `variant` (full, cpu, open_set or smoke) names."""
    if variant in ("full", "open_set"):
        config = paper_config("b0", "full")
        if variant == "open_set":
            config.data.dataset = "data/open_set"
        return config
    config = default_config()
    if variant == "cpu":
        config.batch_size = 64
        config.epochs = 5.0
        config.ema_decay = 0.998
        config.optim.lr_peak = 1.5e-3
        config.optim.warmup_epochs = 0.3
        config.model.drop_path = 0.0
    elif variant == "smoke":
        config.model.variant = "nano"
        config.model.image_px = 32
        config.batch_size = 64
        config.epochs = 1.0
        config.log_every_steps = 5
    else:
        raise ValueError(
            f"configs/b0.py has variants full, cpu, open_set and smoke, got {variant!r}"
        )
    return config
