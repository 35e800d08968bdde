"""The network that a config describes: its structure, its variables, and its input."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from kkanji_jax.model.efficientnet import EfficientNet
from kkanji_jax.model.initialisers import initial_values
from kkanji_jax.model.variants import get_variant

Variables = Any  # a pure dict of arrays, as nnx.to_pure_dict gives
ModelConfig = Mapping[str, Any]  # the `model` section of a config


def build_network(model: ModelConfig, num_classes: int) -> EfficientNet:
    """The network that a config's `model` section describes, without random values drawn."""
    return nnx.eval_shape(
        lambda: EfficientNet(
            get_variant(model["variant"]),
            num_classes,
            stem_stride=model["stem_stride"],
            last_stride=model["last_stride"],
            dropout=model["dropout"],
            drop_path=model["drop_path"],
            norm_group=model["norm_group"],
            dtype=jnp.dtype(model["dtype"]),
        )
    )


def make_graphdef(model: ModelConfig, num_classes: int) -> nnx.GraphDef:
    """The network's structure without its arrays."""
    return nnx.graphdef(build_network(model, num_classes))


def abstract_variables(model: ModelConfig, num_classes: int) -> tuple[Variables, Variables]:
    """Shapes and dtypes of the weights and the batch statistics, computing nothing."""
    _, *states = nnx.split(build_network(model, num_classes), nnx.Param, nnx.BatchStat)
    params, batch_stats = map(nnx.to_pure_dict, states)
    return params, batch_stats


def init_variables(model: ModelConfig, num_classes: int, seed: int) -> tuple[Variables, Variables]:
    """Fresh weights and batch statistics as NumPy arrays, float32; see `initial_values`."""
    network = build_network(model, num_classes)
    return (
        initial_values(network, nnx.Param, seed),
        initial_values(network, nnx.BatchStat, seed),
    )


def network_input(images: UInt8[Array, "b h w"], image_px: int) -> Float[Array, "b x x 1"]:
    """Grey levels in [0, 1], background 0 like the convolutions' padding; resized if needed."""
    pixels = images[..., None].astype(jnp.float32) / 255.0
    if images.shape[1] == image_px:
        return pixels
    shape = (images.shape[0], image_px, image_px, 1)
    return jax.image.resize(pixels, shape, "linear", antialias=True)


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
