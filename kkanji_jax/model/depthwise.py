"""Depthwise convolution with TensorFlow's "SAME" padding, in the fastest form on each platform.

`conv` is XLA's grouped convolution. `taps` adds up shifted, scaled copies of the image: on a CPU,
XLA runs those as fused vector loops, and grouped convolutions far more slowly. `hybrid`, for CUDA,
is `conv` except for the two gradients that XLA passes to cuDNN in an inefficient shape.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from kkanji_jax.model import depthwise_taps as taps
from kkanji_jax.model.depthwise_taps import TapPlan

FORMS = ("taps", "conv", "hybrid")


def _taps(plan: TapPlan, x: Array, kernel: Array) -> Array:
    return taps.once(functools.partial(taps.convolve, plan), x, kernel)


def _taps_gradients(plan: TapPlan, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    to_image = taps.once(functools.partial(taps.image_gradient, plan), dy, kernel)
    return to_image, taps.kernel_gradient(plan, x, kernel, dy)


def _conv(plan: TapPlan, x: Array, kernel: Array) -> Array:
    """XLA's grouped convolution of the live taps."""
    return lax.conv_general_dilated(
        x,
        taps.live(plan, kernel).astype(x.dtype),
        (plan.stride, plan.stride),
        [(axis.before, axis.after) for axis in (plan.rows, plan.cols)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _conv_gradients(plan: TapPlan, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    return jax.vjp(functools.partial(_conv, plan), x, kernel)[1](dy)


def _hybrid_gradients(plan: TapPlan, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    """The gradients of `conv`, except in two cases.

    XLA would compute the image's gradient of a strided convolution on an image of mostly zeros. And
    XLA takes the kernel's gradient of a map no larger than the kernel for a forward convolution
    with the batch as channels: one output a group, a shape for which cuDNN has no fast kernel.
    """
    rows, cols, stride = plan
    if stride > 1:
        image_gradient = taps.image_gradient(plan, dy, kernel)
    else:
        (image_gradient,) = jax.linear_transpose(lambda x: _conv(plan, x, kernel), x)(dy)
    if stride == 1 and rows.out <= rows.taps and cols.out <= cols.taps:
        kernel_gradient = taps.summed_kernel_gradient(plan, x, kernel, dy)
    else:
        kernel_gradient = _shared_kernel_gradient(plan, x, kernel, dy)
    return image_gradient, kernel_gradient


def _shared_kernel_gradient(plan: TapPlan, x: Array, kernel: Array, dy: Array) -> Array:
    """The kernel's gradient of `conv`: the sum over devices if a mesh is set.

    cuDNN returns bfloat16 for bfloat16 images. XLA would add the devices' parts in bfloat16 and
    convert the sum. Here they are converted first, and communicated with all other gradients.
    """

    def share(x: Array, dy: Array) -> Array:
        (gradient,) = jax.linear_transpose(lambda k: _conv(plan, x, k), kernel)(dy)
        return gradient[None]

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return share(x, dy)[0]
    split = PartitionSpec(mesh.axis_names)
    # With the check, XLA would sum the parts inside, where the kernel is transposed.
    shares = jax.shard_map(share, in_specs=(split, split), out_specs=split, check_vma=False)(x, dy)
    return jnp.sum(shares, axis=0)


def _run(form: str | None, forms: dict[str, Callable], *operands: Array):
    """Calls the given form, or that of the platform if form is None.

    The platform is looked up when the program is lowered, not when it is traced, so one trace can
    be exported to any platform, and the compiler sees one branch only. The choice is inside the
    custom gradient, where it is not differentiated: a gradient through it would keep the residuals
    of all branches.
    """
    if form is not None:
        return forms[form](*operands)
    cpu, default, cuda = (forms[name] for name in FORMS)
    return lax.platform_dependent(*operands, cpu=cpu, cuda=cuda, default=default)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise(plan: TapPlan, form: str | None, x: Array, kernel: Array) -> Array:
    by_taps, conv = (functools.partial(run, plan) for run in (_taps, _conv))
    return _run(form, {"taps": by_taps, "conv": conv, "hybrid": conv}, x, kernel)


def _forward(plan: TapPlan, form: str | None, x: Array, kernel: Array):
    return _depthwise(plan, form, x, kernel), (x, kernel)


def _backward(plan: TapPlan, form: str | None, operands: tuple[Array, Array], dy: Array):
    gradients = (_taps_gradients, _conv_gradients, _hybrid_gradients)
    forms = {name: functools.partial(run, plan) for name, run in zip(FORMS, gradients, strict=True)}
    return _run(form, forms, *operands, dy)


_depthwise.defvjp(_forward, _backward)


@functools.partial(jax.jit, static_argnames=("stride", "form"))
def depthwise_conv(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k 1 c"],
    stride: int,
    form: str | None = None,
) -> Float[Array, "b oh ow c"]:
    """Each channel of `x` correlated with its own k x k kernel; oh = ceil(h / stride).

    `form` is one of FORMS; None means "taps" on a CPU, "hybrid" on CUDA and "conv" elsewhere. All
    give the same values and gradients up to rounding. The kernel is rounded to the dtype of `x`,
    which is also the dtype of the result.
    """
    if form not in (None, *FORMS):
        raise ValueError(f"form must be one of {', '.join(FORMS)} or None, not {form!r}")
    _, h, w, _ = x.shape
    plan = taps.make_plan(h, w, kernel.shape[0], stride)
    return _depthwise(plan, form, x, kernel)
