"""A matrix product in the activations' dtype, whose weights' gradients are float32."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32

_ROWS = (((0,), (0,)), ((), ()))  # contracts the rows of both
_COLUMNS = (((1,), (1,)), ((), ()))  # contracts the columns of both


@jax.custom_vjp
def dense(
    x: Float[Array, "n c"], kernel: Float32[Array, "c d"], bias: Float32[Array, " d"] | None = None
) -> Float[Array, "n d"]:
    """x @ kernel + bias in the dtype of `x`.

    The gradients of kernel and bias are summed over the rows in float32 and stay float32. Autodiff
    would round each device's part to bfloat16 before the parts are added, which loses 16 bits, and
    float32 and bfloat16 gradients would be communicated separately.
    """
    y = x @ kernel.astype(x.dtype)
    return y if bias is None else y + bias.astype(x.dtype)[None]


Saved = tuple[Array, Array, Array | None]


def _forward(x: Array, kernel: Array, bias: Array | None) -> tuple[Array, Saved]:
    return dense(x, kernel, bias), (x, kernel, bias)


def _backward(saved: Saved, grad: Array) -> Saved:
    x, kernel, bias = saved
    to_x = lax.dot_general(grad, kernel.astype(grad.dtype), _COLUMNS)
    to_kernel = lax.dot_general(x, grad, _ROWS, preferred_element_type=jnp.float32)
    to_bias = None if bias is None else jnp.sum(grad, axis=0, dtype=jnp.float32)
    return to_x, to_kernel, to_bias


dense.defvjp(_forward, _backward)
