"""All forms of the depthwise convolution are a loop in NumPy, forwards and backwards."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kkanji_jax.model.depthwise import FORMS, depthwise_conv
from kkanji_jax.parallel import mesh as mesh_lib

CASES = list(itertools.product((3, 5), (1, 2), (1, 2, 5, 8)))  # kernel, stride, size


def numpy_depthwise(
    x: np.ndarray, kernel: np.ndarray, dy: np.ndarray | None, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The output; with `dy`, also the gradients of sum(output * dy) in x and kernel. float64."""
    b, h, w, c = x.shape
    k = kernel.shape[0]
    oh, ow = -(-h // stride), -(-w // stride)
    above = max((oh - 1) * stride + k - h, 0) // 2  # TensorFlow: the odd row goes below
    left = max((ow - 1) * stride + k - w, 0) // 2
    y, dx, dk = np.zeros((b, oh, ow, c)), np.zeros(x.shape), np.zeros(kernel.shape)
    for row, col, i, j in itertools.product(range(oh), range(ow), range(k), range(k)):
        r, s = row * stride + i - above, col * stride + j - left
        if 0 <= r < h and 0 <= s < w:
            y[:, row, col] += x[:, r, s] * kernel[i, j, 0]
            if dy is not None:
                dx[:, r, s] += dy[:, row, col] * kernel[i, j, 0]
                dk[i, j, 0] += (dy[:, row, col] * x[:, r, s]).sum(axis=0)
    return y, dx, dk


def draw(
    rng: np.random.Generator, kernel_px: int, stride: int, size: int
) -> tuple[np.ndarray, ...]:
    """Image, kernel and output gradient; the image is higher than wide, unless it is one pixel."""
    height = size + (size > 1)
    shapes = (2, height, size, 3), (kernel_px, kernel_px, 1, 3)
    out = (2, -(-height // stride), -(-size // stride), 3)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in (*shapes, out))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kernel_px", "stride", "size"), CASES)
def test_values_and_gradients_are_those_of_a_loop(rng, form, kernel_px, stride, size) -> None:
    x, kernel, dy = draw(rng, kernel_px, stride, size)

    @jax.jit
    def run(x, kernel, dy):
        y, pull_back = jax.vjp(lambda x, kernel: depthwise_conv(x, kernel, stride, form), x, kernel)
        return y, *pull_back(dy)

    results = run(x, kernel, dy)
    wide = [a.astype(np.float64) for a in (x, kernel, dy)]
    exact = numpy_depthwise(wide[0], wide[1], wide[2], stride)
    for ours, theirs in zip(results, exact, strict=True):
        assert ours.dtype == jnp.float32
        # Sums of up to 144 products of size 1: float32 rounding stays near 1e-6.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_images_are_summed_in_float32(rng, form: str) -> None:
    x, kernel, _ = (jnp.asarray(a, jnp.bfloat16) for a in draw(rng, 5, 1, 8))
    ours = depthwise_conv(x, kernel.astype(jnp.float32), 1, form)
    assert ours.dtype == jnp.bfloat16
    exact, _, _ = numpy_depthwise(
        np.asarray(x, np.float64), np.asarray(kernel, np.float64), None, 1
    )
    # Inputs are exact in bfloat16, so only the result is rounded, to 8 bits: 2**-8 of itself.
    np.testing.assert_allclose(np.asarray(ours, np.float64), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_over_devices_the_shares_of_a_kernels_gradient_are_added_up(rng, stride: int) -> None:
    mesh = mesh_lib.make_mesh()
    shapes = (16, 8, 8, 3), (3, 3, 1, 3), (16, 8 // stride, 8 // stride, 3)
    x, kernel, dy = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    split, everywhere = mesh_lib.sharded(mesh), mesh_lib.replicated(mesh)

    @functools.partial(
        jax.jit, in_shardings=(split, everywhere, split), out_shardings=(split, everywhere)
    )
    def gradients(x, kernel, dy):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.vjp(lambda x, k: depthwise_conv(x, k, stride, "hybrid"), x, kernel)[1](dy)

    wide = [a.astype(np.float64) for a in (x, kernel, dy)]
    _, *exact = numpy_depthwise(wide[0], wide[1], wide[2], stride)
    for ours, theirs in zip(gradients(x, kernel, dy), exact, strict=True):
        # Sums of up to 1024 products of size 1.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
    shares = str(jax.make_jaxpr(gradients)(x.astype(jnp.bfloat16), kernel, dy.astype(jnp.bfloat16)))
    assert "f32[8,3,3,1,3]" in shares  # not bf16


def test_on_a_cpu_the_taps_are_run_once_however_many_loops_read_their_sum() -> None:
    def loss(x, kernel):
        y = depthwise_conv(x, kernel, 1)
        return jnp.sum(jnp.square(y - jnp.mean(y, axis=(0, 1, 2))))

    shapes = (
        jax.ShapeDtypeStruct((8, 8, 8, 4), jnp.float32),
        jax.ShapeDtypeStruct((5, 5, 1, 4), jnp.float32),
    )
    analysis = jax.jit(loss).lower(*shapes).compile().cost_analysis()
    taps = 8 * 8 * 8 * 4 * (2 * 25 - 1)
    assert analysis is not None and taps < analysis["flops"] < 1.5 * taps


def compiled_text(form: str | None) -> str:
    """The program of a value and its gradients, as the CPU runs it."""

    def loss(x, kernel):
        return jnp.sum(depthwise_conv(x, kernel, 1, form))

    shapes = (
        jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32),
        jax.ShapeDtypeStruct((3, 3, 1, 3), jnp.float32),
    )
    return (
        jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*shapes).compile().as_text() or ""
    )


def test_on_a_cpu_no_convolution_is_left_by_default() -> None:
    assert " convolution(" not in compiled_text(None)
    assert " convolution(" in compiled_text("conv")  # which is what one would look like


def lowered_for_cuda(stride: int, size: int, form: str | None) -> list[str]:
    """The convolutions of a kernel's and an image's gradient, as they are handed to XLA:GPU."""

    def gradients(x, kernel, dy):
        return jax.vjp(lambda x, k: depthwise_conv(x, k, stride, form), x, kernel)[1](dy)

    out = -(-size // stride)
    shapes = ((2, size, size, 3), (5, 5, 1, 3), (2, out, out, 3))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(gradients).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
    used = re.findall(r"%\w+ = stablehlo.convolution.*", text)
    return [line for line in used if text.count(line.split(" = ")[0]) > 1]


def test_on_cuda_the_kernels_gradient_of_a_small_map_is_no_convolution() -> None:
    assert len(lowered_for_cuda(1, 4, "conv")) == 2
    assert len(lowered_for_cuda(1, 4, None)) == 1  # the image's gradient
    assert len(lowered_for_cuda(1, 8, None)) == 2  # a map larger than the kernel


def test_on_cuda_the_images_gradient_of_a_stride_has_no_zeros_to_multiply_by() -> None:
    dilated = [line for line in lowered_for_cuda(2, 8, "conv") if "lhs_dilate = [2, 2]" in line]
    assert len(dilated) == 1
    (kernels,) = lowered_for_cuda(2, 8, None)
    assert "lhs_dilate = [2, 2]" not in kernels


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(
        ValueError, match="form must be one of taps, conv, hybrid or None, not 'winograd'"
    ):
        depthwise_conv(jnp.zeros((1, 2, 2, 1)), jnp.zeros((3, 3, 1, 1)), 1, "winograd")
