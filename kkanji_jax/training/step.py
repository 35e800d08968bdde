"""The training step: a pure function, jitted over the mesh, with the state donated."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from kkanji_jax import random_streams
from kkanji_jax.augment.engine import augment, sample_keys
from kkanji_jax.augment.mixup import Mixed, mix_pairs
from kkanji_jax.augment.policy import Policy
from kkanji_jax.model.efficientnet import NORM_MOMENTUM
from kkanji_jax.model.losses import example_losses
from kkanji_jax.model.network import Variables, network_input
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.training.metrics import AnyArray, Norms, StepMetrics, Sums, batch_sums
from kkanji_jax.training.state import TrainState, moving_average, ramped_decay


@dataclass(frozen=True)
class StepConfig:
    """The settings of a step, constant once it is compiled."""

    policy: Policy  # how images are augmented
    seed: int  # the seed of all randomness
    image_px: int  # side of the network's input
    label_smoothing: float  # in [0, 1)
    ema_decay: float  # in [0, 1); 0: the average is the weights themselves
    mixup_alpha: float = 0.0  # of Beta(alpha, alpha); 0: no mixup


class Resident(NamedTuple):
    """A training split held on every device; batches of indices refer to it."""

    images: UInt8[AnyArray, "n h w"]
    labels: Int[AnyArray, " n"]
    addresses: UInt32[AnyArray, "n 2"]  # of each sample's randomness


class IndexBatch(NamedTuple):
    """The rows and copy numbers of a dispatch of s steps, each of m microbatches."""

    rows: Int[AnyArray, "s m b"]
    copies: Int[AnyArray, "s m b"]


class PixelBatch(NamedTuple):
    """The examples themselves: `[s m b]` of a dispatch, or `[b]` of one microbatch."""

    images: UInt8[AnyArray, "*b h w"]
    labels: Int[AnyArray, "*b"]
    addresses: UInt32[AnyArray, "*b 2"]  # of each sample's randomness
    copies: Int[AnyArray, "*b"]


Data = Resident | None
Batch = IndexBatch | PixelBatch


class Examples(NamedTuple):
    """The inputs and the labels of a microbatch."""

    inputs: Float[Array, "b x x 1"]  # grey levels in [0, 1], varied, and blended where mixup is on
    labels: Int[Array, " b"]
    mixed: Mixed | None


class Gradients(NamedTuple):
    """The gradient of a batch's mean loss, the new statistics, and the batch's sums."""

    params: Variables
    batch_stats: Variables
    sums: Sums


def make_train_steps(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    config: StepConfig,
) -> Callable[[TrainState, Data, Batch], tuple[TrainState, StepMetrics]]:
    """Returns jitted f(state, data, batch): s updates, one after the other.

    Images are gathered from `data`, or come in the batch (`data` is then None); they are augmented,
    and blended in pairs if mixup is on. The batch is split over the mesh on its axis b, everything
    else is replicated. The microbatches of a step use the same weights, and their gradients are
    averaged. They differ from one whole batch only in the batch statistics, which are those of a
    microbatch (or of the network's groups in it). The state is donated.
    """
    one_step = partial(train_step, graphdef, optimizer, config)

    def train_steps(state: TrainState, data: Data, batch: Batch) -> tuple[TrainState, StepMetrics]:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # some work is done per device
            if batch.copies.shape[0] == 1:
                return one_step(data, state, _first(batch))
            state, each = jax.lax.scan(
                lambda state, batch: one_step(data, state, batch), state, batch
            )
        return state, jax.tree.map(lambda values: values.sum(axis=0), each)

    everywhere, split = mesh_lib.replicated(mesh), mesh_lib.sharded(mesh, axis=2)
    return jax.jit(
        train_steps,
        in_shardings=(everywhere, everywhere, split),
        out_shardings=(everywhere, everywhere),
        donate_argnums=0,
        compiler_options=mesh_lib.compiler_options(mesh),
    )


def train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: StepConfig,
    data: Data,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, StepMetrics]:
    """One update from a batch [m b] of m microbatches: the next state, and the metrics."""
    step = jnp.asarray(state.step)
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    of_microbatch = partial(gradients_of, graphdef, config, data, state)
    if batch.copies.shape[0] == 1:
        grads = of_microbatch(state.batch_stats, _first(batch), key)
    else:
        grads = _accumulated(of_microbatch, state, batch, key)
    updates, opt_state = optimizer.update(grads.params, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    next_state = TrainState(
        step=step + 1,
        params=params,
        batch_stats=grads.batch_stats,
        opt_state=opt_state,
        ema_params=moving_average(state.ema_params, params, config.ema_decay, step),
        ema_batch_stats=moving_average(
            state.ema_batch_stats, grads.batch_stats, config.ema_decay, step
        ),
    )
    norms = Norms(
        count=jnp.ones((), jnp.int32),
        gradient=optax.tree.norm(grads.params),
        update=optax.tree.norm(updates),
        weight=optax.tree.norm(params),
    )
    return next_state, StepMetrics(grads.sums, norms)


def gradients_of(
    graphdef: nnx.GraphDef,
    config: StepConfig,
    data: Data,
    state: TrainState,
    batch_stats: Variables,
    microbatch: Batch,
    key: Key[Array, ""],
) -> Gradients:
    """The gradients of a microbatch [b] at the weights of `state`; `key` is for dropout.

    The running statistics in `batch_stats` are updated with `ramped_decay`, so that a short run's
    statistics do not keep their initial zeros and ones.
    """
    examples = make_examples(config, data, microbatch)
    momentum = ramped_decay(NORM_MOMENTUM, jnp.asarray(state.step))

    def loss_fn(params: Variables) -> tuple[Float[Array, ""], tuple[Variables, Array]]:
        network = nnx.merge(graphdef, params, batch_stats)
        rngs = nnx.Rngs(dropout=key, drop_path=jax.random.fold_in(key, random_streams.DROP_PATH))
        logits = network(examples.inputs, train=True, rngs=rngs, momentum=momentum)
        stats = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
        return mean_loss(logits, examples, config.label_smoothing), (stats, logits)

    grads, (stats, logits) = jax.grad(loss_fn, has_aux=True)(state.params)
    losses = example_losses(logits, examples.labels)
    return Gradients(grads, stats, batch_sums(logits, examples.labels, losses))


def make_examples(config: StepConfig, data: Data, microbatch: Batch) -> Examples:
    """The images of a microbatch [b], augmented with their own keys, and blended if mixup is on."""
    images, labels, addresses, copies = map(jnp.asarray, _gather(data, microbatch))
    keys = sample_keys(config.seed, addresses, copies)
    inputs = network_input(augment(images, keys, copies, config.policy), config.image_px)
    if not config.mixup_alpha:
        return Examples(inputs, labels, None)
    mixup_keys = jax.vmap(lambda key: jax.random.fold_in(key, random_streams.MIXUP))(keys)
    mixed = mix_pairs(inputs, labels, mixup_keys, config.mixup_alpha)
    return Examples(mixed.images, labels, mixed)


def mean_loss(
    logits: Float[Array, "b k"], examples: Examples, label_smoothing: float
) -> Float[Array, ""]:
    """The smoothed cross-entropy in nats; for a blend, that of both labels by their shares."""
    losses = example_losses(logits, examples.labels, label_smoothing)
    mixed = examples.mixed
    if mixed is not None:
        others = example_losses(logits, mixed.other_labels, label_smoothing)
        losses = mixed.share * losses + (1.0 - mixed.share) * others
    return jnp.mean(losses)


def _accumulated(
    of_microbatch: Callable[[Variables, Batch, Key[Array, ""]], Gradients],
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
) -> Gradients:
    """Gradients averaged over the microbatches; the statistics pass from one to the next."""
    num = batch.copies.shape[0]

    def body(
        carry: tuple[Variables, Variables], part: tuple[Batch, UInt32[Array, ""]]
    ) -> tuple[tuple[Variables, Variables], Sums]:
        total, batch_stats = carry
        microbatch, number = part
        grads = of_microbatch(batch_stats, microbatch, jax.random.fold_in(key, number))
        return (jax.tree.map(jnp.add, total, grads.params), grads.batch_stats), grads.sums

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    first = random_streams.FIRST_MICROBATCH
    numbers = jnp.arange(first, first + num, dtype=jnp.uint32)
    (total, batch_stats), sums = jax.lax.scan(body, (zeros, state.batch_stats), (batch, numbers))
    mean = jax.tree.map(lambda grad: grad / num, total)
    return Gradients(mean, batch_stats, Sums(*(value.sum(axis=0) for value in sums)))


def _first(batch: Batch) -> Batch:
    """The only batch, or microbatch, along the first axis."""
    return jax.tree.map(lambda column: column[0], batch)


def _gather(data: Data, microbatch: Batch) -> PixelBatch:
    """The examples of a microbatch [b], from the split on the device if there is one."""
    if isinstance(microbatch, PixelBatch):
        return microbatch
    assert data is not None
    rows, copies = jnp.asarray(microbatch.rows), jnp.asarray(microbatch.copies)
    images, labels, addresses = (jnp.asarray(column)[rows] for column in data)
    return PixelBatch(images, labels, addresses, copies)
