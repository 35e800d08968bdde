"""The whole path as a newcomer walks it: demo corpus, dataset, training, scores, answers.

Training is a process of its own, as the command line starts it; what follows is called here.
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from PIL import Image

from configs import quickstart
from data_tools import build, verify
from kkanji_jax import evaluate, predict
from kkanji_jax.config import Config
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.resident import load_split
from kkanji_jax.export import __main__ as export
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.plots import __main__ as plots
from kkanji_jax.saved.checkpoint import best_step
from kkanji_jax.training import loop

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "kkanji_jax" / "demo"
SETTINGS = {
    "model.variant": "nano",
    "model.image_px": 32,
    "epochs": 12.0,
    "batch_size": 16,
    "optim.lr_peak": 3e-3,
    "eval_every_steps": 300,
    "ckpt_every_steps": 70,
}


@pytest.fixture(autouse=True, scope="module")
def on_one_device() -> Iterator[None]:
    """As the command line finds it; the eight of the tests would compile for longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh_lib, "devices", lambda: jax.devices()[:1])
        yield


def config_of(dataset: Path, **changes: Any) -> Config:
    config = quickstart.get_config()
    config.update_from_flattened_dict(SETTINGS | {"data.dataset": str(dataset)} | changes)
    return config


# As `python -m kkanji_jax.train`, but what compiled for a second has compiled for long.
TRAIN = """
from kkanji_jax.training import loop
loop.LONG_COMPILE_S = 1.0
from kkanji_jax.train import run
run()
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "demo"
    splits = ["--splits-from", str(DEMO / "splits.csv"), "--min-images", "70"]
    assert build.main(["--source", str(DEMO), *splits, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def workdir(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-block-a-stage network at 32 px, twelve passes over the demo corpus's 12 kana."""
    run = tmp_path_factory.mktemp("runs") / "demo"
    command = [sys.executable, "-m", "kkanji_jax.train", "--config", "configs/quickstart.py"]
    fields = SETTINGS | {"data.dataset": dataset}
    done = subprocess.run(
        [*command, "--workdir", run, *(f"--config.{name}={fields[name]}" for name in fields)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return run


def test_verify_accepts_what_build_wrote(dataset: Path) -> None:
    assert verify.main([str(dataset)]) == 0


def test_training_learns_and_the_log_has_the_original_keys(workdir: Path) -> None:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["kind"] == "eval"][-1]
    for side in ("train", "val"):
        for score in ("loss", "accuracy", "precision", "recall"):
            assert f"{side}_{score}" in last
    assert last["val_accuracy"] > 0.25  # chance is 0.08; 0.44 when this was written
    scored = [line for line in lines if line["kind"] == "eval"]
    best = max(scored, key=lambda line: (line["val_accuracy"], line["step"]))
    assert best_step(workdir) == best["step"]  # though no checkpoint was due there
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.75 * losses[0]
    for name in ("config.json", "env.json", "index.json"):
        assert json.loads((workdir / name).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_after_compiling_a_run_starts_anew_once_and_learns_the_same(
    dataset: Path, tmp_path: Path
) -> None:
    fields = SETTINGS | {"data.dataset": dataset, "epochs": 1.0, "log_every_steps": 2}
    changes = [f"--config.{name}={fields[name]}" for name in fields]
    environment = os.environ | {
        "XLA_FLAGS": "--xla_backend_optimization_level=1",
        "KKANJI_CACHE": str(tmp_path / "cache"),
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    told, losses = [], []
    for name in ("compiles", "finds"):
        run = tmp_path / name
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, "--config", "configs/quickstart.py"]
            + ["--workdir", str(run), *changes],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stderr)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["kind"] == "train"])
    assert [text.count("starting anew") for text in told] == [1, 0]
    assert [text.count("first steps after") for text in told] == [2, 1]
    assert losses[0] == losses[1] and len(losses[0]) > 3


def test_the_same_run_again_has_nothing_to_do(
    dataset: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (workdir / "metrics.jsonl").read_bytes()
    loop.train(config_of(dataset), workdir)  # by the file's own fields: the command's are the same
    assert "resuming" in capsys.readouterr().err
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_run_from_a_bundle_goes_on_where_it_was_and_says_whose_weights_it_took(
    dataset: Path, workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, run, final = tmp_path / "bundle", tmp_path / "run", tmp_path / "final"
    assert export.main(["--model", str(workdir), "--out", str(bundle)]) == 0
    changes = {"epochs": 1.0, "optim.lr_peak": 1e-7, "init_from": str(bundle)}
    loop.train(config_of(dataset, **changes), run)
    told = capsys.readouterr().err
    assert f"starting from the weights of {bundle}" in told and "warning" not in told
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["val_accuracy"] > 0.25

    assert export.main(["--model", str(run), "--out", str(final)]) == 0
    shutil.rmtree(bundle)  # what is recorded does not hang on it
    record = json.loads((final / "config.json").read_text())["warm_start"]
    first = json.loads((workdir / "config.json").read_text())
    assert (record["folder"], record["classes_new"], record["warm_start"]) == ("bundle", 0, None)
    assert record["config"]["epochs"] == first["epochs"] == 12
    card = (final / "model_card.md").read_text()
    assert f"weights of `bundle` as it was then: step {record['step']}, trained on" in card
    assert record["manifest_sha256"] in card


def test_scores_figures_and_answers_come_out(
    dataset: Path, workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "eval"
    of_test = ["--dataset", str(dataset), "--of", "test", "--out", str(out)]
    assert evaluate.main(["--model", str(workdir), *of_test]) == 0
    scores = json.loads((out / "eval.json").read_text())
    manifest = json.loads((dataset / "manifest.json").read_text())
    assert scores["split"] == "test"
    assert scores["num_examples"] == manifest["splits"]["test"]["num_examples"]
    low, high = scores["top1"]["ci95"]
    assert 0.12 < low <= scores["top1"]["value"] <= high

    assert plots.main(["--model", str(workdir), "--out", str(tmp_path / "plots")]) == 0
    assert len(list((tmp_path / "plots").glob("*.png"))) >= 6

    images = tmp_path / "images"
    images.mkdir()
    split = load_split(dataset, "test")
    index = ClassIndex.load(dataset / "index.json")
    for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        Image.fromarray(image).save(images / f"{index.codepoints[label]}_{number:03d}.png")
    capsys.readouterr()
    assert predict.main([str(images), "--model", str(workdir), "--format", "csv"]) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    best = [row for row in rows if row["rank"] == "1"]
    right = sum(row["codepoint"] in row["path"] for row in best)
    # The same images through another door: the same share is right.
    assert len(best) == len(split.labels)
    assert right / len(best) == pytest.approx(scores["top1"]["value"], abs=0.02)


def test_predicting_on_a_bad_file_is_a_row_and_status_one(
    workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    assert predict.main([str(tmp_path), "--model", str(workdir), "--format", "csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 1 and rows[0]["error"] and not rows[0]["character"]


def test_a_missing_dataset_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no dataset at .*none: build one with .*data_tools.build"):
        loop.train(config_of(tmp_path / "none"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_truncated_shard_is_named(dataset: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(dataset, tmp_path / "broken"))
    shard = sorted(broken.glob("train-*.array_record"))[0]
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=shard.name):
        loop.train(config_of(broken), tmp_path / "run")
