"""The recogniser that ships with the package: EfficientNet-B0 on all classes.

Its dataset: data_tools.build --source DIR --out data/release --pool-official kmnist

gpu        python -m kkanji_jax.train --config configs/release.py:gpu
           Not run yet: no time or score to state.
cpu_48px   python -m kkanji_jax.train --config configs/release.py:cpu_48px
           Two shared CPU cores, 87 minutes: 78.0 % top-1 on test (n = 13,595). An image costs
           little over half of what it does at 64 px.
cpu        python -m kkanji_jax.train --config configs/release.py:cpu
           Goes on from those weights at 64 px, 110 minutes: 87.0 %, mean per class 70.7 %.
cpu_more   python -m kkanji_jax.train --config configs/release.py:cpu_more
           Once more, edges softened and sharpened, 63 minutes: 89.9 %, mean per class 76.9 %.
"""

from kkanji_jax.config import Config, default_config


def get_config(variant: str = "gpu") -> Config:
    """Returns the run that `variant` (gpu, cpu_48px, cpu or cpu_more) names."""
    config = default_config()
    config.data.dataset = "data/release"
    if variant == "gpu":
        config.model.dtype = "bfloat16"
        config.epochs = 100.0
        config.steps_per_dispatch = 10
        config.log_every_steps = 100
        return config
    config.batch_size = 64
    config.ema_decay = 0.998
    config.steps_per_dispatch = 4
    config.log_every_steps = 20
    config.ckpt_every_steps = 800
    config.model.drop_path = 0.0
    config.optim.warmup_epochs = 0.3
    if variant == "cpu_48px":
        config.model.image_px = 48
        config.epochs = 5.0
        config.optim.lr_peak = 1.5e-3
    elif variant in ("cpu", "cpu_more"):
        before = "cpu_48px" if variant == "cpu" else "cpu"
        config.init_from = f"runs/release-{before}"
        config.epochs = 4.0
        config.optim.lr_peak = 1e-3
        config.optim.warmup_epochs = 0.1
    else:
        raise ValueError(
            f"configs/release.py has the variants gpu, cpu_48px, cpu and cpu_more, got {variant!r}"
        )
    return config
