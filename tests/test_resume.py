"""A run killed at any step and started again ends with the bits of one never killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from kkanji_jax.checkpoint import check_sums, finished_steps, load_variables

ROOT = Path(__file__).parents[1]
SETTINGS = [
    "--config.model.variant=nano",
    "--config.model.image_px=16",
    "--config.model.dtype=bfloat16",
    "--config.model.drop_path=0.3",
    "--config.batch_size=16",
    "--config.epochs=8",
    "--config.steps_per_dispatch=2",
    "--config.log_every_steps=4",
    "--config.eval_every_steps=12",
    "--config.ckpt_every_steps=6",
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One device, and one compilation cache, so that each restart compiles nothing anew."""
    return os.environ | {
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("xla")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def command(dataset: Path, workdir: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "kkanji_jax.train", "--config", str(ROOT / "configs" / "b0.py"),
        "--workdir", str(workdir), f"--config.data.dataset={dataset}", *SETTINGS, *more,
    ]  # fmt: skip


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def undisturbed(
    tiny_dataset: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = run(command(tiny_dataset, workdir), environment)
    assert done.returncode == 0, done.stderr
    return workdir


def steps_written(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def without_times(workdir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for timed in ("elapsed_s", "images_per_s", "data_wait"):
            line.pop(timed, None)
    return lines


def assert_same_end(one: Path, other: Path) -> None:
    first, second = (load_variables(workdir, "latest") for workdir in (one, other))
    assert first.step == second.step
    for name in ("params", "batch_stats", "ema_params", "ema_batch_stats"):
        pairs = zip(
            jax.tree.leaves(getattr(first, name)),
            jax.tree.leaves(getattr(second, name)),
            strict=True,
        )
        for left, right in pairs:
            np.testing.assert_array_equal(left, right)
    assert without_times(one) == without_times(other)


def test_kill_and_restart_end_with_the_same_bits(
    tiny_dataset: Path, environment: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "killed"
    rng = np.random.default_rng(0)
    num_kills = 0
    for lines in (2, 5):  # into the run, past a checkpoint, with work done since
        process = subprocess.Popen(
            command(tiny_dataset, workdir), env=environment, cwd=ROOT, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and steps_written(workdir) < lines:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        num_kills += process.wait() == -signal.SIGKILL
        assert finished_steps(workdir)[-1:] != finished_steps(undisturbed)[-1:]
    assert num_kills == 2
    done = run(command(tiny_dataset, workdir), environment)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr
    assert_same_end(undisturbed, workdir)


def test_sigterm_saves_and_exits_cleanly_and_the_run_goes_on(
    tiny_dataset: Path, environment: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "stopped"
    process = subprocess.Popen(
        command(tiny_dataset, workdir), env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and steps_written(workdir) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 0 and "told to stop; saved" in errors, errors
    assert 0 < finished_steps(workdir)[-1] < finished_steps(undisturbed)[-1]
    assert run(command(tiny_dataset, workdir), environment).returncode == 0
    assert_same_end(undisturbed, workdir)


def test_a_flipped_bit_is_noticed_and_an_earlier_checkpoint_taken(
    tiny_dataset: Path, environment: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "flipped"
    subprocess.run(["cp", "-r", undisturbed, workdir], check=True)
    last = workdir / "checkpoints" / str(finished_steps(workdir)[-1])
    largest = max((last / "state").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        check_sums(last)
    with pytest.raises(ValueError, match="damaged"):
        load_variables(workdir, "latest")
    done = run(command(tiny_dataset, workdir), environment)
    assert done.returncode == 0, done.stderr
    assert "falling back to an earlier checkpoint" in done.stderr
    assert_same_end(undisturbed, workdir)


def test_another_config_is_refused_with_the_difference(
    tiny_dataset: Path, environment: dict[str, str], undisturbed: Path
) -> None:
    done = run(command(tiny_dataset, undisturbed, "--config.optim.lr_peak=0.5"), environment)
    assert done.returncode == 1
    assert "optim.lr_peak: 0.001 -> 0.5" in done.stderr and len(done.stderr.splitlines()) < 4
    # Another network, whose weights could not even be restored, is told the same way.
    done = run(command(tiny_dataset, undisturbed, "--config.model.variant=b0"), environment)
    assert done.returncode == 1
    assert "model.variant: 'nano' -> 'b0'" in done.stderr and len(done.stderr) < 1000


def test_a_second_trainer_is_kept_out(
    tiny_dataset: Path, environment: dict[str, str], undisturbed: Path
) -> None:
    import fcntl

    with (undisturbed / "LOCK").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run(command(tiny_dataset, undisturbed), environment)
    assert done.returncode == 1 and "another trainer" in done.stderr


def test_only_the_latest_and_the_best_are_kept(undisturbed: Path) -> None:
    kept = finished_steps(undisturbed)
    best = load_variables(undisturbed).step
    scores = {line["step"]: line["val_accuracy"] for line in without_times(undisturbed)
              if line["kind"] == "eval"}  # fmt: skip
    assert scores[best] == max(scores.values())
    assert 2 <= len(kept) <= 3 and best in kept
