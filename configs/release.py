"""The recogniser that ships with the package: EfficientNet-B0 on all classes.

Its dataset, CODH's character shapes of ten books beside the published sets, six of them held out:

    python -m data_tools.build --source DIR --out data/release --pool-official kmnist \\
        --val-books 100249416,200006663,200021763,200021802 --test-books 100249476,200021086 \\
        --leave-out docs/splits/release-leave-out.csv

gpu           python -m kkanji_jax.train --config configs/release.py:gpu
              Not run yet: no time or score to state.

Without a GPU, each of these goes on from the weights of the one before. The first six had the
published images alone (no character shapes, no books); on two shared CPU cores, top-1 and mean per
class on their test (n = 13,595):

cpu_48px      87 minutes, 78.0 %: an image costs little over half of what it does at 64 px.
cpu           110 minutes, 87.0 % and 70.7 %.
cpu_more      63 minutes, 89.9 % and 76.9 %: edges softened and sharpened.
cpu_mixup     82 minutes, 90.3 % and 77.3 %.
cpu_stride_1  114 minutes, 90.9 % and 78.8 %: a stem that keeps the resolution, at four times the
              arithmetic. Not released.
cpu_long      75 minutes on idle cores, 92.1 % and 80.7 %, from cpu_more: sixteen epochs.
cpu_kana      49 minutes, beside other work: stopped after 1,240 of its steps.
cpu_kana_end  24 minutes. 85 % of its weights and 15 % of cpu_long's (average_weights.py) were
              released: published images 91.4 % (n = 13,667), photographed kana of two held-out
              books 79.5 % (n = 679), photographed kanji 70.3 % (n = 269).
cpu_fine      5.6 hours, beside other work: from those weights, at 48 px with a stem of stride 1.
              Stopped after 740 and, from their moving average, 7,988 more of its steps, and 420 of
              a longer cpu_fine_end.
cpu_fine_end  71 minutes. Released, for a time, with the logits of kana and rare characters raised
              (logit_adjustment.py): published images 93.1 % (n = 13,667), photographed kana 83.8 %
              (n = 696), photographed kanji 75.1 % (n = 273), the mean per class of the whole test
              83.4 %. The release before had 3,900 steps instead of 7,988, and its cpu_fine_end
              --config.seed=23 --config.epochs=1.35: 92.3, 84.3, 74.4 and 81.6 %.

From that release, cpu_fine with --config.seed=41 (3,660 steps, 54 minutes) and cpu_fine_end with
--config.seed=43 (32 minutes). Three quarters of these weights and one quarter of those of the
release before (average_weights.py), raised as before, are the release: 93.5, 85.5, 74.0 and 83.6 %.
"""

from kkanji_jax.config import Config, default_config

GPU = {
    "model.dtype": "bfloat16",
    "augment.mixup_alpha": 0.2,
    "epochs": 100.0,
    "steps_per_dispatch": 10,
    "log_every_steps": 100,
}
CPU = {
    "model.drop_path": 0.0,
    "batch_size": 64,
    "epochs": 4.0,
    "ema_decay": 0.998,
    "optim.warmup_epochs": 0.1,
    "steps_per_dispatch": 4,
    "log_every_steps": 20,
    "ckpt_every_steps": 200,
}
STAGES = {
    "cpu_48px": {
        "model.image_px": 48,
        "epochs": 5.0,
        "optim.lr_peak": 1.5e-3,
        "optim.warmup_epochs": 0.3,
    },
    "cpu": {"init_from": "runs/release-cpu_48px"},
    "cpu_more": {"init_from": "runs/release-cpu"},
    "cpu_mixup": {
        "init_from": "runs/release-cpu_more",
        "augment.mixup_alpha": 0.3,
        "epochs": 3.0,
        "optim.lr_peak": 8e-4,
    },
    "cpu_stride_1": {
        "init_from": "runs/release-cpu_mixup",
        "augment.mixup_alpha": 0.2,
        "epochs": 3.0,
        "model.stem_stride": 1,
    },
    "cpu_long": {
        "init_from": "runs/release-cpu_more",
        "augment.mixup_alpha": 0.2,
        "model.drop_path": 0.1,
        "batch_size": 128,
        "model.norm_group": 64,
        "ema_decay": 0.999,
        "epochs": 16.0,
        "eval_every_steps": 1715,
        "ckpt_every_steps": 343,
    },
    "cpu_kana": {
        "init_from": "runs/release-cpu_long",
        "augment.mixup_alpha": 0.2,
        "model.drop_path": 0.1,
        "batch_size": 128,
        "model.norm_group": 64,
        "optim.schedule": "constant",
        "optim.lr_peak": 4e-4,
        "optim.warmup_epochs": 0.06,
        "optim.weight_decay": 0.05,
        "data.photograph_weight": 5.0,
        "epochs": 9.0,
        "eval_every_steps": 4000,
        "ckpt_every_steps": 100,
    },
    "cpu_kana_end": {
        "init_from": "runs/release-cpu_kana",
        "augment.mixup_alpha": 0.2,
        "model.drop_path": 0.1,
        "batch_size": 128,
        "model.norm_group": 64,
        "optim.lr_peak": 4e-4,
        "optim.warmup_epochs": 0.02,
        "optim.weight_decay": 0.05,
        "data.photograph_weight": 5.0,
        "ema_decay": 0.995,
        "epochs": 1.0,
        "eval_every_steps": 4000,
        "ckpt_every_steps": 100,
    },
    "cpu_fine": {
        "init_from": "runs/release-kana",
        "augment.mixup_alpha": 0.2,
        "model.image_px": 48,
        "model.stem_stride": 1,
        "model.drop_path": 0.2,
        "model.norm_group": 64,
        "batch_size": 128,
        "microbatches": 2,
        "optim.schedule": "constant",
        "optim.lr_peak": 1e-3,
        "optim.warmup_epochs": 0.2,
        "optim.weight_decay": 0.05,
        "data.photograph_weight": 4.0,
        "epochs": 9.0,
        "eval_every_steps": 4000,
        "ckpt_every_steps": 100,
    },
    "cpu_fine_end": {
        "init_from": "runs/release-cpu_fine",
        "seed": 31,
        "augment.mixup_alpha": 0.2,
        "model.image_px": 48,
        "model.stem_stride": 1,
        "model.drop_path": 0.1,
        "model.norm_group": 64,
        "batch_size": 128,
        "microbatches": 2,
        "optim.lr_peak": 8e-4,
        "optim.warmup_epochs": 0.02,
        "optim.weight_decay": 0.05,
        "data.photograph_weight": 4.0,
        "ema_decay": 0.995,
        "epochs": 2.7,
        "eval_every_steps": 4000,
        "ckpt_every_steps": 100,
    },
}


def get_config(variant: str = "gpu") -> Config:
    """Returns the run that `variant`, gpu or a key of STAGES, names."""
    if variant != "gpu" and variant not in STAGES:
        raise ValueError(f"configs/release.py has gpu, {', '.join(STAGES)}, got {variant!r}")
    config = default_config()
    config.data.dataset = "data/release"
    config.update_from_flattened_dict(GPU if variant == "gpu" else CPU | STAGES[variant])
    return config
