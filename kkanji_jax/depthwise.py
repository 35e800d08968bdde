"""Depthwise convolution with TensorFlow's "SAME" padding, in the form that suits each platform.

`conv` is XLA's grouped convolution. `taps` adds up shifted, scaled copies of the image: on a CPU
XLA runs those as fused vector loops, and a grouped convolution as something far slower. `hybrid`,
for CUDA, is `conv` save for the two gradients that XLA hands to cuDNN in a wasteful shape.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

FORMS = ("taps", "conv", "hybrid")

# The kernel's gradient sums a product over images and positions, once a tap. XLA would write each
# tap's products to memory before it adds them up, so a scan takes a few images at a time, which
# stay in the cache, and adds this many products by hand, in one loop.
PRODUCTS_PER_LOOP = 16
MAX_ROW_BLOCKS = 4
GROUPS_PER_SUM = 64


class _Axis(NamedTuple):
    """Sizes, live taps and padding along one axis.

    A tap that only ever meets padding (the outer ring of a 5x5 kernel on a 2x2 map) is dead:
    `first` is the first live tap, and `taps` counts the live ones.
    """

    size: int
    out: int
    first: int
    taps: int
    before: int
    after: int


def _axis(size: int, kernel_px: int, stride: int) -> _Axis:
    out = -(-size // stride)
    reach = (out - 1) * stride
    padding = max(reach + kernel_px - size, 0) // 2
    first = max(padding - reach, 0)
    taps = min(kernel_px, size + padding) - first
    before = padding - first
    return _Axis(size, out, first, taps, before, max(reach + taps - before - size, 0))


class _Plan(NamedTuple):
    """All that is static in one depthwise convolution."""

    rows: _Axis
    cols: _Axis
    stride: int


def _pad(plan: _Plan, x: Array) -> Array:
    rows, cols = ((axis.before, axis.after) for axis in (plan.rows, plan.cols))
    return jnp.pad(x, ((0, 0), rows, cols, (0, 0)))


def _live(plan: _Plan, kernel: Array) -> Array:
    rows, cols = (slice(axis.first, axis.first + axis.taps) for axis in (plan.rows, plan.cols))
    return kernel[rows, cols]


def _window(x: Array, row: int, col: int, num_rows: int, num_cols: int, stride: int) -> Array:
    """Every `stride`-th pixel from (row, col) on, num_rows x num_cols of them, in float32."""
    start = (0, row, col, 0)
    end_row, end_col = row + (num_rows - 1) * stride + 1, col + (num_cols - 1) * stride + 1
    end = (x.shape[0], end_row, end_col, x.shape[3])
    return lax.slice(x, start, end, (1, stride, stride, 1)).astype(jnp.float32)


def _correlate(padded: Array, kernel: Array, num_rows: int, num_cols: int, stride: int) -> Array:
    kernel = kernel.astype(padded.dtype).astype(jnp.float32)
    terms = (
        _window(padded, i, j, num_rows, num_cols, stride) * kernel[i, j][None, None]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    )
    return functools.reduce(operator.add, terms).astype(padded.dtype)


def _taps(plan: _Plan, x: Array, kernel: Array) -> Array:
    padded = _pad(plan, x)
    return _correlate(padded, _live(plan, kernel), plan.rows.out, plan.cols.out, plan.stride)


def _phased_image_gradient(plan: _Plan, kernel: Array, dy: Array) -> Array:
    """`_image_gradient` without zeros to multiply by.

    Pixels that lie alike in the stride meet the same taps, every `stride`-th of the kernel's: one
    small correlation with dy for each of the stride's places, and the results laced together.
    """
    stride, live = plan.stride, _live(plan, kernel)
    reaches = [-(-(axis.size + axis.before) // stride) for axis in (plan.rows, plan.cols)]

    def phase(row: int, col: int) -> Array:
        part = live[row::stride, col::stride][::-1, ::-1]
        if not part.size:
            return jnp.zeros((dy.shape[0], *reaches, dy.shape[3]), dy.dtype)
        edges = [
            (num_taps - 1, reach - axis.out, 0)
            for num_taps, reach, axis in zip(
                part.shape, reaches, (plan.rows, plan.cols), strict=False
            )
        ]
        padded = lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
        return _correlate(padded, part, reaches[0], reaches[1], 1)

    places = range(stride)
    lines = [jnp.stack([phase(row, col) for col in places], axis=3) for row in places]
    laced = jnp.stack(lines, axis=2)  # [b reach stride reach stride c]
    laced = laced.reshape(dy.shape[0], reaches[0] * stride, reaches[1] * stride, dy.shape[3])
    rows, cols = (slice(axis.before, axis.before + axis.size) for axis in (plan.rows, plan.cols))
    return laced[:, rows, cols]


def _taps_gradients(plan: _Plan, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    return _image_gradient(plan, kernel, dy), _kernel_gradient(plan, x, kernel, dy)


def _image_gradient(plan: _Plan, kernel: Array, dy: Array) -> Array:
    """dy, its pixels `stride` apart, correlated with the kernel turned by 180 degrees."""

    def spread(axis: _Axis) -> tuple[int, int, int]:
        after = axis.size - 1 - (axis.out - 1) * plan.stride + axis.before
        return axis.taps - 1 - axis.before, after, plan.stride - 1

    edges = ((0, 0, 0), spread(plan.rows), spread(plan.cols), (0, 0, 0))
    padded = lax.pad(dy, jnp.zeros((), dy.dtype), edges)
    turned = _live(plan, kernel)[::-1, ::-1]
    return _correlate(padded, turned, plan.rows.size, plan.cols.size, 1)


def _kernel_gradient(plan: _Plan, x: Array, kernel: Array, dy: Array) -> Array:
    """One sum of products a live tap, accumulated in float32; zero for dead taps.

    The scan runs along the batch: split over several CPU devices, it still gives the right sum,
    but each device then walks through the whole batch.
    """
    rows, cols, stride = plan
    b, *_, c = x.shape
    block = rows.out // _largest_divisor(rows.out, MAX_ROW_BLOCKS)
    images = _largest_divisor(b, PRODUCTS_PER_LOOP * block // rows.out)
    taps = [(i, j) for i in range(rows.taps) for j in range(cols.taps)]

    def add_chunk(sums: list[Array], chunk: tuple[Array, Array]) -> tuple[list[Array], None]:
        added = []
        for (i, j), total in zip(taps, sums, strict=True):
            for padded, gradient in zip(*(jnp.split(part, images) for part in chunk), strict=True):
                for row in range(0, rows.out, block):
                    window = _window(padded, i + row * stride, j, block, cols.out, stride)
                    total += window * _window(gradient, row, 0, block, cols.out, 1)
            added.append(total)
        return added, None

    def chunked(part: Array) -> Array:
        return part.reshape(b // images, images, *part.shape[1:])

    zeros = [jnp.zeros((1, block, cols.out, c), jnp.float32) for _ in taps]
    sums, _ = lax.scan(add_chunk, zeros, (chunked(_pad(plan, x)), chunked(dy)))
    return _as_kernel(plan, jnp.stack([jnp.sum(total, (0, 1, 2)) for total in sums]), kernel)


def _summed_kernel_gradient(plan: _Plan, x: Array, kernel: Array, dy: Array) -> Array:
    """`_kernel_gradient` as one sum over images and positions, of all taps at once.

    Summed tap by tap, XLA:GPU writes each tap's products to memory first. Groups of images come
    before the taps, so that what several taps read is still in the cache.
    """
    groups = _largest_divisor(x.shape[0], GROUPS_PER_SUM)
    padded, (rows, cols, stride) = _pad(plan, x), plan
    windows = [
        _window(padded, i, j, rows.out, cols.out, stride)
        for i in range(rows.taps)
        for j in range(cols.taps)
    ]
    products = jnp.stack([_grouped(window, groups) for window in windows], axis=1)
    products *= _grouped(dy.astype(jnp.float32), groups)[:, None]
    return _as_kernel(plan, jnp.sum(jnp.sum(products, axis=(2, 3, 4)), axis=0), kernel)


def _grouped(images: Array, groups: int) -> Array:
    return images.reshape(groups, -1, *images.shape[1:])


def _as_kernel(plan: _Plan, sums: Array, kernel: Array) -> Array:
    """The live taps' gradients, row by row, in the kernel's place and dtype."""
    rows, cols, _ = plan
    live = sums.reshape(rows.taps, cols.taps, 1, -1).astype(kernel.dtype)
    dead_rows, dead_cols = (
        (axis.first, num_taps - axis.first - axis.taps)
        for axis, num_taps in zip((rows, cols), kernel.shape[:2], strict=True)
    )
    return jnp.pad(live, (dead_rows, dead_cols, (0, 0), (0, 0)))


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def _conv(plan: _Plan, x: Array, kernel: Array) -> Array:
    """XLA's grouped convolution, of the live taps."""
    return lax.conv_general_dilated(
        x,
        _live(plan, kernel).astype(x.dtype),
        (plan.stride, plan.stride),
        [(axis.before, axis.after) for axis in (plan.rows, plan.cols)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _conv_gradients(plan: _Plan, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    return jax.vjp(functools.partial(_conv, plan), x, kernel)[1](dy)


def _hybrid_gradients(plan: _Plan, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    """Those of `conv`, but for two shapes.

    XLA would run the image's gradient of a stride on an image of mostly zeros. And the kernel's
    gradient of a map no larger than the kernel looks to it like a convolution forwards, with the
    batch for channels: one output a group, which no cuDNN kernel is made for.
    """
    rows, cols, stride = plan
    if stride > 1:
        image_gradient = _phased_image_gradient(plan, kernel, dy)
    else:
        (image_gradient,) = jax.linear_transpose(lambda x: _conv(plan, x, kernel), x)(dy)
    if stride == 1 and rows.out <= rows.taps and cols.out <= cols.taps:
        kernel_gradient = _summed_kernel_gradient(plan, x, kernel, dy)
    else:
        (kernel_gradient,) = jax.linear_transpose(lambda k: _conv(plan, x, k), kernel)(dy)
    return image_gradient, kernel_gradient


def _run(form: str | None, forms: dict[str, Callable], *operands: Array):
    """A form's function of the operands, or the platform's where form is None.

    The platform is looked up when the program is lowered, not when it is traced, so that one trace
    exports to any; the compiler sees one branch only. The choice stands inside the custom gradient,
    where nothing differentiates it: a gradient through it would keep all branches' residuals.
    """
    if form is not None:
        return forms[form](*operands)
    cpu, default, cuda = (forms[name] for name in FORMS)
    return lax.platform_dependent(*operands, cpu=cpu, cuda=cuda, default=default)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise(plan: _Plan, form: str | None, x: Array, kernel: Array) -> Array:
    taps, conv = (functools.partial(run, plan) for run in (_taps, _conv))
    return _run(form, {"taps": taps, "conv": conv, "hybrid": conv}, x, kernel)


def _forward(plan: _Plan, form: str | None, x: Array, kernel: Array):
    return _depthwise(plan, form, x, kernel), (x, kernel)


def _backward(plan: _Plan, form: str | None, operands: tuple[Array, Array], dy: Array):
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

    `form` is one of FORMS; None takes "taps" on a CPU, "hybrid" on CUDA and "conv" elsewhere. All
    give the same values and gradients to rounding. The kernel is rounded to x's dtype, which the
    result has.
    """
    if form not in (None, *FORMS):
        raise ValueError(f"form must be one of {', '.join(FORMS)} or None, got {form!r}")
    _, h, w, _ = x.shape
    k = kernel.shape[0]
    return _depthwise(_Plan(_axis(h, k, stride), _axis(w, k, stride), stride), form, x, kernel)
