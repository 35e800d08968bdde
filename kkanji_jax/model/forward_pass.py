"""What a forward pass outside JAX needs besides the weights: constants, padding, resizing.

Used by the ONNX graph and the web page; tests compare all of it with JAX.
"""

import numpy as np

from kkanji_jax.array_types import Float32

NORM_EPSILON = 1e-3  # efficientnet.NORM_EPSILON, in a module that needs JAX
STEM_KERNEL_PX = 3
SCALE = ":scale"  # NAME:scale multiplies the weights NAME where these are whole numbers


def same_padding(size: int, kernel_px: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME" padding along one axis: before and after."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel_px - size, 0)
    return total // 2, total - total // 2


def resize_weights(size: int, out: int) -> Float32[np.ndarray, "out size"]:
    """The matrix of jax.image.resize(..., "linear", antialias=True) along one axis."""
    inverse = size / out
    centres = (np.arange(out, dtype=np.float32) + 0.5) * inverse - 0.5
    distance = np.abs(centres[:, None] - np.arange(size, dtype=np.float32)) / max(inverse, 1.0)
    weights = np.maximum(0, 1 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
