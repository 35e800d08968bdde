"""The ONNX graph computes what JAX computes, and passes the strictest checks there are."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.export.__main__ import main
from kkanji_jax.inference.recogniser import load
from kkanji_jax.model import efficientnet, protobuf
from kkanji_jax.model import onnx_graph as onnx_lib
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
    "dropout": None,
    "drop_path": 0.0,
    "dtype": "float32",
}


@pytest.mark.parametrize(
    "difference",
    [
        pytest.param({"image_px": 33, "stem_stride": 1}, id="33 px, stem stride 1"),
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
    content = onnx_lib.onnx_bytes(model, index, variables)
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


@pytest.fixture(scope="module", params=["float16", "bfloat16"])
def exported(request, tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "bundle"
    arguments = ["--model", str(tiny_run.workdir), "--out", str(out), "--onnx"]
    assert main([*arguments, "--dtype", request.param]) == 0
    return out


def test_the_file_beside_the_weights_is_strictly_valid_and_small(exported: Path):
    path = exported / "model.onnx"
    assert path.stat().st_size < 150_000  # no weight is in it
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    known = {v.name for v in inferred.graph.value_info} | {v.name for v in inferred.graph.output}
    assert {name for node in inferred.graph.node for name in node.output} <= known
    # A wrong shape written into a model is what browsers refuse; what is declared must be inferred.
    assert not model.graph.value_info
    for declared, found in zip(model.graph.output, inferred.graph.output, strict=True):
        assert declared == found
    sides = [
        side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim
    ]
    assert sides == ["n", 64, 64]


def test_the_file_beside_the_weights_reads_what_the_bundle_reads(tiny_run, exported: Path):
    files = sorted(tiny_run.source.rglob("*.png"))[:40]
    recogniser = load(exported, backend="onnx")
    glyphs = recogniser._glyphs_of(files)
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    told: Any = session.run(["logits", "features"], {"images": glyphs})
    for ours, wanted in zip(told, recogniser.outputs(glyphs), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


def test_its_metadata_are_read_back_as_onnx_reads_them(exported: Path):
    told = protobuf.read_metadata(exported / "model.onnx")
    model = onnx.load(str(exported / "model.onnx"), load_external_data=False)
    assert told == {entry.key: entry.value for entry in model.metadata_props}
    assert told["index_digest"] == ClassIndex.load(exported / "index.json").digest


def test_a_file_that_is_no_model_is_named(tmp_path: Path):
    (tmp_path / "x.onnx").write_text("<!doctype html><title>404</title>")
    with pytest.raises(ValueError, match=r"x\.onnx is damaged"):
        protobuf.read_metadata(tmp_path / "x.onnx")


def test_weights_of_another_network_are_refused(rng: np.random.Generator):
    index = ClassIndex.from_codepoints(["U+4E00"])
    with pytest.raises(ValueError, match="wanted a variable"):
        onnx_lib.onnx_bytes(MODEL, index, {"params/stem_kernel": np.ones((3, 3, 1, 8), "f")})


def test_its_constants_are_the_networks():
    assert onnx_lib.NORM_EPSILON == efficientnet.NORM_EPSILON
    assert onnx_lib.STEM_KERNEL_PX == efficientnet.STEM_KERNEL_PX


@pytest.mark.parametrize(("size", "out"), [(64, 32), (64, 33), (64, 8), (64, 63)])
def test_the_resizing_matrix_is_jaxs(size: int, out: int):
    import jax

    wanted = jax.image.resize(np.eye(size, dtype="f"), (out, size), "linear", antialias=True)
    np.testing.assert_allclose(onnx_lib.resize_weights(size, out), wanted, atol=5e-6)


@pytest.mark.slow
def test_a_thousand_real_images_are_read_alike(real_source: Path):
    """On the model that ships: its logits are what rounding must not change."""
    try:
        by_jax, by_onnx = load(None), load(None, backend="onnx")
    except ValueError as err:
        pytest.skip(f"{err}")
    files = sorted((real_source / "kkanji2").rglob("*.png"))
    glyphs = by_jax._glyphs_of(files[:: len(files) // 1000][:1000])
    wanted, told = by_jax.outputs(glyphs)[0], by_onnx.outputs(glyphs)[0]
    assert len(wanted) == 1000
    # 2e-5 was measured, on logits up to 11.
    assert np.abs(told - wanted).max() < 1e-3
    assert (told.argmax(1) == wanted.argmax(1)).all()
