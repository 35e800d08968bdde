"""The trainer's own step on random images, ready to be timed."""

import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from kkanji_jax.augment.policy import get_policy
from kkanji_jax.compilation_cache import counting_kept_programs, enable_compilation_cache
from kkanji_jax.config import default_config
from kkanji_jax.model.network import make_graphdef
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.training import host_memory
from kkanji_jax.training.optim import make_optimizer
from kkanji_jax.training.state import create_state
from kkanji_jax.training.step import IndexBatch, Resident, StepConfig, make_train_steps


class Program(NamedTuple):
    """train_steps(state, data, batch) gives the next state and sums; the state is donated."""

    train_steps: Any
    state: Any
    data: Any
    batch: Any


def make_steady_optimizer(optim: Any) -> optax.GradientTransformation:
    """The optimizer of a config's `optim`, at its peak rate throughout."""
    return make_optimizer(
        optax.constant_schedule(optim.lr_peak),
        b1=optim.b1,
        b2=optim.b2,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        grad_clip_norm=optim.grad_clip_norm,
    )


def prepare(
    model_fields: Mapping[str, Any],
    *,
    num_classes: int,
    num_images: int,
    batch_size: int,
    num_steps: int = 1,
    policy: str = "none",
    num_devices: int = 1,
) -> Program:
    """A step of the default config but for `model_fields`, and `num_steps` of it in a call."""
    config = default_config()
    config.model.update(model_fields)
    model = config.model.to_dict()
    side, optimizer = model["image_px"], make_steady_optimizer(config.optim)
    mesh = mesh_lib.make_mesh(jax.devices()[:num_devices])
    train_steps = make_train_steps(
        make_graphdef(model, num_classes),
        optimizer,
        mesh,
        StepConfig(
            policy=get_policy(policy),
            seed=0,
            image_px=side,
            label_smoothing=config.loss.label_smoothing,
            ema_decay=config.ema_decay,
        ),
    )
    rng = np.random.default_rng(0)
    resident = Resident(
        rng.integers(0, 256, (num_images, side, side), np.uint8),
        rng.integers(0, num_classes, num_images, np.int32),
        rng.integers(0, 2**32, (num_images, 2), np.uint32),
    )
    rows = rng.integers(0, num_images, (num_steps, 1, batch_size)).astype(np.int32)
    return Program(
        train_steps,
        mesh_lib.replicate(create_state(model, num_classes, optimizer, 0), mesh),
        mesh_lib.replicate(resident, mesh),
        mesh_lib.to_global(IndexBatch(rows, np.ones_like(rows)), mesh, axis=2),
    )


def compiled_as_by_the_trainer(program: Program) -> Any:
    """The compiled step, in a process that has not compiled it: otherwise the process starts anew.

    Only with a cache of compiled programs; see KKANJI_CACHE.
    """
    enable_compilation_cache()
    with counting_kept_programs() as kept:
        train_steps, *operands = program
        compiled = train_steps.lower(*operands).compile()
    if kept:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    host_memory.give_back()
    return compiled
