"""Depthwise convolution and its gradients as sums of shifted, scaled copies of the image.

A tap is one position of the kernel; each channel has its own weight there.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

# The kernel's gradient sums a product over images and positions, once a tap. XLA would write each
# tap's products to memory before it adds them up, so a scan takes a few images at a time, which
# stay in the cache, and adds this many products by hand, in one loop.
PRODUCTS_PER_LOOP = 16
MAX_ROW_BLOCKS = 4
GROUPS_PER_SUM = 64


class Axis(NamedTuple):
    """Sizes, live taps and padding along one axis.

    A tap that only ever meets padding (the outer ring of a 5x5 kernel on a 2x2 map) is dead:
    `first` is the first live tap, and `taps` is the number of live ones.
    """

    size: int
    out: int
    first: int
    taps: int
    before: int
    after: int


def _axis(size: int, kernel_px: int, stride: int) -> Axis:
    out = -(-size // stride)
    reach = (out - 1) * stride
    padding = max(reach + kernel_px - size, 0) // 2
    first = max(padding - reach, 0)
    taps = min(kernel_px, size + padding) - first
    before = padding - first
    return Axis(size, out, first, taps, before, max(reach + taps - before - size, 0))


class TapPlan(NamedTuple):
    """Everything about one depthwise convolution that is static."""

    rows: Axis
    cols: Axis
    stride: int


def make_plan(height: int, width: int, kernel_px: int, stride: int) -> TapPlan:
    """TensorFlow's "SAME" padding of a map of height x width."""
    return TapPlan(_axis(height, kernel_px, stride), _axis(width, kernel_px, stride), stride)


def live(plan: TapPlan, kernel: Array) -> Array:
    """The kernel without its dead taps."""
    rows, cols = (slice(axis.first, axis.first + axis.taps) for axis in (plan.rows, plan.cols))
    return kernel[rows, cols]


def _pad(plan: TapPlan, x: Array) -> Array:
    rows, cols = ((axis.before, axis.after) for axis in (plan.rows, plan.cols))
    return jnp.pad(x, ((0, 0), rows, cols, (0, 0)))


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


def once(compute: Callable[[Array, Array], Array], x: Array, kernel: Array) -> Array:
    """compute(x, kernel), computed once; NaN throughout if the kernel's first weight is NaN.

    On a CPU, XLA fuses the taps into every loop that reads their sum, and so computes them up to
    eight times in a training step. It cannot fuse the result of a branch, and cannot know which
    branch is taken. (An optimization_barrier would be removed before fusion.)
    """
    shape = jax.eval_shape(compute, x, kernel)

    def give_up(x: Array, kernel: Array) -> Array:
        del x, kernel
        return jnp.full(shape.shape, jnp.nan, shape.dtype)

    return lax.cond(jnp.isnan(kernel[0, 0, 0, 0]), give_up, compute, x, kernel)


def convolve(plan: TapPlan, x: Array, kernel: Array) -> Array:
    """The kernel's taps, each over the whole image."""
    padded = _pad(plan, x)
    return _correlate(padded, live(plan, kernel), plan.rows.out, plan.cols.out, plan.stride)


def image_gradient(plan: TapPlan, dy: Array, kernel: Array) -> Array:
    """dy correlated with the kernel turned by 180 degrees."""
    if plan.stride > 1:
        return _phased_image_gradient(plan, dy, kernel)
    rows, cols = ((axis.taps - 1 - axis.before, axis.before) for axis in (plan.rows, plan.cols))
    padded = jnp.pad(dy, ((0, 0), rows, cols, (0, 0)))
    turned = live(plan, kernel)[::-1, ::-1]
    return _correlate(padded, turned, plan.rows.size, plan.cols.size, 1)


def _phased_image_gradient(plan: TapPlan, dy: Array, kernel: Array) -> Array:
    """`image_gradient` of a strided convolution, without multiplying by inserted zeros.

    Pixels at the same place relative to the stride meet the same taps, every `stride`-th of the
    kernel's. So there is one small correlation with dy for each place, and the results are
    interleaved.
    """
    stride, taps = plan.stride, live(plan, kernel)
    reaches = [-(-(axis.size + axis.before) // stride) for axis in (plan.rows, plan.cols)]

    def phase(row: int, col: int) -> Array:
        part = taps[row::stride, col::stride][::-1, ::-1]
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


def kernel_gradient(plan: TapPlan, x: Array, kernel: Array, dy: Array) -> Array:
    """One sum of products for each live tap, accumulated in float32; zero for dead taps.

    The scan runs along the batch. If the batch is split over several CPU devices the result is
    still right, but each device then goes through the whole batch.
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


def summed_kernel_gradient(plan: TapPlan, x: Array, kernel: Array, dy: Array) -> Array:
    """`kernel_gradient` as one sum over images and positions, of all taps at once.

    If it summed tap by tap, XLA:GPU would write each tap's products to memory first. Groups of
    images are the outer loop, so that pixels read by several taps are still in the cache.
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


def _as_kernel(plan: TapPlan, sums: Array, kernel: Array) -> Array:
    """The gradients of the live taps, row by row, at their places in a kernel, in its dtype."""
    rows, cols, _ = plan
    gradients = sums.reshape(rows.taps, cols.taps, 1, -1).astype(kernel.dtype)
    dead_rows, dead_cols = (
        (axis.first, num_taps - axis.first - axis.taps)
        for axis, num_taps in zip((rows, cols), kernel.shape[:2], strict=True)
    )
    return jnp.pad(gradients, (dead_rows, dead_cols, (0, 0), (0, 0)))


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)
