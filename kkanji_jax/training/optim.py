"""Learning-rate schedule and the Optax chain: Adam(amsgrad) as PyTorch computes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int


class AmsgradState(NamedTuple):
    """Moments of `amsgrad`; all float32, shaped like the parameters."""

    count: Int[Array, ""]
    mu: Any
    nu: Any
    nu_max: Any  # the largest *uncorrected* second moment seen


def amsgrad(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam(amsgrad=True) with the order of operations of torch.optim.Adam.

    PyTorch keeps the maximum of the raw second moment and corrects its bias afterwards;
    optax.amsgrad corrects first, so that a large early gradient counts forever. Reddi et al. 2018,
    "On the convergence of Adam and beyond", arXiv:1904.09237.
    """

    def init(params: Any) -> AmsgradState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AmsgradState(jnp.zeros((), jnp.int32), zeros, zeros, zeros)

    def update(updates: Any, state: AmsgradState, params: Any = None) -> tuple[Any, AmsgradState]:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)
        steps = count.astype(jnp.float32)
        correction_1, correction_2 = 1 - b1**steps, jnp.sqrt(1 - b2**steps)
        direction = jax.tree.map(
            lambda m, v: (m / correction_1) / (jnp.sqrt(v) / correction_2 + eps), mu, nu_max
        )
        return direction, AmsgradState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def learning_rate_schedule(
    kind: str, lr_peak: float, warmup_steps: int, total_steps: int, lr_final_fraction: float
) -> optax.Schedule:
    """Linear warm-up, then cosine decay to a fraction of the peak, or constant.

    If the warm-up is as long as the run or longer, it is cut to a tenth of the run.
    """
    if warmup_steps >= total_steps:
        warmup_steps = total_steps // 10
    if kind == "constant":
        after = optax.constant_schedule(lr_peak)
    else:
        decay_steps = max(total_steps - warmup_steps, 1)
        after = optax.cosine_decay_schedule(lr_peak, decay_steps, alpha=lr_final_fraction)
    if warmup_steps == 0:
        return after
    warmup = optax.linear_schedule(lr_peak / warmup_steps, lr_peak, warmup_steps)
    return optax.join_schedules([warmup, after], [warmup_steps])


def _is_kernel(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(
    schedule: optax.Schedule,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    grad_clip_norm: float | None,
) -> optax.GradientTransformation:
    """Clip, amsgrad, decoupled weight decay on kernels (not biases or BatchNorm), step size."""
    chain = [amsgrad(b1, b2, eps)]
    if grad_clip_norm is not None:
        chain.insert(0, optax.clip_by_global_norm(grad_clip_norm))
    if weight_decay:
        chain.append(optax.add_decayed_weights(weight_decay, mask=_is_kernel))
    return optax.chain(*chain, optax.scale_by_learning_rate(schedule))
