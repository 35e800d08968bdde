"""A bundle says what its run says, is whole or not there, and is not believed when it was hurt."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.evaluation.calibration_fit import fit
from kkanji_jax.export.__main__ import main
from kkanji_jax.files import write_sums
from kkanji_jax.inference.recogniser import load
from kkanji_jax.saved.arrays import restored, rounded, write_arrays
from kkanji_jax.saved.bundle import flatten, nest, read_bundle
from kkanji_jax.saved.trained import PRETRAINED, load_trained

FILES = {"params.npz", "config.json", "index.json", "train_counts.json", "model_card.md"}


@pytest.fixture(scope="module")
def bundle(tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's bundle, as its command writes it."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    assert main(["--model", str(tiny_run.workdir), "--out", str(out)]) == 0
    return out


@pytest.fixture
def hurt(bundle: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(bundle, tmp_path / "hurt"))


def glyphs_of(tiny_run, count: int) -> list[Path]:
    return sorted(tiny_run.source.rglob("*.png"))[:count]


def test_it_holds_what_was_promised_and_nothing_else(bundle: Path, capsys):
    assert {path.name for path in bundle.iterdir()} == FILES | {"model.onnx", "SHA256SUMS"}
    assert not list(bundle.parent.glob("*.unfinished"))
    config = json.loads((bundle / "config.json").read_text())
    assert (config["format_version"], config["dtype"], config["weights"]) == (1, "float16", "ema")
    assert config["config"]["model"]["variant"] == "nano"


def test_a_bundle_reads_what_its_run_reads(tiny_run, bundle: Path):
    files = glyphs_of(tiny_run, 30)
    ours, theirs = load(bundle, backend="onnx"), load(tiny_run.workdir, backend="onnx")
    expected = theirs.embed(files)
    # Half precision: eleven bits of each weight, through random layers that forgive nothing.
    assert np.std(ours.embed(files) - expected) < 0.02 * np.std(expected)
    for mine, yours in zip(ours.predict(files), theirs.predict(files), strict=True):
        assert mine[0].codepoint == yours[0].codepoint
        assert mine[0].probability == pytest.approx(yours[0].probability, abs=0.02)
    assert (ours.weights, ours.step) == (theirs.weights, theirs.step)


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_each_weight_is_rounded_once(tiny_run, tmp_path: Path, dtype: str, bits: int):
    arguments = ["--model", str(tiny_run.workdir), "--out", str(tmp_path / "b"), "--dtype", dtype]
    assert main(arguments) == 0
    read = read_bundle(tmp_path / "b").variables
    run = load_trained(tiny_run.workdir)
    expected = flatten(run.params, "params") | flatten(run.batch_stats, "batch_stats")
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        assert read[name].dtype == np.float32 and read[name].shape == value.shape
        # Half a unit in the last place, and float16's smallest step below its normal range.
        np.testing.assert_allclose(read[name], value, rtol=2.0**-bits, atol=2.0**-25)


def test_whole_numbers_are_as_near_as_they_can_be(tiny_run, tmp_path: Path):
    flags = ["--model", str(tiny_run.workdir), "--dtype", "int8"]
    assert main([*flags, "--out", str(tmp_path / "b")]) == 0
    read = read_bundle(tmp_path / "b").variables
    run = load_trained(tiny_run.workdir)
    expected = flatten(run.params, "params") | flatten(run.batch_stats, "batch_stats")
    assert read.keys() == expected.keys()
    with np.load(tmp_path / "b" / "params.npz") as archive:
        stored = {name: archive[name] for name in archive.files}
    for name, value in expected.items():
        assert read[name].dtype == np.float32 and read[name].shape == value.shape
        if value.ndim == 1:
            np.testing.assert_array_equal(read[name], value)
            continue
        whole, scale = stored[name], stored[f"{name}:scale"]
        assert (whole.dtype, scale.dtype, scale.shape) == ("<i1", "<f4", value.shape[-1:])
        outputs = np.abs(whole.astype(int)).reshape(-1, len(scale)).max(axis=0)
        assert set(outputs.tolist()) <= {0, 127}  # the range of each output is used whole
        assert (np.abs(read[name] - value) <= 0.5001 * scale).all()
        np.testing.assert_array_equal(read[name], whole.astype(np.float64) * scale)
    # Of a bundle, the type is that of its own, and the bytes are the same.
    again = ["--model", str(tmp_path / "b"), "--out", str(tmp_path / "again")]
    assert main(again) == 0
    before, after = (tmp_path / name / "params.npz" for name in ("b", "again"))
    assert before.read_bytes() == after.read_bytes()


def test_an_output_without_weights_is_no_division_by_nothing(recwarn: pytest.WarningsRecorder):
    array = np.array([[0.0, 0.5], [0.0, -0.2]], np.float32)
    back = restored(rounded({"kernel": array}, "int8"), "int8")["kernel"]
    np.testing.assert_allclose(back, array, atol=0.5 / 254)
    assert (back[:, 0] == 0).all() and not recwarn


def test_the_same_run_gives_the_same_bytes(tiny_run, bundle: Path, tmp_path: Path):
    again = tmp_path / "again"
    assert main(["--model", str(tiny_run.workdir), "--out", str(again)]) == 0
    for path in bundle.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_without_a_model_the_packages_own_is_exported(tmp_path: Path):
    assert main(["--out", str(tmp_path / "own"), "--no-onnx"]) == 0
    own, packaged = read_bundle(tmp_path / "own"), read_bundle(PRETRAINED)
    assert own.about["step"] == packaged.about["step"]
    assert own.model_card == packaged.model_card
    for name, array in packaged.variables.items():
        np.testing.assert_array_equal(own.variables[name], array)


def test_a_bundle_of_a_bundle_holds_the_same_weights(bundle: Path, tmp_path: Path):
    assert main(["--model", str(bundle), "--out", str(tmp_path / "second")]) == 0
    second, first = read_bundle(tmp_path / "second"), read_bundle(bundle)
    for name, value in first.variables.items():
        np.testing.assert_array_equal(second.variables[name], value)
    assert (second.about, second.train_counts) == (first.about, first.train_counts)


def test_trees_and_paths_are_inverse():
    one = np.ones(1, np.float32)
    tree = {"blocks": {0: {"a": one}, 10: {"a": one}}, "stem": one}
    flat = flatten(tree, "params")
    assert list(flat) == ["params/blocks/0/a", "params/blocks/10/a", "params/stem"]
    back = nest(flat | {"batch_stats/stem": one}, "params")
    assert back.keys() == tree.keys() and list(back["blocks"]) == [0, 10]


# --- harm --------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def rewrite(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Edits a JSON file and makes the digests right again: a careful hand, or another tool."""

    def harm(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))
        write_sums(folder)

    return harm


def unsum(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if "onnx" not in line))


def other_weights(folder: Path) -> None:
    """Another run's weights under this one's ONNX file, with digests that fit."""
    with np.load(folder / "params.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["params/classifier/bias"] += np.float16(1)
    np.savez(folder / "params.npz", **arrays)
    write_sums(folder)


def other_classes(folder: Path) -> None:
    from kkanji_jax.data.class_index import ClassIndex

    index = ClassIndex.load(folder / "index.json")
    ClassIndex(index.codepoints[:-1]).save(folder / "index.json")
    write_sums(folder)


def no_zip(folder: Path) -> None:
    (folder / "params.npz").write_text("<html>404</html>")
    write_sums(folder)


def no_scale(folder: Path) -> None:
    """An array of whole numbers, and nothing that says what 1 stands for."""
    arrays = rounded(read_bundle(folder).variables, "int8")
    del arrays["params/classifier/kernel:scale"]
    write_arrays(folder / "params.npz", arrays)
    rewrite("config.json", lambda c: c.update(dtype="int8"))(folder)


HARM = {
    "a flipped bit in params.npz": (lambda f: flip(f / "params.npz"), "params.npz is damaged"),
    "a flipped bit in the card": (lambda f: flip(f / "model_card.md"), "model_card.md is damaged"),
    "a cut file": (lambda f: os.truncate(f / "params.npz", 5000), "params.npz is damaged"),
    "a missing file": (lambda f: (f / "index.json").unlink(), "index.json is missing"),
    "no digests": (lambda f: (f / "SHA256SUMS").unlink(), "did not finish"),
    "a page instead of weights": (no_zip, "params.npz is damaged"),
    "a version to come": (
        rewrite("config.json", lambda c: c.update(format_version=2)),
        "install the version that wrote it",
    ),
    "another format": (rewrite("config.json", lambda c: c.update(format="x")), "has format 'x'"),
    "fewer classes": (other_classes, "not of one run"),
    "a class without a count": (rewrite("train_counts.json", lambda c: c.popitem()), "no count"),
    "ONNX of another run": (other_weights, "model.onnx is of another run"),
    "whole numbers without a scale": (no_scale, "needs params/classifier/kernel:scale"),
    "an unlisted ONNX file": (unsum, "SHA256SUMS does not list it"),
}


@pytest.mark.parametrize("kind", HARM)
def test_harm_is_refused_in_one_line(hurt: Path, kind: str, capsys, tiny_run):
    from kkanji_jax.predict import main as predict

    harm, expected = HARM[kind]
    harm(hurt)
    arguments = [str(glyphs_of(tiny_run, 1)[0]), "--model", str(hurt), "--backend", "onnx"]
    assert predict(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ")
    assert expected in err and str(hurt) in err


def test_weights_that_the_bundle_does_not_hold_are_refused(bundle: Path):
    with pytest.raises(ValueError, match="holds the ema weights only, got --weights raw"):
        load(bundle, weights="raw")
    with pytest.raises(ValueError, match="is a bundle, with one checkpoint: leave out --which la"):
        load(bundle, which="latest")


def test_a_folder_that_is_there_is_not_written_over(tiny_run, bundle: Path, capsys):
    before = sorted(path.stat().st_mtime_ns for path in bundle.iterdir())
    assert main(["--model", str(tiny_run.workdir), "--out", str(bundle)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in bundle.iterdir()) == before


def test_an_export_that_fails_leaves_nothing(tiny_run, tmp_path: Path, monkeypatch, capsys):
    def no_space(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kkanji_jax.saved.bundle.write_sums", no_space)
    assert main(["--model", str(tiny_run.workdir), "--out", str(tmp_path / "b")]) == 1
    assert "No space left" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- what it is for --------------------------------------------------------------------------


def test_the_calibration_of_the_run_goes_with_it(tiny_run, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run.workdir, run)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 6)), rng.integers(0, 6, 200)
    logits[np.arange(200), labels] += 4
    calibration = fit(logits, labels, weights="ema", fitted_on={"split": "val"})
    (run / "calibration.json").write_text(json.dumps(calibration.to_json()))
    assert main(["--model", str(run), "--out", str(tmp_path / "b")]) == 0
    recogniser = load(tmp_path / "b", backend="onnx")
    readings = recogniser.predict(glyphs_of(tiny_run, 20), top_k=6)
    outputs = recogniser.outputs(recogniser.glyphs(glyphs_of(tiny_run, 20)))[0]
    assert [r.verdict for r in readings] == calibration.verdicts(outputs)
    for reading, expected in zip(readings, calibration.probabilities(outputs), strict=True):
        assert [c.probability for c in reading] == pytest.approx(sorted(expected, reverse=True))
    assert recogniser.accuracy_of("accept") == calibration.accuracy_of("accept")
    # Fitted on the average, it says nothing of the raw weights.
    assert {
        r.verdict for r in load(run, weights="raw", backend="onnx").predict(glyphs_of(tiny_run, 3))
    } == {""}


def test_a_calibration_and_scores_of_another_step_stay_behind(
    evaluated_run: Path, tiny_run, tmp_path: Path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    files = [run / "calibration.json", run / "eval" / "test" / "eval.json"]
    for path in files:
        path.write_text(
            path.read_text("utf-8").replace('"checkpoint_step": 7', '"checkpoint_step": 6')
        )
    assert main(["--model", str(run), "--out", str(tmp_path / "b")]) == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and str(files[0]) in told[0] and str(files[1]) in told[1]
    assert "was fitted on step 6, not on 7: left out" in told[0]
    assert "evaluate --of val again" in told[0]
    assert "scores the ema weights of step 6, not the ema ones of step 7" in told[1]
    assert not (tmp_path / "b" / "calibration.json").exists()
    top1 = json.loads(files[1].read_text("utf-8"))["top1"]["value"]
    card = (tmp_path / "b" / "model_card.md").read_text("utf-8")
    assert "`evaluate --of test`" in card and f"{100 * top1:.2f} %" not in card
    assert {each.verdict for each in load(run).predict(glyphs_of(tiny_run, 3))} == {""}
    assert "was fitted on step 6, not on 7: left out" in capsys.readouterr().err


def test_a_bundle_with_the_calibration_of_another_step_is_read_without_it(
    evaluated_run: Path, tiny_run, tmp_path: Path, capsys
):
    assert main(["--model", str(evaluated_run), "--out", str(tmp_path / "b")]) == 0
    path = tmp_path / "b" / "calibration.json"
    path.write_text(path.read_text("utf-8").replace('"checkpoint_step": 7', '"checkpoint_step": 6'))
    write_sums(tmp_path / "b")
    capsys.readouterr()
    assert {each.verdict for each in load(tmp_path / "b").predict(glyphs_of(tiny_run, 3))} == {""}
    assert "calibrate the run, evaluate --of val, and export it again" in capsys.readouterr().err


def test_a_calibration_for_other_classes_is_left_out(evaluated_run: Path, tmp_path: Path, capsys):
    run = Path(shutil.copytree(evaluated_run, tmp_path / "run"))
    content = json.loads((run / "calibration.json").read_text("utf-8"))
    content["fitted_on"]["class_index_digest"] = "0" * 64
    (run / "calibration.json").write_text(json.dumps(content))
    assert load_trained(run).calibration is None
    load(run, backend="onnx")
    assert "calibration.json was fitted for other classes: left out" in capsys.readouterr().err


def test_weights_of_another_type_are_said_to_be_rounded(bundle: Path, tmp_path: Path):
    assert main(["--model", str(bundle), "--dtype", "bfloat16", "--out", str(tmp_path / "b")]) == 0
    card = (tmp_path / "b" / "model_card.md").read_text("utf-8")
    assert "stored as bfloat16, rounded from those of a bundle with float16" in card
    before = (bundle / "model_card.md").read_text("utf-8")
    assert len(before.splitlines()) == len(card.splitlines()) and "stored as float16" in before


def test_the_card_tells_origin_licence_and_what_nobody_measured(tiny_run, bundle: Path):
    card = (bundle / "model_card.md").read_text()
    for expected in (
        "CC BY-SA 4.0",
        "doi:10.20676/00000341",
        "ema, step 7",
        "not calibrated",
        "None: the run was exported without an evaluation",
    ):
        assert expected in card
    assert "6 characters" in card and "/tmp" not in card


READ = """
import builtins, sys
allowed = {"numpy", "kkanji_jax", "onnxruntime", "PIL"}
real = builtins.__import__
def only(name, *args, **more):
    if name.split(".")[0] in ("jax", "flax", "orbax", "grain", "onnx", "jaxtyping", "absl"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, *args, **more)
builtins.__import__ = only
from kkanji_jax.saved.bundle import read_bundle
print(len(read_bundle(sys.argv[1]).variables))
"""


def test_reading_a_bundle_needs_numpy_only(bundle: Path):
    command = [sys.executable, "-c", READ, str(bundle)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(bundle / "params.npz") as archive:
        assert int(result.stdout) == len(archive.namelist())


def test_a_folder_that_holds_foreign_files_only_is_written_into_and_keeps_them(
    tiny_run, tmp_path: Path
):
    out = tmp_path / "b"
    out.mkdir()
    foreign = [out / name for name in (".DS_Store", "._x", "Thumbs.db")]
    for path in foreign:
        path.write_text("mine")
    assert main(["--model", str(tiny_run.workdir), "--out", str(out)]) == 0
    read_bundle(out)
    assert {path.read_text() for path in foreign} == {"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_bundle_with_foreign_files_is_read_as_without_them(bundle: Path, hurt: Path):
    foreign = [
        hurt / name for name in (".DS_Store", "._params.npz", "config (conflicted copy).json")
    ]
    for path in foreign:
        path.write_text("mine")
    expected, found = read_bundle(bundle), read_bundle(hurt)
    assert found.variables.keys() == expected.variables.keys()
    for name, value in expected.variables.items():
        np.testing.assert_array_equal(found.variables[name], value)
    assert replace(found, variables={}) == replace(expected, variables={})
    assert {path.read_text() for path in foreign} == {"mine"}


def test_a_folder_of_the_user_beside_it_is_not_taken_for_an_unfinished_one(
    tiny_run, tmp_path: Path
):
    theirs = tmp_path / "b.unfinished"
    theirs.mkdir()
    (theirs / "notes").write_text("mine")
    assert main(["--model", str(tiny_run.workdir), "--out", str(tmp_path / "b")]) == 0
    assert (theirs / "notes").read_text() == "mine"
