"""The values of weights and statistics before training, each from an address of its own."""

import hashlib
import math

import numpy as np
from jaxtyping import Float32


def initial_value(name: str, shape: tuple[int, ...], seed: int) -> Float32[np.ndarray, "..."]:
    """The value before training of the array that `name` ends in, from its address (seed, name).

    Convolutions: normal of variance 2 / fan_out; the classifier: uniform within 1 / sqrt(fan_out);
    scales and variances 1, the rest 0 (tensorflow/tpu, efficientnet_model.py).
    """
    leaf = name.rstrip("']").rpartition("'")[2]
    if "kernel" not in leaf:
        return np.full(shape, leaf in ("scale", "var"), np.float32)
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    rng = np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))
    is_depthwise = len(shape) == 4 and "depthwise" in leaf
    fan_out = math.prod(shape[:2]) if is_depthwise else math.prod(shape) // shape[-2]
    if "classifier" in name:
        limit = fan_out**-0.5
        return rng.uniform(-limit, limit, shape).astype(np.float32)
    return (rng.standard_normal(shape) * (2.0 / fan_out) ** 0.5).astype(np.float32)
