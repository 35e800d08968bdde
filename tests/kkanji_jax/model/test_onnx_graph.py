"""The ONNX graph computes what JAX computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.inference.recogniser import load
from kkanji_jax.model import efficientnet, forward_pass
from kkanji_jax.model.network import init_variables
from kkanji_jax.model.onnx_graph import model_in_memory
from kkanji_jax.saved.bundle import flatten


def logits_of_jax(model: dict, num_classes: int, glyphs: np.ndarray):
    """Logits, features and variables of a random network, its statistics those of `glyphs`.

    Statistics of no image leave a deep network without normalisation: its values grow from block
    to block until the gates of squeeze-and-excite are steps, which the order of a sum can throw.
    """
    import jax
    from flax import nnx

    from kkanji_jax.model.efficientnet import NORM_MOMENTUM
    from kkanji_jax.model.network import (
        init_variables,
        make_graphdef,
        make_logits_fn,
        network_input,
    )

    rng = np.random.default_rng(0)

    def shake(leaf: np.ndarray) -> np.ndarray:
        shift = rng.normal(0, 0.1, leaf.shape) if leaf.ndim == 1 else 0
        return (leaf + shift).astype(np.float32)

    graphdef = make_graphdef(model, num_classes)
    params, stats = init_variables(model, num_classes, 3)
    params = jax.tree.map(shake, params)

    @jax.jit
    def train(params: dict, stats: dict, glyphs: jax.Array) -> dict:
        network = nnx.merge(graphdef, params, stats)
        network(network_input(glyphs, model["image_px"]), train=True, rngs=nnx.Rngs(0))
        return nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

    seen = train(params, jax.tree.map(np.zeros_like, stats), glyphs)
    stats = jax.tree.map(lambda moment: np.asarray(moment) / (1 - NORM_MOMENTUM), seen)
    run = make_logits_fn(graphdef, model["image_px"])
    logits, features = run(params, stats, jax.device_put(glyphs))
    return np.asarray(logits), np.asarray(features), params, stats


MODEL = {
    "variant": "nano",
    "image_px": 64,
    "stem_stride": 2,
    "last_stride": 2,
    "dropout": None,
    "drop_path": 0.0,
    "norm_group": None,
    "dtype": "float32",
}


@pytest.mark.parametrize(
    "difference",
    [
        pytest.param({"image_px": 33, "stem_stride": 1}, id="33 px, stem stride 1"),
        pytest.param({"image_px": 48, "last_stride": 1}, id="48 px, last stride 1"),
        pytest.param({}, id="64 px", marks=pytest.mark.slow),
        pytest.param({"variant": "b0"}, id="B0", marks=pytest.mark.slow),
    ],
)
def test_it_says_what_jax_says(difference: dict, rng: np.random.Generator):
    model = MODEL | difference
    glyphs = rng.integers(0, 256, (5, 64, 64), np.uint8)
    index = ClassIndex.from_codepoints(f"U+4E{n:02X}" for n in range(7))
    logits, features, params, stats = logits_of_jax(model, 7, glyphs)
    variables = flatten(params, "params") | flatten(stats, "batch_stats")
    content = model_in_memory(model, index, variables)
    onnx.checker.check_model(content, full_check=True)
    session = onnxruntime.InferenceSession(content)
    told: Any = session.run(["logits", "features"], {"images": glyphs})
    # Float32 sums in another order, through ten layers or B0's eighty.
    reach = 1e-3 if model["variant"] == "b0" else 1e-4
    np.testing.assert_allclose(told[0], logits, rtol=reach, atol=reach * np.abs(logits).max())
    np.testing.assert_allclose(told[1], features, rtol=reach, atol=reach * np.abs(features).max())
    assert np.ptp(logits, axis=0).min() > 1e3 * np.abs(told[0] - logits).max()
    one: Any = session.run(["logits"], {"images": glyphs[:1]})[0]
    np.testing.assert_allclose(one, told[0][:1], rtol=reach, atol=reach * np.abs(logits).max())


def test_weights_of_another_network_are_refused(rng: np.random.Generator):
    index = ClassIndex.from_codepoints(["U+4E00"])
    with pytest.raises(ValueError, match="expected a variable"):
        model_in_memory(MODEL, index, {"params/stem_kernel": np.ones((3, 3, 1, 8), "f")})


def test_its_constants_are_the_networks():
    assert forward_pass.NORM_EPSILON == efficientnet.NORM_EPSILON
    assert forward_pass.STEM_KERNEL_PX == efficientnet.STEM_KERNEL_PX


@pytest.mark.parametrize(("size", "out"), [(64, 32), (64, 33), (64, 8), (64, 63)])
def test_the_resizing_matrix_is_jaxs(size: int, out: int):
    import jax

    expected = jax.image.resize(np.eye(size, dtype="f"), (out, size), "linear", antialias=True)
    np.testing.assert_allclose(forward_pass.resize_weights(size, out), expected, atol=5e-6)


@pytest.mark.slow
def test_a_thousand_real_images_are_read_alike(real_source: Path):
    """On the model that ships: its logits are what rounding must not change."""
    try:
        by_jax, by_onnx = load(None), load(None, backend="onnx")
    except ValueError as err:
        pytest.skip(f"{err}")
    files = sorted((real_source / "kkanji2").rglob("*.png"))
    glyphs = by_jax.glyphs(files[:: len(files) // 1000][:1000])
    expected, told = by_jax.outputs(glyphs)[0], by_onnx.outputs(glyphs)[0]
    assert len(expected) == 1000
    # 2e-5 was measured, on logits up to 11.
    assert np.abs(told - expected).max() < 1e-3
    assert (told.argmax(1) == expected.argmax(1)).all()


def test_a_runtime_keeps_its_blocked_layout_through_the_gates(tmp_path: Path):
    """A gate that is not as large as its map, or is not told to be, costs 6 % of the time."""
    model = MODEL | {"image_px": 32}
    index = ClassIndex.from_codepoints(f"U+4E{n:02X}" for n in range(7))
    params, stats = init_variables(model, len(index), 3)
    variables = flatten(params, "params") | flatten(stats, "batch_stats")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(model_in_memory(model, index, variables), options)
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    blocked = "com.microsoft.nchwc"
    if not any(node.domain == blocked for node in nodes):
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    maker = {name: node for node in nodes for name in node.output}
    gates = [maker[node.input[1]] for node in nodes if node.name.endswith("/excited")]
    assert len(gates) == len(params["blocks"])
    assert {(gate.op_type, gate.domain) for gate in gates} == {("Upsample", blocked)}
