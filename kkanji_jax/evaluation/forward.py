"""One pass of a network over a split, used for validation in training and by `evaluate`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, Int, Int32, UInt8

from kkanji_jax.evaluation.calibration import softmax
from kkanji_jax.evaluation.counts import TOP_K
from kkanji_jax.evaluation.support import Outputs
from kkanji_jax.model.losses import example_losses
from kkanji_jax.model.network import ModelConfig, Variables, make_graphdef, network_input
from kkanji_jax.parallel import mesh as mesh_lib


class Predictions(NamedTuple):
    """The predictions of a network for each example of a split, in the split's order."""

    labels: Int32[np.ndarray, " n"]
    top_ids: Int32[np.ndarray, "n t"]  # most probable classes, best first
    top_probs: Float32[np.ndarray, "n t"]
    losses: Float32[np.ndarray, " n"]  # cross-entropy in nats


class Answers(NamedTuple):
    """The output of a network for some rows of a split; `outputs` only if requested."""

    rows: slice
    predictions: Predictions
    outputs: Outputs | None


class Evaluator:
    """Runs the network of a `model` config over images, each exactly once and in order.

    Batches are split over the devices of `mesh`; ValueError if `batch_size` is not divisible by
    their number. It compiles on first use. Nothing is averaged on the device: the last batch is
    padded, and the padding is dropped on the host.
    """

    def __init__(self, model: ModelConfig, num_classes: int, *, mesh: Mesh, batch_size: int):
        mesh_lib.check_divides(batch_size, mesh)
        self._graphdef = make_graphdef(model, num_classes)
        self._image_px = model["image_px"]
        self._mesh = mesh
        self._batch_size = batch_size
        self._steps: dict[bool, Callable[..., Mapping[str, Array]]] = {}  # by: are outputs kept

    def predictions(
        self,
        params: Variables,
        batch_stats: Variables,
        images: UInt8[np.ndarray, "n h w"],
        labels: Int32[np.ndarray, " n"],
    ) -> Predictions:
        """Predictions for all of the images."""
        answers = self.answers(params, batch_stats, images, labels)
        return join_predictions([part.predictions for part in answers])

    def answers(
        self,
        params: Variables,
        batch_stats: Variables,
        images: UInt8[np.ndarray, "n h w"],
        labels: Int32[np.ndarray, " n"],
        *,
        has_outputs: bool = False,
        on_batch: Callable[[int], None] | None = None,
    ) -> Iterator[Answers]:
        """The network's output batch by batch; calls `on_batch` with the number of images done.

        ValueError if there are no images. All copies between host and device are explicit.
        """
        num_examples = len(images)
        if not num_examples:
            raise ValueError("expected images to run the network on, got none")
        step = self._step(has_outputs)
        size = min(self._batch_size, -(-num_examples // self._mesh.size) * self._mesh.size)
        variables = mesh_lib.replicate((params, batch_stats), self._mesh)
        pending: list[tuple[slice, Mapping[str, Array]]] = []
        for start in range(0, num_examples, size):
            rows = slice(start, min(start + size, num_examples))
            batch = (_padded(images[rows], size), _padded(labels[rows], size))
            pending.append((rows, step(*variables, *mesh_lib.split_whole(batch, self._mesh))))
            if len(pending) > 1:  # fetch one batch while the device works on the next
                yield _fetched(*pending.pop(0), labels, on_batch)
        yield _fetched(*pending.pop(), labels, on_batch)

    def _step(self, has_outputs: bool) -> Callable[..., Mapping[str, Array]]:
        if has_outputs not in self._steps:
            self._steps[has_outputs] = _make_eval_step(
                self._graphdef, self._mesh, self._image_px, has_outputs
            )
        return self._steps[has_outputs]


def _make_eval_step(
    graphdef: nnx.GraphDef, mesh: Mesh, image_px: int, has_outputs: bool
) -> Callable[..., Mapping[str, Array]]:
    """Returns jitted f(params, batch_stats, images [b h w], labels [b]) -> results by example.

    `loss` [b] is the cross-entropy in nats, `top_ids` and `top_probs` [b min(5, k)] the most
    probable classes, best first, a tie to the smaller id; `logits` [b k] and `features` [b d] where
    they are expected.
    """

    def eval_step(
        params: Variables,
        batch_stats: Variables,
        images: UInt8[Array, "b h w"],
        labels: Int[Array, " b"],
    ) -> dict[str, Array]:
        network = nnx.merge(graphdef, params, batch_stats)
        features = network.features(network_input(images, image_px), train=False)
        logits = network.classifier(features)
        # By logits, because two different logits may round to one probability.
        _, ids = jax.lax.top_k(logits, min(TOP_K, logits.shape[-1]))
        probs = jnp.take_along_axis(jax.nn.softmax(logits), ids, axis=-1)
        results = {"loss": example_losses(logits, labels), "top_ids": ids, "top_probs": probs}
        return results | ({"logits": logits, "features": features} if has_outputs else {})

    everywhere, split = mesh_lib.replicated(mesh), mesh_lib.sharded(mesh)
    return jax.jit(
        eval_step,
        in_shardings=(everywhere, everywhere, split, split),
        out_shardings=everywhere,  # small, and every process may then read all of it
    )


def _fetched(
    rows: slice,
    results: Mapping[str, Array],
    labels: Int32[np.ndarray, " n"],
    on_batch: Callable[[int], None] | None,
) -> Answers:
    num_valid = rows.stop - rows.start
    host = {name: np.asarray(part)[:num_valid] for name, part in jax.device_get(results).items()}
    if on_batch:
        on_batch(rows.stop)
    predictions = Predictions(
        labels=np.asarray(labels[rows], np.int32),
        top_ids=host["top_ids"].astype(np.int32),
        top_probs=host["top_probs"].astype(np.float32),
        losses=host["loss"].astype(np.float32),
    )
    outputs = Outputs(host["logits"], host["features"]) if "logits" in host else None
    return Answers(rows, predictions, outputs)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    padding = [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return np.pad(rows, padding)


def predictions_of(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], temperature: float = 1.0
) -> Predictions:
    """Predictions from logits / `temperature`; a tie goes to the smaller class id, as in argmax."""
    top_ids = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    probabilities = softmax(logits, temperature)
    top_probs = np.take_along_axis(probabilities, top_ids, axis=1)
    true = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0].astype(np.float64)
    best = np.take_along_axis(logits, top_ids[:, :1], axis=1)[:, 0].astype(np.float64)
    return Predictions(
        labels=np.asarray(labels, np.int32),
        top_ids=top_ids.astype(np.int32),
        top_probs=top_probs.astype(np.float32),
        losses=((best - true) / temperature - np.log(top_probs[:, 0])).astype(np.float32),
    )


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """The parts of a split, one after the other."""
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))
