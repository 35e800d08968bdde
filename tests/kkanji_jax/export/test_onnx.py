"""ONNX files pass the strictest checks there are, and say what the recogniser says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.calibration_fit import fit
from kkanji_jax.export.__main__ import main
from kkanji_jax.inference.recogniser import Recogniser, load


@pytest.fixture(scope="module", params=["float16", "bfloat16", "int8"])
def exported(request, tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "bundle"
    arguments = ["--model", str(tiny_run.workdir), "--out", str(out)]
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
    for declared, found in zip(model.graph.output, inferred.graph.output, strict=True):
        assert declared == found
    sides = [
        side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim
    ]
    assert sides == ["n", 64, 64]


def test_the_shapes_that_it_tells_are_those_it_computes(exported: Path):
    """A wrong shape written into a model is what browsers refuse."""
    model = onnx.load(str(exported / "model.onnx"))
    told = list(model.graph.value_info)
    # Of the one thing only that a runtime cannot find itself: gates spread to the size of a map.
    assert told
    assert all(info.name.endswith("/gate:spread") for info in told)
    model.graph.output.extend(told)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = np.zeros((3, 64, 64), np.uint8)
    computed: Any = session.run([info.name for info in told], {"images": images})
    sides = [
        [side.dim_param or side.dim_value for side in i.type.tensor_type.shape.dim] for i in told
    ]
    assert [["n", *array.shape[1:]] for array in computed] == sides
    assert {len(array) for array in computed} == {3}


def test_the_file_beside_the_weights_reads_what_the_bundle_reads(tiny_run, exported: Path):
    files = sorted(tiny_run.source.rglob("*.png"))[:40]
    recogniser = load(exported, backend="jax")
    glyphs = recogniser.glyphs(files)
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    told: Any = session.run(["logits", "features"], {"images": glyphs})
    for ours, expected in zip(told, recogniser.outputs(glyphs), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_its_metadata_tell_the_weights_and_the_characters(exported: Path):
    model = onnx.load(str(exported / "model.onnx"), load_external_data=False)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["index_digest"] == ClassIndex.load(exported / "index.json").digest
    sums = (exported / "SHA256SUMS").read_text()
    assert f"{told['params_sha256']}  params.npz" in sums


# --- one file that holds everything ------------------------------------------------------------


@pytest.fixture(scope="module", params=["calibrated", "not calibrated"])
def alone(request, tiny_run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The self-contained file in a folder of its own, and the run that it was made of."""
    folder = tmp_path_factory.mktemp("alone")
    run = Path(shutil.copytree(tiny_run.workdir, folder / "run"))
    if request.param == "calibrated":
        rng = np.random.default_rng(0)
        logits, labels = 0.1 * rng.normal(size=(200, 6)), rng.integers(0, 6, 200)
        logits[np.arange(200), labels] += 0.3
        calibration = fit(logits, labels, weights="ema", fitted_on={"split": "val"})
        assert not 0.9 < calibration.temperature < 1.1  # it is not nothing that is divided by
        (run / "calibration.json").write_text(json.dumps(calibration.to_json()))
    out = folder / "elsewhere" / "one.onnx"
    arguments = ["--model", str(run), "--onnx", "--self-contained", "--out", str(out)]
    assert main([*arguments, "--dtype", "bfloat16"]) == 0
    return out, run


def test_one_file_reads_what_the_recogniser_reads(alone: tuple[Path, Path], tiny_run):
    out, run = alone
    assert [path.name for path in out.parent.iterdir()] == ["one.onnx"]
    onnx.checker.check_model(str(out), full_check=True)
    rounded = run.parent / "bundle"
    if not rounded.exists():
        flags = ["--dtype", "bfloat16"]
        assert main(["--model", str(run), "--out", str(rounded), *flags]) == 0
    recogniser: Recogniser = load(rounded, backend="onnx")
    files = sorted(tiny_run.source.rglob("*.png"))[:40]
    glyphs = recogniser.glyphs(files)
    session = onnxruntime.InferenceSession(str(out))
    names = ["logits", "features", "probabilities"]
    logits, features, probabilities = (
        np.asarray(a) for a in session.run(names, {"images": glyphs})
    )
    for ours, expected in zip((logits, features), recogniser.outputs(glyphs), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)
    codepoints = json.loads(session.get_modelmeta().custom_metadata_map["codepoints"])
    assert tuple(codepoints) == recogniser.class_index.codepoints
    for own, reading in zip(probabilities, recogniser.predict_glyphs(glyphs, 6), strict=True):
        order = np.argsort(-own)
        assert [codepoints[i] for i in order] == [c.codepoint for c in reading]
        np.testing.assert_allclose(own[order], [c.probability for c in reading], atol=1e-5)


ELSEWHERE = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
images = np.zeros((3, 64, 64), np.uint8)
print([output.shape for output in map(np.asarray, session.run(None, {"images": images}))])
print(sorted({"kkanji_jax", "jax", "onnx"} & sys.modules.keys()))
"""


def test_one_file_loads_where_nothing_else_of_ours_is(alone: tuple[Path, Path], tmp_path: Path):
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(alone[0].read_bytes())
    command = [sys.executable, "-I", "-c", ELSEWHERE, str(moved)]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    width = json.loads(told.stdout.splitlines()[0].replace("(", "[").replace(")", "]"))[1][1]
    assert told.stdout.splitlines() == [f"[(3, 6), (3, {width}), (3, 6)]", "[]"]


def test_one_file_tells_where_it_came_from(alone: tuple[Path, Path]):
    out, run = alone
    told = onnxruntime.InferenceSession(str(out)).get_modelmeta().custom_metadata_map
    about = json.loads(told["about"])
    assert (about["weights"], about["step"]) == ("ema", 7)
    assert json.loads(told["is_calibrated"]) == (run / "calibration.json").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--self-contained", "--out", "{}/folder"], "--out must be FILE.onnx"),
        (["--out", "{}/x.onnx"], "the name of a folder without"),
        (["--self-contained", "--no-onnx", "--out", "{}/x.onnx"], "cannot be had with --no-onnx"),
        (["--self-contained", "--web", "--out", "{}/x.onnx"], "--web is a folder of a bundle"),
        (["--self-contained", "--out", "{}/there.onnx"], "is there already"),
        (["--self-contained", "--out", "{}/x.onnx/"], "x.onnx/ names a folder"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    tiny_run, tmp_path: Path, capsys, flags: list[str], expected: str
):
    (tmp_path / "there.onnx").write_text("mine")
    flags = [flag.format(tmp_path) for flag in flags]
    assert main(["--model", str(tiny_run.workdir), *flags]) == 1
    told = capsys.readouterr().err
    assert expected in told and told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]
    assert (tmp_path / "there.onnx").read_text() == "mine"


def test_a_bundle_may_go_without_the_graph(tiny_run, tmp_path: Path):
    out = tmp_path / "b"
    assert main(["--model", str(tiny_run.workdir), "--no-onnx", "--out", str(out)]) == 0
    assert (out / "params.npz").exists() and not (out / "model.onnx").exists()


def test_without_the_onnx_package_the_extra_is_named(tiny_run, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "kkanji_jax.export.onnx", raising=False)
    monkeypatch.delattr("kkanji_jax.export.onnx", raising=False)
    monkeypatch.delitem(sys.modules, "kkanji_jax.model.onnx_graph", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)  # importing it fails, as if not installed
    arguments = ["--model", str(tiny_run.workdir), "--out", str(tmp_path / "b")]
    assert main([*arguments, "--onnx"]) == 1
    told = capsys.readouterr().err
    assert 'pip install "kkanji_jax[onnx]"' in told and "--no-onnx" in told
    assert told.count("\n") == 1 and not list(tmp_path.iterdir())
    assert main(arguments) == 0
    told = capsys.readouterr().err
    assert told.startswith("without model.onnx") and 'pip install "kkanji_jax[onnx]"' in told
    assert not (tmp_path / "b" / "model.onnx").exists()
    shutil.rmtree(tmp_path / "b")
    assert main([*arguments, "--no-onnx"]) == 0 and not capsys.readouterr().err
