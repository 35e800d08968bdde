"""Cross-entropy over class ids, in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int


def example_losses(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], label_smoothing: float = 0.0
) -> Float32[Array, " b"]:
    """Cross-entropy of each example, in nats, against (1 - s) * one-hot + s / k.

    A label outside [0, k) gives NaN, which stops a run; it is never a silent zero.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    # A comparison, not a gather: its gradient is a select, where a gather's is a scatter-add,
    # whose order of summation a GPU does not promise.
    is_label = labels[:, None] == jnp.arange(logits.shape[1])[None, :]
    losses = -(1.0 - label_smoothing) * jnp.sum(log_probs, axis=1, where=is_label)
    if label_smoothing:
        losses -= label_smoothing * jnp.mean(log_probs, axis=1)
    return jnp.where(jnp.any(is_label, axis=1), losses, jnp.nan)
