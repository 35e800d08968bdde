"""`--backend onnx`: a bundle asks for ONNX Runtime, NumPy and Pillow, a run for onnx too."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.export.__main__ import main
from kkanji_jax.files import write_sums
from kkanji_jax.inference.onnx_backend import OnnxBackend
from kkanji_jax.inference.recogniser import load

# Runs predict where some packages are not installed; then says which of them were loaded after all.
PREDICT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

MISSING = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Missing())
from kkanji_jax.predict import main
status = main(sys.argv[2:])
assert not MISSING & sys.modules.keys()
sys.exit(status)
"""
NOT_NEEDED = "jax,jaxlib,flax,optax,orbax,grain,onnx,ml_dtypes,google,jaxtyping,absl,scipy"


def predict(missing: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PREDICT, missing, *map(str, arguments), "--backend", "onnx"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def bundle(tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    assert main(["--model", str(tiny_run.workdir), "--out", str(out)]) == 0
    return out


def without_graph(bundle: Path, folder: Path) -> Path:
    copy = Path(shutil.copytree(bundle, folder / "bare"))
    (copy / "model.onnx").unlink()
    write_sums(copy)
    return copy


def test_a_bundle_is_read_with_onnxruntime_numpy_and_pillow_alone(tiny_run, bundle: Path):
    image = next(iter(sorted(tiny_run.source.rglob("*.png"))))
    told = predict(NOT_NEEDED, image, "--model", bundle, "--top-k", "3")
    assert told.returncode == 0, told.stderr
    assert told.stderr == "" and len(told.stdout.splitlines()) == 3


@pytest.mark.parametrize("kind", ["a bundle without model.onnx", "a run"])
def test_what_has_no_graph_needs_the_onnx_package_and_says_so(
    tiny_run, bundle: Path, tmp_path: Path, kind: str
):
    image = next(iter(sorted(tiny_run.source.rglob("*.png"))))
    model = tiny_run.workdir if kind == "a run" else without_graph(bundle, tmp_path)
    told = predict("onnx", image, "--model", model)
    assert told.returncode == 1 and told.stdout == "" and told.stderr.count("\n") == 1
    assert 'pip install "kkanji_jax[onnx]"' in told.stderr and str(model) in told.stderr
    assert predict("nothing", image, "--model", model).returncode == 0


def test_without_onnxruntime_the_extra_is_named(tiny_run, bundle: Path):
    image = next(iter(sorted(tiny_run.source.rglob("*.png"))))
    told = predict("onnxruntime", image, "--model", bundle)
    assert told.returncode == 1 and told.stderr.count("\n") == 1
    assert 'pip install "kkanji_jax[onnx]"' in told.stderr


def test_a_graph_made_here_says_what_the_bundles_says(
    bundle: Path, tmp_path: Path, rng: np.random.Generator
):
    glyphs = rng.integers(0, 256, (33, 64, 64), np.uint8)
    shipped = load(bundle, backend="onnx").outputs(glyphs)
    made = load(without_graph(bundle, tmp_path), backend="onnx").outputs(glyphs)
    for one, other in zip(shipped, made, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_glyphs_give_no_rows(bundle: Path):
    logits, features = load(bundle, backend="onnx").outputs(np.zeros((0, 64, 64), np.uint8))
    assert logits.shape == (0, 6) and features.shape[0] == 0 and features.shape[1] > 6


def test_a_file_that_is_no_model_is_named(tmp_path: Path):
    (tmp_path / "x.onnx").write_text("<!doctype html><title>404</title>")
    with pytest.raises(ValueError, match=r"cannot load .*x\.onnx"):
        OnnxBackend(tmp_path / "x.onnx")


def test_a_graph_beside_too_few_weights_is_refused(bundle: Path, tmp_path: Path):
    copy = Path(shutil.copytree(bundle, tmp_path / "short"))
    content = (copy / "params.npz").read_bytes()
    (copy / "params.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cannot load .*model\.onnx"):
        OnnxBackend(copy / "model.onnx")
