"""The page's compiled loops: each is what NumPy says, and the binary is the source's."""

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kkanji_jax.web import web_page as web

Node = Callable[..., Any]
Array = np.ndarray

SOURCE, BINARY = web.ASSETS / "kernels.c", web.ASSETS / "kernels.wasm"
BUILDER = Path(__file__).parents[3] / "scripts" / "assets" / "build_wasm.py"
PLAIN, SILU, SIGMOID, ADDED = range(4)

COMPILE = """
import { compiled } from "./kernels.js";
const kernels = await compiled(fs.readFileSync(folder + "/kernels.wasm"));
"""


def ran(node: Node, calls: list[tuple[str, list[Any], Array]]) -> list[Array]:
    """What each loop leaves in the array of `calls`, which is one of the arguments it is given."""
    given = [
        {
            "loop": loop,
            "given": [a.ravel().tolist() if isinstance(a, Array) else a for a in arguments],
            "out": next(i for i, a in enumerate(arguments) if a is out),
        }
        for loop, arguments, out in calls
    ]
    told = node(
        COMPILE + f"const answer = {json.dumps(given)}.map(({{ loop, given, out }}) => {{"
        "const kept = given.map((a) => Array.isArray(a) ? kernels.keep(Float32Array.from(a)) : a);"
        "kernels[loop](...kept); return [...kernels.floats(kept[out], given[out].length)]; });"
    )
    pairs = zip(told, calls, strict=True)
    return [np.array(values).reshape(out.shape) for values, (*_, out) in pairs]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def packed(kernel: Array) -> Array:
    """[in][out] as the loop wants it: [out / 8][in][8]."""
    return np.ascontiguousarray(kernel.reshape(len(kernel), -1, 8).swapaxes(0, 1))


def convolved(x: Array, kernel: Array, bias: Array, stride: int) -> Array:
    """Silu of TensorFlow's "SAME" convolution: each channel, or the only one, by its own filter."""
    side, px = len(x), len(kernel)
    out_side = -(-side // stride)
    before = max((out_side - 1) * stride + px - side, 0) // 2
    wide = np.pad(x, ((before, px + stride), (before, px + stride), (0, 0)))
    out = np.empty((out_side, out_side, kernel.shape[2]))
    for row in range(out_side):
        for column in range(out_side):
            y, left = row * stride, column * stride
            out[row, column] = (wide[y : y + px, left : left + px] * kernel).sum((0, 1)) + bias
    return silu(out)


def test_a_matrix_product_is_numpys_for_any_number_of_pixels(node: Node, rng: np.random.Generator):
    after = {PLAIN: lambda x: x, SILU: silu, SIGMOID: sigmoid}
    calls, expected = [], []
    for pixels, num_in, num_out in ((1, 8, 16), (4, 16, 8), (7, 40, 24), (64, 24, 8)):
        x, kernel = rng.normal(size=(pixels, num_in)), rng.normal(size=(num_in, num_out))
        bias, held = rng.normal(size=num_out), rng.normal(size=(pixels, num_out))
        for activation in (PLAIN, SILU, SIGMOID, ADDED):
            arguments = [x, pixels, num_in, packed(kernel), bias, num_out, held, activation]
            calls.append(("dense", arguments, held))
            product = x @ kernel + bias
            expected.append(held + product if activation == ADDED else after[activation](product))
    for theirs, ours in zip(ran(node, calls), expected, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)  # sums of 40 in float32


@pytest.mark.parametrize("loop", ["depthwise", "stem"])
def test_a_convolution_is_numpys_at_every_border(node: Node, rng: np.random.Generator, loop: str):
    calls, expected = [], []
    for side in (1, 2, 3, 4, 5, 7, 8, 12, 17):
        for kernel_px, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
            channels = 16
            x = rng.normal(size=(side, side, channels if loop == "depthwise" else 1))
            kernel = rng.normal(size=(kernel_px, kernel_px, channels))
            bias = rng.normal(size=channels)
            ours = convolved(x, kernel, bias, stride)
            out = np.zeros_like(ours)
            arguments = [x, side, kernel, bias, kernel_px, stride, channels, out]
            calls.append((loop, arguments, out))
            expected.append(ours)
    for theirs, ours in zip(ran(node, calls), expected, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)  # sums of 25 in float32


def test_means_and_gates_are_numpys(node: Node, rng: np.random.Generator):
    x, gates, out = rng.normal(size=(9, 24)), rng.normal(size=24), np.zeros(24)
    means, gated = ran(node, [("mean", [x, 9, 24, out], out), ("gated", [x, 9, 24, gates], x)])
    np.testing.assert_allclose(means, x.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gated, x * gates, rtol=1e-6)


def test_its_exponential_is_good_to_a_millionth(node: Node):
    x = np.linspace(-39.9, 39.9, 8000).astype(np.float32).astype(np.float64)
    far = np.array([-1000, -500, -88, -41, 41, 88, 500, 1000])
    eye, none = packed(np.eye(8)), np.zeros(8)
    calls = []
    for values in (x, far):
        for activation in (SILU, SIGMOID):
            out = np.zeros(len(values))
            arguments = [values, len(values) // 8, 8, eye, none, 8, out, activation]
            calls.append(("dense", arguments, out))
    near_silu, near_sigmoid, far_silu, far_sigmoid = ran(node, calls)
    np.testing.assert_allclose(near_silu, silu(x), rtol=1e-6)
    np.testing.assert_allclose(near_sigmoid, sigmoid(x), rtol=1e-6)
    is_right = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(far_sigmoid, is_right, atol=1e-17)
    np.testing.assert_allclose(far_silu, far * is_right, atol=1e-14)
    assert (far_sigmoid > 1e-20).all()  # or products of it would be subnormal, and slow


def test_a_browser_without_it_is_told_apart_from_a_damaged_page(node: Node):
    told = node(
        'import { compiled, NoWebAssembly } from "./kernels.js";'
        'const bytes = fs.readFileSync(folder + "/kernels.wasm");'
        "const outcome = () => compiled(bytes)"
        "  .then(() => 'runs', (error) => error instanceof NoWebAssembly);"
        "const { WebAssembly } = globalThis; const answer = [await outcome()];"
        "globalThis.WebAssembly = { ...WebAssembly, validate: () => false };"
        "answer.push(await outcome()); delete globalThis.WebAssembly; answer.push(await outcome());"
    )
    assert told == ["runs", True, True]


def test_the_binary_names_the_source_it_was_made_from():
    binary, digest = BINARY.read_bytes(), hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    assert binary.startswith(b"\0asm")
    named = binary.endswith(b"source-sha256" + digest.encode())
    assert named, "kernels.c has changed: python scripts/assets/build_wasm.py"


@pytest.mark.skipif(not BUILDER.is_file(), reason="the source tree is not beside")
def test_the_source_compiles_to_the_very_bytes():
    pytest.importorskip("ziglang", reason="the compiler is not here: pip install '.[wasm]'")
    spec = importlib.util.spec_from_file_location("build_wasm", BUILDER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.compiled(SOURCE) == BINARY.read_bytes()
