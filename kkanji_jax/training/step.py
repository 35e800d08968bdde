"""The training and evaluation steps: pure, jitted over the mesh, the state donated."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8, UInt32

from kkanji_jax.augment.engine import augment, sample_keys
from kkanji_jax.augment.mixup import Mixed, mix_pairs
from kkanji_jax.augment.policy import Policy
from kkanji_jax.evaluation.metrics import TOP_K, AnyArray, Sums, batch_sums
from kkanji_jax.model.losses import example_losses
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.training.state import TrainState, Variables, moving_average


class Resident(NamedTuple):
    """A training split held on every device, for batches of indices to point into."""

    images: UInt8[AnyArray, "n h w"]
    labels: Int[AnyArray, " n"]
    addresses: UInt32[AnyArray, "n 2"]  # of each sample's randomness


class IndexBatch(NamedTuple):
    """Which rows a dispatch of s steps, each of m microbatches, learns from; which copy of each."""

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


def _first(batch: Batch) -> Batch:
    """The only batch, or microbatch, along the first axis."""
    return jax.tree.map(lambda column: column[0], batch)


def _gather(data: Data, batch: Batch) -> PixelBatch:
    """The examples of a microbatch [b], from the device's own where it holds them."""
    if isinstance(batch, PixelBatch):
        return batch
    assert data is not None
    rows, copies = jnp.asarray(batch.rows), jnp.asarray(batch.copies)
    images, labels, addresses = (jnp.asarray(column)[rows] for column in data)
    return PixelBatch(images, labels, addresses, copies)


def network_input(images: UInt8[Array, "b h w"], image_px: int) -> Float[Array, "b x x 1"]:
    """Grey levels in [0, 1], background 0 like the convolutions' padding, resized when asked."""
    pixels = images[..., None].astype(jnp.float32) / 255.0
    if images.shape[1] == image_px:
        return pixels
    shape = (images.shape[0], image_px, image_px, 1)
    return jax.image.resize(pixels, shape, "linear", antialias=True)


def _make_one_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    *,
    policy: Policy,
    seed: int,
    image_px: int,
    label_smoothing: float,
    ema_decay: float,
    mixup_alpha: float = 0.0,
) -> Callable[[Data, TrainState, Batch], tuple[TrainState, Sums]]:
    def gradients(
        data: Data, params: Variables, batch_stats: Variables, batch: Batch, key: Array
    ) -> tuple[Variables, Variables, Sums]:
        """Gradient of the mean loss, new statistics, and sums, of one microbatch [b]."""
        images, labels, addresses, copies = map(jnp.asarray, _gather(data, batch))
        keys = sample_keys(seed, addresses, copies)
        inputs = network_input(augment(images, keys, copies, policy), image_px)
        mixed: Mixed | None = None
        if mixup_alpha:
            mixup_keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys)
            mixed = mix_pairs(inputs, labels, mixup_keys, mixup_alpha)
            inputs = mixed.images

        def loss_fn(params: Variables) -> tuple[Array, tuple[Variables, Array]]:
            network = nnx.merge(graphdef, params, batch_stats)
            rngs = nnx.Rngs(dropout=key, drop_path=jax.random.fold_in(key, 1))
            logits = network(inputs, train=True, rngs=rngs)
            stats = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
            losses = example_losses(logits, labels, label_smoothing)
            if mixed is not None:
                others = example_losses(logits, mixed.other_labels, label_smoothing)
                losses = mixed.share * losses + (1.0 - mixed.share) * others
            return jnp.mean(losses), (stats, logits)

        grads, (batch_stats, logits) = jax.grad(loss_fn, has_aux=True)(params)
        return grads, batch_stats, batch_sums(logits, labels, example_losses(logits, labels))

    def accumulated(
        data: Data, state: TrainState, batch: Batch, key: Array
    ) -> tuple[Variables, Variables, Sums]:
        """`gradients` averaged over the microbatches; the statistics pass from one to the next."""
        num = batch.copies.shape[0]

        def body(
            carry: tuple[Variables, Variables], part: tuple[Batch, Array]
        ) -> tuple[tuple[Variables, Variables], Sums]:
            total, batch_stats = carry
            microbatch, number = part
            grads, batch_stats, sums = gradients(
                data, state.params, batch_stats, microbatch, jax.random.fold_in(key, number)
            )
            return (jax.tree.map(jnp.add, total, grads), batch_stats), sums

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        (total, batch_stats), sums = jax.lax.scan(
            body, (zeros, state.batch_stats), (batch, jnp.arange(2, 2 + num, dtype=jnp.uint32))
        )
        mean = jax.tree.map(lambda grad: grad / num, total)
        return mean, batch_stats, Sums(*(value.sum(axis=0) for value in sums))

    def one_step(data: Data, state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        step = jnp.asarray(state.step)
        key = jax.random.fold_in(jax.random.key(seed), step)
        if batch.copies.shape[0] == 1:
            only = _first(batch)
            grads, batch_stats, sums = gradients(data, state.params, state.batch_stats, only, key)
        else:
            grads, batch_stats, sums = accumulated(data, state, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        next_state = TrainState(
            step=step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema_params=moving_average(state.ema_params, params, ema_decay, step),
            ema_batch_stats=moving_average(state.ema_batch_stats, batch_stats, ema_decay, step),
        )
        return next_state, sums

    return one_step


def make_train_steps(
    graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, mesh: Mesh, **settings: Any
) -> Callable[[TrainState, Data, Batch], tuple[TrainState, Sums]]:
    """Returns jitted f(state, data, batch) that learns from s batches, one after the other.

    Settings: policy, seed, image_px, label_smoothing, ema_decay, mixup_alpha. Images are gathered
    from `data`, or come in the batch (`data` is then None); they are augmented, blended in pairs
    where mixup_alpha is not 0, and learnt from on the device.
    The batch is split over the mesh on its axis b, the rest is replicated. A step's microbatches
    follow one another on the same weights; their gradients are averaged, so only batch statistics,
    which are those of a microbatch (or of the network's groups in it), tell it from one whole
    batch. The state is donated.
    """
    one_step = _make_one_step(graphdef, optimizer, **settings)

    def train_steps(state: TrainState, data: Data, batch: Batch) -> tuple[TrainState, Sums]:
        def body(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
            return one_step(data, state, batch)

        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # some work is by device
            if batch.copies.shape[0] == 1:
                return one_step(data, state, _first(batch))
            state, sums = jax.lax.scan(body, state, batch)
        return state, Sums(*(value.sum(axis=0) for value in sums))

    everywhere, split = mesh_lib.replicated(mesh), mesh_lib.sharded(mesh, axis=2)
    return jax.jit(
        train_steps,
        in_shardings=(everywhere, everywhere, split),
        out_shardings=(everywhere, everywhere),
        donate_argnums=0,
        compiler_options=mesh_lib.compiler_options(mesh),
    )


def make_eval_step(
    graphdef: nnx.GraphDef, mesh: Mesh, image_px: int
) -> Callable[..., dict[str, Array]]:
    """Returns jitted f(params, batch_stats, images [b h w], labels [b]) -> results by example.

    `loss` [b] is the cross-entropy in nats, `top_ids` and `top_probs` [b min(5, k)] the most
    probable classes, best first. Nothing is averaged: the host drops padded rows.
    """

    def eval_step(
        params: Variables,
        batch_stats: Variables,
        images: UInt8[Array, "b h w"],
        labels: Int[Array, " b"],
    ) -> dict[str, Array]:
        network = nnx.merge(graphdef, params, batch_stats)
        logits = network(network_input(images, image_px), train=False)
        probs, ids = jax.lax.top_k(jax.nn.softmax(logits), min(TOP_K, logits.shape[-1]))
        return {"loss": example_losses(logits, labels), "top_ids": ids, "top_probs": probs}

    everywhere, split = mesh_lib.replicated(mesh), mesh_lib.sharded(mesh)
    return jax.jit(
        eval_step,
        in_shardings=(everywhere, everywhere, split, split),
        out_shardings=everywhere,  # small, and every process may then read all of it
    )


def make_logits_fn(
    graphdef: nnx.GraphDef, image_px: int
) -> Callable[[Variables, Variables, Array], tuple[Array, Array]]:
    """Returns jitted f(params, batch_stats, images [b h w]) -> (logits [b k], features [b d])."""

    def logits_fn(
        params: Variables, batch_stats: Variables, images: UInt8[Array, "b h w"]
    ) -> tuple[Float[Array, "b k"], Float[Array, "b d"]]:
        network = nnx.merge(graphdef, params, batch_stats)
        features = network.features(network_input(images, image_px), train=False)
        return network.classifier(features), features

    return jax.jit(logits_fn)
