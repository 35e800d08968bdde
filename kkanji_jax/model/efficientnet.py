"""EfficientNet (arXiv:1905.11946) in Flax NNX: MBConv blocks with squeeze-and-excitation."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from kkanji_jax.model import initialisers
from kkanji_jax.model.dense import dense
from kkanji_jax.model.depthwise import depthwise_conv
from kkanji_jax.model.initialisers import ONES, ZEROS, parameter, statistic
from kkanji_jax.model.variants import (
    HEAD_CHANNELS,
    STEM_CHANNELS,
    Block,
    Variant,
    blocks_of,
    get_variant,
    round_filters,
)

Momentum = float | Float[Array, ""]

# The authors' code: tensorflow/tpu, efficientnet_builder.py and efficientnet_model.py.
STEM_KERNEL_PX = 3
SE_RATIO = 0.25  # of the block's input channels, not of the expanded ones
NORM_MOMENTUM = 0.99  # the share of the old average that is kept
NORM_EPSILON = 1e-3


def drop_path(
    x: Float[Array, "b h w c"], rate: float, key: PRNGKeyArray
) -> Float[Array, "b h w c"]:
    """Zeroes the residual branch of each image with probability `rate`, in [0, 1).

    Survivors are scaled by 1 / (1 - rate), so the expectation is unchanged.
    Stochastic depth, arXiv:1603.09382, with the scaling moved from test to train.
    """
    survives = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0], 1, 1, 1))
    return jnp.where(survives, x / (1.0 - rate), 0.0)


def patches(x: Float[Array, "b h w c"], kernel_px: int, stride: int) -> Float[Array, "b oh ow d"]:
    """Every window of a "SAME" convolution, as d = kernel_px * kernel_px * c channels.

    With one input channel, a matrix product of these is the fastest convolution on a CPU. With
    XLA's own convolution, the kernel's gradient costs more than the rest of the network.
    """
    sides = lax.padtype_to_pads(x.shape[1:3], (kernel_px,) * 2, (stride,) * 2, "SAME")
    padded = jnp.pad(x, ((0, 0), *sides, (0, 0)))
    rows, cols = (side - kernel_px + 1 for side in padded.shape[1:3])
    windows = [
        padded[:, i : i + rows : stride, j : j + cols : stride]
        for i in range(kernel_px)
        for j in range(kernel_px)
    ]
    return jnp.concatenate(windows, axis=-1)


class Pointwise(nnx.Module):
    """A 1x1 convolution, computed as a matrix product in the dtype of its input.

    The reshape leaves one contracted axis in the gradient, so XLA need not transpose `x` for it.
    """

    def __init__(self, num_in: int, num_out: int, *, use_bias: bool = False):
        self.kernel = parameter(initialisers.convolution(num_out), num_in, num_out)
        self.bias = parameter(ZEROS, num_out) if use_bias else None

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b d"]:
        bias = None if self.bias is None else self.bias[...]
        rows = dense(x.reshape(-1, x.shape[-1]), self.kernel[...], bias)
        return rows.reshape(*x.shape[:-1], -1)


class Classifier(nnx.Module):
    """Features to logits, both float32."""

    def __init__(self, num_features: int, num_classes: int):
        self.kernel = parameter(initialisers.classifier(num_classes), num_features, num_classes)
        self.bias = parameter(ZEROS, num_classes)

    def __call__(self, x: Float32[Array, "b d"]) -> Float32[Array, "b k"]:
        return x @ self.kernel[...] + self.bias[...][None]


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, in float32 whatever dtype `x` has.

    `group` consecutive images of the batch share their statistics; None: the whole batch, on any
    number of devices. The running statistics keep the share `momentum` of their value, and take the
    rest from the mean over the groups. (nnx.BatchNorm with bfloat16 would round the running
    statistics to bfloat16.)
    """

    def __init__(self, channels: int, group: int | None = None):
        self.group = group
        self.scale = parameter(ONES, channels)
        self.bias = parameter(ZEROS, channels)
        self.mean = statistic(ZEROS, channels)
        self.var = statistic(ONES, channels)

    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool, momentum: Momentum = NORM_MOMENTUM
    ) -> Float[Array, "b h w c"]:
        size = self.group if train and self.group else x.shape[0]
        if x.shape[0] % size:
            raise ValueError(
                f"norm_group must divide the {x.shape[0]} images of a microbatch, got {size}"
            )
        wide = x.astype(jnp.float32).reshape(-1, size, *x.shape[1:])  # [groups size h w c]
        if train:
            mean = jnp.mean(wide, axis=(1, 2, 3))
            mean_square = jnp.mean(lax.square(wide), axis=(1, 2, 3))
            var = jnp.maximum(mean_square - lax.square(mean), 0.0)
            for running, now in ((self.mean, mean), (self.var, var)):
                running[...] = momentum * running[...] + (1.0 - momentum) * now.mean(0)
        else:
            mean, var = self.mean[...][None], self.var[...][None]
        gain = self.scale[...][None] * lax.rsqrt(var + NORM_EPSILON)
        shift = self.bias[...][None] - mean * gain
        spread = (slice(None), None, None, None)
        return (wide * gain[spread] + shift[spread]).astype(x.dtype).reshape(x.shape)


class MBConv(nnx.Module):
    """Expand, depthwise, squeeze-and-excite, project; the residual where shapes allow it."""

    def __init__(
        self,
        block: Block,
        in_channels: int,
        *,
        drop_path: float,
        norm_group: int | None,
    ):
        expanded, out_channels = in_channels * block.expand_ratio, block.out_channels
        squeezed = max(1, int(in_channels * SE_RATIO))
        self.stride = block.stride
        self.drop_path = drop_path
        self.has_expansion = block.expand_ratio != 1
        self.has_residual = block.stride == 1 and in_channels == out_channels
        if self.has_expansion:
            self.expand = Pointwise(in_channels, expanded)
            self.expand_norm = BatchNorm(expanded, norm_group)
        side = block.kernel_px
        one_filter = initialisers.convolution(fan_out=side * side)
        self.depthwise_kernel = parameter(one_filter, side, side, 1, expanded)
        self.depthwise_norm = BatchNorm(expanded, norm_group)
        self.squeeze = Pointwise(expanded, squeezed, use_bias=True)
        self.excite = Pointwise(squeezed, expanded, use_bias=True)
        self.project = Pointwise(expanded, out_channels)
        self.project_norm = BatchNorm(out_channels, norm_group)

    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool, rngs: nnx.Rngs | None, momentum: Momentum
    ) -> Float[Array, "b oh ow d"]:
        inputs = x
        if self.has_expansion:
            x = jax.nn.silu(self.expand_norm(self.expand(x), train=train, momentum=momentum))
        x = depthwise_conv(x, self.depthwise_kernel[...], self.stride)
        x = jax.nn.silu(self.depthwise_norm(x, train=train, momentum=momentum))
        squeezed = jax.nn.silu(self.squeeze(jnp.mean(x, axis=(1, 2))))
        x = x * jax.nn.sigmoid(self.excite(squeezed))[:, None, None, :]
        x = self.project_norm(self.project(x), train=train, momentum=momentum)
        if not self.has_residual:
            return x
        if train and self.drop_path and rngs is not None:
            x = drop_path(x, self.drop_path, rngs.drop_path())
        return x + inputs


class EfficientNet(nnx.Module):
    """The network of a `variant`: images in, class logits out; `create_model` gives it weights.

    Weights and statistics are float32, activations `dtype`, pooled features and logits float32.
    `stem_stride` and `last_stride` are 2 in the paper; for the latter see `blocks_of`. `dropout`
    defaults to the variant's. `drop_path` is the rate of the last block: block i of n has
    drop_path * i / n. `norm_group` is the group of BatchNorm. With train=True, dropout and
    drop_path draw from the streams of those names in the `rngs` of the call; the network holds no
    random state.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int,
        *,
        in_channels: int = 1,
        stem_stride: int = 2,
        last_stride: int = 2,
        dropout: float | None = None,
        drop_path: float = 0.2,
        norm_group: int | None = None,
        dtype: DTypeLike = jnp.float32,
    ):
        dropout = variant.dropout if dropout is None else dropout
        for name, stride in (("stem_stride", stem_stride), ("last_stride", last_stride)):
            if stride not in (1, 2):
                raise ValueError(f"{name} must be 1 or 2, not {stride}")
        for name, count in (("num_classes", num_classes), ("in_channels", in_channels)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {count}")
        for name, rate in (("dropout", dropout), ("drop_path", drop_path)):
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} must be in [0, 1), not {rate}")
        self.in_channels = in_channels
        self.stem_stride = stem_stride
        self.dropout = dropout
        self.draws = dropout > 0 or drop_path > 0
        self.dtype = jnp.dtype(dtype)

        channels = round_filters(STEM_CHANNELS, variant.width)
        side = STEM_KERNEL_PX
        all_filters = initialisers.convolution(fan_out=side * side * channels)
        self.stem_kernel = parameter(all_filters, side, side, in_channels, channels)
        self.stem_norm = BatchNorm(channels, norm_group)
        plan = blocks_of(variant, last_stride)
        blocks: list[MBConv] = []
        for number, block in enumerate(plan):
            rate = drop_path * number / len(plan)
            blocks.append(MBConv(block, channels, drop_path=rate, norm_group=norm_group))
            channels = block.out_channels
        self.blocks = nnx.List(blocks)
        width = round_filters(HEAD_CHANNELS, variant.width)
        self.head = Pointwise(channels, width)
        self.head_norm = BatchNorm(width, norm_group)
        self.classifier = Classifier(width, num_classes)

    def features(
        self,
        x: Float[Array, "b h w c"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
        momentum: Momentum = NORM_MOMENTUM,
    ) -> Float32[Array, "b d"]:
        """The input of the classifier: the mean of the last feature map, before dropout."""
        if x.shape[-1] != self.in_channels:
            raise ValueError(f"images must have {self.in_channels} channels, got shape {x.shape}")
        if train and self.draws and rngs is None:
            raise ValueError("train=True needs rngs with streams dropout and drop_path, got None")
        kernel = self.stem_kernel[...]
        x = patches(x.astype(self.dtype), STEM_KERNEL_PX, self.stem_stride)
        windows = dense(x.reshape(-1, x.shape[-1]), kernel.reshape(-1, kernel.shape[-1]))
        x = windows.reshape(*x.shape[:-1], -1)
        x = jax.nn.silu(self.stem_norm(x, train=train, momentum=momentum))
        for block in self.blocks:
            x = block(x, train=train, rngs=rngs, momentum=momentum)
        x = jax.nn.silu(self.head_norm(self.head(x), train=train, momentum=momentum))
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        *,
        train: bool,
        rngs: nnx.Rngs | None = None,
        momentum: Momentum = NORM_MOMENTUM,
    ) -> Float32[Array, "b k"]:
        """Logits. With train=True, normalises by the batch and updates the running statistics.

        `momentum` is the share of the running statistics that this update keeps.
        """
        x = self.features(x, train=train, rngs=rngs, momentum=momentum)
        if train and self.dropout and rngs is not None:
            keeps = jax.random.bernoulli(rngs.dropout(), 1.0 - self.dropout, x.shape)
            x = jnp.where(keeps, x / (1.0 - self.dropout), 0.0)
        return self.classifier(x)


def create_model(
    name: str,
    num_classes: int,
    in_channels: int = 1,
    *,
    stem_stride: int = 2,
    last_stride: int = 2,
    dropout: float | None = None,
    drop_path: float = 0.2,
    norm_group: int | None = None,
    dtype: DTypeLike = jnp.float32,
    seed: int = 0,
) -> EfficientNet:
    """Variant `name` of EfficientNet with fresh weights; the options are EfficientNet's own.

    The weights are the initial weights of a run with this seed.
    """
    network = nnx.eval_shape(
        lambda: EfficientNet(
            get_variant(name),
            num_classes,
            in_channels=in_channels,
            stem_stride=stem_stride,
            last_stride=last_stride,
            dropout=dropout,
            drop_path=drop_path,
            norm_group=norm_group,
            dtype=dtype,
        )
    )
    graphdef = nnx.graphdef(network)
    values = [
        initialisers.initial_values(network, kind, seed) for kind in (nnx.Param, nnx.BatchStat)
    ]
    return nnx.merge(graphdef, *jax.tree.map(jnp.asarray, values))
