"""A run so small that every door can be tried on it, and that reads better than chance."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest


class TinyRun(NamedTuple):
    """A run as the trainer leaves it, one checkpoint at step 7, and what it was made of."""

    workdir: Path
    dataset: Path
    source: Path  # the PNG files, in folders named by code point


@pytest.fixture(scope="session")
def tiny_run(
    tiny_source: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> TinyRun:
    """Random weights under a least-squares classifier; `raw` weights are of another seed."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    save_run(workdir, tiny_dataset)
    return TinyRun(workdir, tiny_dataset, tiny_source / "kkanji2")


@pytest.fixture(scope="session")
def without_jax() -> str:
    """Code that puts a model which reads everything as spring in the place of `recogniser`."""
    return """
import collections, sys, types
Candidate = collections.namedtuple("Candidate", "character codepoint probability rank")
class Reading(list):
    verdict = ""
class Spring:
    digest = "spring"
    def outputs(self, glyphs):
        return glyphs, glyphs
    def readings_of(self, outputs, glyphs, top_k, characters=None, notes=None):
        return [Reading([Candidate(chr(0x6625), "U+6625", 0.5, 1)]) for _ in glyphs]
sys.modules["kkanji_jax.inference.recogniser"] = types.ModuleType("kkanji_jax.inference.recogniser")
sys.modules["kkanji_jax.inference.recogniser"].load = lambda *args, **settings: Spring()
"""


@pytest.fixture(scope="session")
def evaluated_run(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with a log, evaluated on val, then on test with both weights."""
    from kkanji_jax import evaluate

    run = tmp_path_factory.mktemp("evaluated") / "a <b> run"
    shutil.copytree(tiny_run.workdir, run)
    line = {"kind": "eval", "step": 7, "epoch": 1.0, "weights": "ema", "val_num_examples": 18}
    for split in ("train", "val"):
        line |= {f"{split}_{name}": 0.5 for name in ("loss", "accuracy", "precision", "recall")}
    matrix = [[true, 0, 3] for true in range(6)]
    line |= {"val_macro_accuracy": 0.5, "val_confusion_matrix": matrix}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    flags = ["--model", str(run), "--dataset", str(tiny_run.dataset)]
    assert evaluate.main([*flags, "--of", "val"]) == 0
    assert evaluate.main([*flags, "--of", "test", "--weights", "both"]) == 0
    return run


def save_run(workdir: Path, dataset: Path) -> None:
    import grain
    import jax
    import optax

    from kkanji_jax.config import default_config
    from kkanji_jax.data.class_index import ClassIndex
    from kkanji_jax.data.manifest import load_manifest
    from kkanji_jax.data.resident import load_split
    from kkanji_jax.training.checkpoint_store import CheckpointStore
    from kkanji_jax.training.state import create_state

    config = default_config().to_dict()
    model = config["model"] | {"variant": "nano", "image_px": 32, "drop_path": 0.0}
    class_index = ClassIndex.load(dataset / "index.json")
    state = jax.jit(lambda: create_state(model, len(class_index), optax.identity(), 1))()
    split = load_split(dataset, "train")
    params, batch_stats = fit_classifier(model, split.images, split.labels, len(class_index))
    state = state._replace(ema_params=params, ema_batch_stats=batch_stats)
    meta = {
        "config": config | {"model": model},
        "class_index": class_index.to_json(),
        "manifest_sha256": hashlib.sha256((dataset / "manifest.json").read_bytes()).hexdigest(),
        "train_counts": load_manifest(dataset)["original_counts"],
        "package_version": "0",
    }
    store = CheckpointStore(workdir, max_to_keep=1)
    batches = iter(grain.MapDataset.range(3).to_iter_dataset())
    scores = {"val_accuracy": 0.5, "val_macro_accuracy": 0.5, "val_loss": 1.0}
    store.save(7, state, batches, meta, scores)
    store.close()
    class_index.save(workdir / "index.json")


def fit_classifier(model: dict, images: np.ndarray, labels: np.ndarray, num_classes: int):
    """Random weights; batch statistics of these images; a classifier by ridge regression."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from kkanji_jax.model.network import (
        init_variables,
        make_graphdef,
        make_logits_fn,
        network_input,
    )

    graphdef = make_graphdef(model, num_classes)
    params, old = jax.jit(lambda: init_variables(model, num_classes, 0))()

    @jax.jit
    def stats_after(params, stats):
        network = nnx.merge(graphdef, params, stats)
        rngs = nnx.Rngs(dropout=jax.random.key(0), drop_path=jax.random.key(1))
        network(network_input(jnp.asarray(images), model["image_px"]), train=True, rngs=rngs)
        return nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

    # Momentum 0.99 keeps 99 % of the old statistics; what was added are those of the batch.
    stats = jax.tree.map(lambda new, old: (new - 0.99 * old) / 0.01, stats_after(params, old), old)
    _, features = make_logits_fn(graphdef, model["image_px"])(params, stats, jnp.asarray(images))
    features = np.asarray(features, np.float64)
    centred, targets = features - features.mean(0), np.eye(num_classes)[labels] - 1 / num_classes
    gram = centred @ centred.T
    ridge = np.linalg.solve(gram + 1e-2 * np.trace(gram) * np.eye(len(gram)) / len(gram), targets)
    kernel = 8 * centred.T @ ridge
    params["classifier"] = {
        "kernel": jnp.asarray(kernel, jnp.float32),
        "bias": jnp.asarray(-features.mean(0) @ kernel, jnp.float32),
    }
    return params, stats
