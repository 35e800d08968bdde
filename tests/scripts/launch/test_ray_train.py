"""Ray Train's workers learn what one process does, and go on after a kill, the same to the bit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from kkanji_jax.saved.checkpoint import Loaded, finished_steps, load_variables

ROOT = Path(__file__).parents[3]
SETTINGS = [
    "--config.model.variant=nano",
    "--config.model.image_px=16",
    "--config.model.dtype=float32",
    "--config.batch_size=32",
    "--config.steps_per_dispatch=2",
    "--config.epochs=9",
    "--config.ckpt_every_steps=2",
    "--config.eval_every_steps=100",
    "--config.optim.eps=1e-3",  # with less, Adam makes steps of rounding noise
    "--config.log_every_steps=2",
]


def environment(num_devices: int, cache: Path) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    # Ray's workers are nicer than all else: on a busy machine they would not get on.
    return os.environ | {
        "XLA_FLAGS": f"{flags} --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "KKANJI_CACHE": str(cache),
        "RAY_worker_niceness": "0",
    }


def arguments(dataset: Path, workdir: Path) -> list[str]:
    config = ["--config", str(ROOT / "configs/b0.py"), "--workdir", str(workdir)]
    return [*config, f"--config.data.dataset={dataset}", *SETTINGS]


def on_ray(dataset: Path, workdir: Path, cache: Path) -> subprocess.Popen:
    script = [sys.executable, str(ROOT / "scripts/launch/ray_train.py"), "--workers", "2", "--"]
    return subprocess.Popen(
        [*script, *arguments(dataset, workdir)],
        env=environment(4, cache) | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trainers_of(workdir: Path) -> Iterator[int]:
    """The processes that train there, and are no worker of Ray."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended
        if b"-c" in words and str(workdir).encode() in words:
            yield int(path.parent.name)


def finished(process: subprocess.Popen) -> None:
    told, _ = process.communicate(timeout=900)
    assert process.returncode == 0, told


def leaves_of(loaded: Loaded) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves([loaded.params, loaded.batch_stats])]


@pytest.mark.slow
def test_two_workers_learn_what_one_process_does_and_go_on_to_the_bit(
    tiny_dataset: Path, tmp_path: Path
):
    cache = tmp_path / "cache"
    one, two, killed = (tmp_path / name for name in ("one", "two", "killed"))
    command = [sys.executable, "-m", "kkanji_jax.train", *arguments(tiny_dataset, one)]
    subprocess.run(command, env=environment(8, cache), cwd=ROOT, capture_output=True, check=True)
    finished(on_ray(tiny_dataset, two, cache))

    process = on_ray(tiny_dataset, killed, cache)
    while not finished_steps(killed):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(max(trainers_of(killed)), signal.SIGKILL)
    step_when_killed = finished_steps(killed)[-1]
    finished(process)
    assert list(trainers_of(killed)) == []

    alone, both, again = (load_variables(path, "latest") for path in (one, two, killed))
    assert alone.step == both.step == again.step > step_when_killed
    for left, right in zip(leaves_of(alone), leaves_of(both), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)  # a step moves 1e-3
    for left, right in zip(leaves_of(both), leaves_of(again), strict=True):
        np.testing.assert_array_equal(left, right)
