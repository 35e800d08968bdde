"""The whole path as a newcomer walks it: demo corpus, dataset, training, scores, answers."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.resident import load_split
from kkanji_jax.saved.checkpoint import best_step

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "kkanji_jax" / "demo"
SETTINGS = (
    "--config.model.variant=nano",
    "--config.model.image_px=32",
    "--config.epochs=12",
    "--config.batch_size=16",
    "--config.optim.lr_peak=3e-3",
    "--config.eval_every_steps=300",
    "--config.ckpt_every_steps=70",
)


def door(module: str, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "demo"
    door(
        "data_tools.build",
        "--source",
        DEMO,
        "--splits-from",
        DEMO / "splits.csv",
        "--min-images",
        70,
        "--out",
        out,
    )
    return out


@pytest.fixture(scope="module")
def workdir(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-block-a-stage network at 32 px, twelve passes over the demo corpus's 12 kana."""
    run = tmp_path_factory.mktemp("runs") / "demo"
    door(
        "kkanji_jax.train",
        "--config",
        "configs/quickstart.py",
        "--workdir",
        run,
        f"--config.data.dataset={dataset}",
        *SETTINGS,
    )
    return run


def test_verify_accepts_what_build_wrote(dataset: Path) -> None:
    door("data_tools.verify", dataset)


def test_training_learns_and_the_log_has_the_original_keys(workdir: Path) -> None:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["kind"] == "eval"][-1]
    for side in ("train", "val"):
        for score in ("loss", "accuracy", "precision", "recall"):
            assert f"{side}_{score}" in last
    assert last["val_accuracy"] > 0.25  # chance is 0.08; 0.44 when this was written
    scored = [line for line in lines if line["kind"] == "eval"]
    best = max(scored, key=lambda line: line["val_accuracy"])
    assert best_step(workdir) == best["step"]  # though no checkpoint was due there
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.75 * losses[0]
    for name in ("config.json", "env.json", "index.json"):
        assert json.loads((workdir / name).read_text(encoding="utf-8"))


def test_the_same_command_again_has_nothing_to_do(dataset: Path, workdir: Path) -> None:
    before = (workdir / "metrics.jsonl").read_bytes()
    done = door(
        "kkanji_jax.train",
        "--config",
        "configs/quickstart.py",
        "--workdir",
        workdir,
        f"--config.data.dataset={dataset}",
        *SETTINGS,
    )
    assert "resuming" in done.stderr
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_run_from_a_bundle_goes_on_where_it_was_and_says_whose_weights_it_took(
    dataset: Path, workdir: Path, tmp_path: Path
) -> None:
    bundle, run, final = tmp_path / "bundle", tmp_path / "run", tmp_path / "final"
    door("kkanji_jax.export", "--model", workdir, "--out", bundle)
    done = door(
        "kkanji_jax.train",
        "--config",
        "configs/quickstart.py",
        "--workdir",
        run,
        f"--config.data.dataset={dataset}",
        *SETTINGS,
        "--config.epochs=1",
        "--config.optim.lr_peak=1e-7",
        f"--config.init_from={bundle}",
    )
    assert f"starting from the weights of {bundle}" in done.stderr
    assert "warning" not in done.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["val_accuracy"] > 0.25

    door("kkanji_jax.export", "--model", run, "--out", final)
    shutil.rmtree(bundle)  # what is recorded does not hang on it
    record = json.loads((final / "config.json").read_text())["warm_start"]
    first = json.loads((workdir / "config.json").read_text())
    assert (record["folder"], record["classes_new"], record["warm_start"]) == ("bundle", 0, None)
    assert record["config"]["epochs"] == first["epochs"] == 12
    card = (final / "model_card.md").read_text()
    assert f"weights of `bundle` as it was then: step {record['step']}, trained on" in card
    assert record["manifest_sha256"] in card


def test_scores_figures_and_answers_come_out(dataset: Path, workdir: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval"
    door(
        "kkanji_jax.evaluate",
        "--model",
        workdir,
        "--dataset",
        dataset,
        "--of",
        "test",
        "--out",
        out,
    )
    scores = json.loads((out / "eval.json").read_text())
    manifest = json.loads((dataset / "manifest.json").read_text())
    assert scores["split"] == "test"
    assert scores["num_examples"] == manifest["splits"]["test"]["num_examples"]
    low, high = scores["top1"]["ci95"]
    assert 0.12 < low <= scores["top1"]["value"] <= high

    door("kkanji_jax.plots", "--model", workdir, "--out", tmp_path / "plots")
    assert len(list((tmp_path / "plots").glob("*.png"))) >= 6

    images = tmp_path / "images"
    images.mkdir()
    split = load_split(dataset, "test")
    index = ClassIndex.load(dataset / "index.json")
    for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        Image.fromarray(image).save(images / f"{index.codepoints[label]}_{number:03d}.png")
    done = door("kkanji_jax.predict", images, "--model", workdir, "--format", "csv")
    best = [row for row in csv.DictReader(io.StringIO(done.stdout)) if row["rank"] == "1"]
    right = sum(row["codepoint"] in row["path"] for row in best)
    # The same images through another door: the same share is right.
    assert len(best) == len(split.labels)
    assert right / len(best) == pytest.approx(scores["top1"]["value"], abs=0.02)


def test_predicting_on_a_bad_file_is_a_row_and_status_one(workdir: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    done = door("kkanji_jax.predict", tmp_path, "--model", workdir, "--format", "csv", status=1)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 1 and rows[0]["error"] and not rows[0]["character"]


def test_a_missing_dataset_is_one_line(tmp_path: Path) -> None:
    done = door(
        "kkanji_jax.train",
        "--config",
        "configs/quickstart.py",
        "--workdir",
        tmp_path / "run",
        f"--config.data.dataset={tmp_path / 'none'}",
        status=1,
    )
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert "data_tools.build" in done.stderr


def test_a_truncated_shard_is_named(dataset: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", dataset, broken], check=True)
    shard = sorted(broken.glob("train-*.array_record"))[0]
    shard.write_bytes(shard.read_bytes()[:-1000])
    done = door(
        "kkanji_jax.train",
        "--config",
        "configs/quickstart.py",
        "--workdir",
        tmp_path / "run",
        f"--config.data.dataset={broken}",
        status=1,
    )
    assert shard.name in done.stderr and done.stderr.splitlines()[-1].startswith("error: ")
