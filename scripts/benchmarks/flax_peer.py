"""EfficientNet from Flax's own layers, as its documentation would write it: the peer of ours."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from kkanji_jax.model.variants import (
    HEAD_CHANNELS,
    STAGES,
    STEM_CHANNELS,
    Stage,
    Variant,
    round_filters,
    round_repeats,
)


def _conv(
    num_in: int, num_out: int, kernel_px: int, rngs: nnx.Rngs, *, stride: int = 1, groups: int = 1
) -> nnx.Conv:
    return nnx.Conv(
        num_in,
        num_out,
        (kernel_px, kernel_px),
        strides=stride,
        feature_group_count=groups,
        use_bias=False,
        rngs=rngs,
    )


def _norm(channels: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=0.99, epsilon=1e-3, rngs=rngs)


class FlaxBlock(nnx.Module):
    """MBConv of nnx.Conv and nnx.BatchNorm."""

    def __init__(self, stage: Stage, num_in: int, num_out: int, stride: int, rngs: nnx.Rngs):
        expanded, squeezed = num_in * stage.expand_ratio, max(1, num_in // 4)
        self.has_expansion = stage.expand_ratio != 1
        self.has_residual = stride == 1 and num_in == num_out
        if self.has_expansion:
            self.expand = _conv(num_in, expanded, 1, rngs)
            self.expand_norm = _norm(expanded, rngs)
        self.depthwise = _conv(
            expanded, expanded, stage.kernel_px, rngs, stride=stride, groups=expanded
        )
        self.depthwise_norm = _norm(expanded, rngs)
        self.squeeze = nnx.Conv(expanded, squeezed, (1, 1), rngs=rngs)
        self.excite = nnx.Conv(squeezed, expanded, (1, 1), rngs=rngs)
        self.project = _conv(expanded, num_out, 1, rngs)
        self.project_norm = _norm(num_out, rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b oh ow d"]:
        inputs = x
        if self.has_expansion:
            x = nnx.silu(self.expand_norm(self.expand(x), use_running_average=False))
        x = nnx.silu(self.depthwise_norm(self.depthwise(x), use_running_average=False))
        pooled = jnp.mean(x, axis=(1, 2), keepdims=True)
        x = x * nnx.sigmoid(self.excite(nnx.silu(self.squeeze(pooled))))
        x = self.project_norm(self.project(x), use_running_average=False)
        return x + inputs if self.has_residual else x


class FlaxEfficientNet(nnx.Module):
    """The network of a variant, in training mode, without dropout and drop-path."""

    def __init__(self, variant: Variant, num_classes: int, *, stem_stride: int = 2, rngs: nnx.Rngs):
        channels = round_filters(STEM_CHANNELS, variant.width)
        self.stem = _conv(1, channels, 3, rngs, stride=stem_stride)
        self.stem_norm = _norm(channels, rngs)
        blocks = []
        for stage in STAGES:
            num_out = round_filters(stage.out_channels, variant.width)
            for repeat in range(round_repeats(stage.num_blocks, variant.depth)):
                stride = 1 if repeat else stage.stride
                blocks.append(FlaxBlock(stage, channels, num_out, stride, rngs))
                channels = num_out
        self.blocks = nnx.List(blocks)
        width = round_filters(HEAD_CHANNELS, variant.width)
        self.head = _conv(channels, width, 1, rngs)
        self.head_norm = _norm(width, rngs)
        self.classifier = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w 1"]) -> Float[Array, "b k"]:
        x = nnx.silu(self.stem_norm(self.stem(x), use_running_average=False))
        for block in self.blocks:
            x = block(x)
        x = nnx.silu(self.head_norm(self.head(x), use_running_average=False))
        return self.classifier(jax.numpy.mean(x, axis=(1, 2)))
