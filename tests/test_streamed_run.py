"""A run over a stream of shards: killed, it goes on where it was; its step is the usual one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from kkanji_jax.augment.policy import get_policy
from kkanji_jax.config import default_config
from kkanji_jax.model.network import make_graphdef
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.saved.checkpoint import finished_steps, load_variables
from kkanji_jax.training.feed import FeedConfig, open_resident
from kkanji_jax.training.state import create_state
from kkanji_jax.training.step import IndexBatch, PixelBatch, StepConfig, make_train_steps

ROOT = Path(__file__).parents[1]
NUM_CLASSES = 6


def one_dispatch(
    dataset: Path, num_devices: int, shape: tuple[int, int, int], is_streamed: bool
) -> Any:
    """The variables after steps, microbatches and images of `shape`, the same ones either way."""
    config = default_config()
    config.model.update({"variant": "nano", "image_px": 16, "drop_path": 0.3, "dropout": 0.3})
    model, mesh = config.model.to_dict(), mesh_lib.make_mesh(jax.devices()[:num_devices])
    optimizer = optax.sgd(0.1)
    step_config = StepConfig(
        policy=get_policy("glyph_safe"), seed=7, image_px=16, label_smoothing=0.1, ema_decay=0.9
    )
    graphdef = make_graphdef(model, NUM_CLASSES)
    train_steps = make_train_steps(graphdef, optimizer, mesh, step_config)
    choice = FeedConfig(per_class=None, sampling_exponent=1.0, fresh_copies=True, seed=7)
    feed = open_resident(dataset, choice)
    assert feed.data is not None
    rng = np.random.default_rng(3)
    rows = rng.integers(0, feed.num_images, shape).astype(np.int32)
    copies = rng.integers(0, 4, rows.shape).astype(np.int32)
    images, labels, addresses = (np.asarray(column)[rows] for column in feed.data)
    pixels = PixelBatch(images, labels, addresses, copies)
    batch = pixels if is_streamed else IndexBatch(rows, copies)
    state = mesh_lib.replicate(create_state(model, NUM_CLASSES, optimizer, 7), mesh)
    data = mesh_lib.replicate(None if is_streamed else feed.data, mesh)
    with jax.transfer_guard("disallow"):
        state, _ = train_steps(state, data, mesh_lib.to_global(batch, mesh, axis=2))
    return jax.device_get((state.params, state.batch_stats, state.ema_params))


@pytest.mark.slow
@pytest.mark.parametrize(("num_devices", "shape"), [(1, (1, 1, 8)), (8, (2, 2, 8))])
def test_a_batch_that_brings_its_pixels_teaches_what_one_of_indices_does(
    tiny_dataset: Path, num_devices: int, shape: tuple[int, int, int]
) -> None:
    found, expected = (
        one_dispatch(tiny_dataset, num_devices, shape, each) for each in (True, False)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # The compiler may fuse the gather with what follows, and round in another order.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_stream_that_is_killed_goes_on_where_it_was(
    tiny_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_tools import build
    from data_tools.plan import shard_contents

    monkeypatch.setattr(shard_contents, "CHUNK_SIZE", 16)  # six records, and two to a pool
    dataset = tmp_path / "dataset"
    arguments = ["--source", str(tiny_source), "--out", str(dataset), "--ratios", "60/20/20"]
    assert build.main([*arguments, "--workers", "1"]) == 0
    environment = os.environ | {
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(workdir: Path) -> subprocess.Popen[str]:
        settings = {
            "data.dataset": dataset,
            "data.reading": "streamed",
            "data.pool_examples": 32,
            "data.sampling_exponent": 1,
            "model.variant": "nano",
            "model.image_px": 16,
            "batch_size": 16,
            "epochs": 8,
            "steps_per_dispatch": 2,
            "log_every_steps": 4,
            "eval_every_steps": 12,
            "ckpt_every_steps": 6,
        }
        flags = [f"--config.{name}={value}" for name, value in settings.items()]
        command = [sys.executable, "-m", "kkanji_jax.train", "--config", "configs/b0.py"]
        return subprocess.Popen(
            [*command, "--workdir", str(workdir), *flags],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole)
    told = process.communicate()[1]
    assert process.returncode == 0, told
    process = start(killed)
    while process.poll() is None and not finished_steps(killed):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    steps = finished_steps(killed)
    assert process.returncode == -signal.SIGKILL
    assert steps and steps[-1] < finished_steps(whole)[-1]
    position = killed / "checkpoints" / str(steps[-1]) / "data"
    assert sum(path.stat().st_size for path in position.rglob("*") if path.is_file()) < 1000
    process = start(killed)
    told = process.communicate()[1]
    assert process.returncode == 0 and "resuming" in told, told
    assert lines_of(killed) == lines_of(whole)
    first, second = (load_variables(workdir, "latest") for workdir in (whole, killed))
    for name in ("params", "batch_stats", "ema_params", "ema_batch_stats"):
        pairs = (jax.tree.leaves(getattr(each, name)) for each in (first, second))
        for one, other in zip(*pairs, strict=True):
            np.testing.assert_array_equal(one, other)


def lines_of(workdir: Path) -> list[dict[str, Any]]:
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    timed = ("elapsed_s", "images_per_s", "data_wait")
    return [{key: line[key] for key in line if key not in timed} for line in lines]
