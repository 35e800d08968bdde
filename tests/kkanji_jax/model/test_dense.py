"""The matrix product: its values, and gradients of weights that are not rounded to bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kkanji_jax.model.dense import dense


def operands(dtype: jnp.dtype) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """x [192 24], kernel [24 40], bias [40], and a gradient [192 40] of the result."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(192, 24), (24, 40), (40,), (192, 40)]
    x, kernel, bias, grad = (
        jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)
    )
    return x.astype(dtype), kernel, bias, grad.astype(dtype)


@pytest.mark.parametrize("has_bias", [True, False])
def test_float32_is_what_autodiff_of_the_plain_product_gives(has_bias: bool) -> None:
    x, kernel, bias, grad = operands(jnp.float32)
    given = (x, kernel, bias) if has_bias else (x, kernel)

    def plain(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
        return x @ kernel if bias is None else x @ kernel + bias[None]

    ours, our_vjp = jax.vjp(dense, *given)
    theirs, their_vjp = jax.vjp(plain, *given)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for found, expected in zip(our_vjp(grad), their_vjp(grad), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_gradients_of_bfloat16_weights_are_exact_sums_of_its_products() -> None:
    x, kernel, bias, grad = operands(jnp.bfloat16)
    result, vjp = jax.vjp(dense, x, kernel, bias)
    to_x, to_kernel, to_bias = vjp(grad)
    assert (result.dtype, to_x.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert (to_kernel.dtype, to_bias.dtype) == (jnp.float32, jnp.float32)
    wide_x, wide_grad = np.asarray(x, np.float64), np.asarray(grad, np.float64)
    # Rounded to bfloat16, the largest of these would be off by up to 0.1.
    np.testing.assert_allclose(to_kernel, wide_x.T @ wide_grad, rtol=0, atol=1e-4)
    np.testing.assert_allclose(to_bias, wide_grad.sum(axis=0), rtol=0, atol=1e-4)
