"""Compiles small steps for an H100, one of them with two planted faults; run by its neighbour.

The network is four blocks as B0 has them, the last one on a map smaller than its kernel. Prints the
objections to each step as JSON.
"""

import functools
import json
import sys
from unittest import mock

import h100_structure

h100_structure.prepare()

import jax.numpy as jnp  # noqa: E402

from kkanji_jax.model import depthwise, efficientnet, variants  # noqa: E402

IMAGES = 256
STAGES = tuple(
    variants.Stage(
        kernel_px=kernel_px, stride=stride, expand_ratio=6, out_channels=channels, num_blocks=1
    )
    for kernel_px, stride, channels in ((3, 2, 24), (3, 2, 40), (3, 2, 80), (5, 1, 112))
)


def figures(dtype: str) -> h100_structure.Figures:
    compiled, state_bytes = h100_structure.compile_step(
        {"dtype": dtype}, images=IMAGES, num_classes=16
    )
    return h100_structure.measure(compiled, state_bytes, IMAGES, num_steps=10)


def wide_silu(x):
    """What one forgotten cast makes of every activation after it."""
    x = x.astype(jnp.float32)
    return x / (1 + jnp.exp(-x))


def main() -> int:
    grouped = functools.partial(depthwise.depthwise_conv, form="conv")
    with mock.patch.object(variants, "STAGES", STAGES):
        wide = figures("float32")
        found = {"as it is": figures("bfloat16")}
        with (
            mock.patch.object(efficientnet.jax.nn, "silu", wide_silu),
            mock.patch.object(efficientnet, "depthwise_conv", grouped),
        ):
            found["planted"] = figures("bfloat16")
    objections = {n: h100_structure.objections(f, wide, None) for n, f in found.items()}
    print(json.dumps(objections))
    print(h100_structure.table({"float32": wide, **found}), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
