"""Metrics of a step: sums and counts on the device, divided once on the host."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kkanji_jax.evaluation.counts import TOP_K

AnyArray = Array | np.ndarray  # the same sums, on the device or fetched from it


class Sums(NamedTuple):
    """What a batch adds to each metric. Sums, not means, so that every example counts the same."""

    loss: Float[AnyArray, ""]  # cross-entropy without smoothing, summed
    count: Int[AnyArray, ""]
    top5: Int[AnyArray, ""]
    true: Int[AnyArray, " k"]  # examples by class
    predicted: Int[AnyArray, " k"]  # predictions by class
    hits: Int[AnyArray, " k"]  # right predictions by class


class Norms(NamedTuple):
    """Euclidean norms over all weights, summed over `count` steps."""

    count: Int[AnyArray, ""]
    gradient: Float[AnyArray, ""]  # before it is clipped
    update: Float[AnyArray, ""]  # what the optimizer added to the weights
    weight: Float[AnyArray, ""]  # after the update


class StepMetrics(NamedTuple):
    """The metrics of one step, or of several added up."""

    sums: Sums
    norms: Norms


def batch_sums(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], losses: Float[Array, " b"]
) -> Sums:
    """Sums over one batch. A tie is broken towards the smaller class id, as argmax does."""
    num_classes = logits.shape[-1]
    predicted = jnp.argmax(logits, axis=-1)
    true_logit = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    rank = jnp.sum(logits > true_logit, axis=-1)
    zeros = jnp.zeros((num_classes,), jnp.int32)
    return Sums(
        loss=jnp.sum(losses),
        count=jnp.asarray(labels.shape[0], jnp.int32),
        top5=jnp.sum(rank < TOP_K, dtype=jnp.int32),
        true=zeros.at[labels].add(1),
        predicted=zeros.at[predicted].add(1),
        hits=zeros.at[labels].add((predicted == labels).astype(jnp.int32)),
    )


def add_metrics(first: StepMetrics, second: StepMetrics) -> StepMetrics:
    """Elementwise sum; works on device and on host arrays."""
    return jax.tree.map(lambda a, b: a + b, first, second)
