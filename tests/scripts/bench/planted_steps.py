"""Compiles small steps for an H100, two of them with a planted fault; run by its neighbour.

The network has B0's widths, one block a stage. Prints the objections to each step as JSON.
"""

import functools
import json
import sys
from unittest import mock

import h100_structure

h100_structure.prepare()

import jax.numpy as jnp  # noqa: E402

from kkanji_jax import depthwise, efficientnet, variants  # noqa: E402

IMAGES = 256


def figures(dtype: str) -> h100_structure.Figures:
    fields = {"variant": "cut", "dtype": dtype}
    compiled, state_bytes = h100_structure.compile_step(fields, images=IMAGES, num_classes=16)
    return h100_structure.measure(compiled, state_bytes, IMAGES, num_steps=10)


def wide_silu(x):
    """What one forgotten cast makes of every activation after it."""
    x = x.astype(jnp.float32)
    return x / (1 + jnp.exp(-x))


def main() -> int:
    cut = variants.Variant(width=1.0, depth=0.25, image_px=64, dropout=0.2)
    with mock.patch.dict(variants.VARIANTS, {"cut": cut}):
        wide = figures("float32")
        found = {"as it is": figures("bfloat16")}
        with mock.patch.object(efficientnet.jax.nn, "silu", wide_silu):
            found["float32 cast"] = figures("bfloat16")
        grouped = functools.partial(depthwise.depthwise_conv, form="conv")
        with mock.patch.object(efficientnet, "depthwise_conv", grouped):
            found["grouped gradient"] = figures("bfloat16")
    objections = {n: h100_structure.objections(f, wide, None) for n, f in found.items()}
    print(json.dumps(objections))
    print(h100_structure.table({"float32": wide, **found}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
