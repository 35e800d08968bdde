"""Ray Train's workers learn what one process does, and go on after a kill, the same to the bit."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from kkanji_jax.saved.checkpoint import Loaded, finished_steps, load_variables

# ml_collections imports config files by a way that Python will take away.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts/launch/ray_train.py"
SETTINGS = [
    "--config.model.variant=nano",
    "--config.model.image_px=16",
    "--config.model.dtype=float32",
    "--config.augment.policy=none",  # compiles sooner
    "--config.batch_size=32",
    "--config.steps_per_dispatch=2",
    "--config.epochs=8",
    "--config.ckpt_every_steps=2",
    "--config.eval_every_steps=100",
    "--config.log_every_steps=2",
    "--config.optim.eps=1e-3",  # with less, Adam makes steps of rounding noise
]
WORKER = """
import os, subprocess, sys
environment = os.environ | {sys.argv[2]: str(os.getpid())}
subprocess.call([sys.executable, "-c", sys.argv[1]], env=environment)
"""
PATIENCE_S = 1800.0  # a machine may be busy: what hangs is told after this


def environment(num_devices: int, cache: Path) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    return os.environ | {
        "XLA_FLAGS": f"{flags} --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "KKANJI_CACHE": str(cache),
        "PYTHONPATH": str(ROOT),
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process less to start, each time
    }


def arguments(dataset: Path, workdir: Path) -> list[str]:
    config = ["--config", str(ROOT / "configs/b0.py"), "--workdir", str(workdir)]
    return [*config, f"--config.data.dataset={dataset}", *SETTINGS]


def on_ray(dataset: Path, workdir: Path, cache: Path) -> subprocess.Popen[str]:
    """Two workers on a cluster of their own, which ends with them."""
    command = [sys.executable, str(SCRIPT), "--workers", "2", "--", *arguments(dataset, workdir)]
    with workdir.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            command, env=environment(1, cache), cwd=ROOT, stdout=log, stderr=log, text=True
        )


def told(workdir: Path) -> str:
    logs = [workdir.with_suffix(".log"), *(workdir.parent / "ray_train").rglob("*.log")]
    return "\n".join(f"{path}:\n{path.read_text(errors='replace')}" for path in logs)


def trainer_of(workdir: Path, number: int) -> int | None:
    """The trainer that has this number among those of a run, if it is there."""
    own = f"JAX_PROCESS_ID={number}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"-c" in words and str(workdir).encode() in words:
                if own in (folder / "environ").read_bytes().split(b"\0"):
                    return int(folder.name)
        except OSError:
            continue  # it has ended
    return None


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[str], workdir: Path) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert process.poll() is None, told(workdir)
        assert time.monotonic() < until_s, told(workdir)
        time.sleep(0.02)


def finish(process: subprocess.Popen[str], workdir: Path) -> None:
    assert process.wait(PATIENCE_S) == 0, told(workdir)


def leaves_of(loaded: Loaded) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves([loaded.params, loaded.batch_stats])]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for Ray: this process is the only worker."""
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    train = SimpleNamespace(get_context=lambda: context)
    util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")
    collective = SimpleNamespace(broadcast_from_rank_zero=lambda told: told)
    ray = SimpleNamespace(util=util, train=train)
    modules = {"ray": ray, "ray.util": util, "ray.train": train, "ray.train.collective": collective}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_trainer_that_fails_is_told_by_its_last_line_and_its_log(
    load_script: Any, alone: None, tmp_path: Path
):
    ray_train = load_script("launch/ray_train")
    told = {"arguments": ["--nothing"], "folder": str(tmp_path), "logs": str(tmp_path)}
    log = tmp_path / "process-0.log"
    log.write_text("of the attempt before\n")
    with pytest.raises(RuntimeError) as failed:
        ray_train.train_here(told)
    before, *lines = log.read_text().splitlines()
    assert before == "of the attempt before"
    expected = f"process 0 of 0 to 0 ended with status 2: {lines[-1]} ({log})"
    assert str(failed.value) == expected and "'nothing'" in lines[-1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--config.data.dataset=/nowhere/set", "no dataset at /nowhere/set"),
        ("--config.batch_size=0", "batch_size must be"),
        ("--config.init_from=/nowhere/run", "must be a run or a bundle, not /nowhere/run"),
    ],
)
def test_what_every_process_would_refuse_is_refused_before_ray_starts(
    wrong: str,
    said: str,
    load_script: Any,
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Ray would start the processes again, three times."""
    ray_train = load_script("launch/ray_train")

    def connected(*_: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray_train, "connected", connected)
    words = ["--", *arguments(tiny_dataset, tmp_path / "run")]
    with pytest.raises(AssertionError, match="Ray was started"):
        ray_train.main(words)
    assert ray_train.main([*words, wrong]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
    assert list(tmp_path.iterdir()) == []


def test_a_trainer_ends_when_its_worker_is_killed(load_script: Any, tmp_path: Path):
    ray_train = load_script("launch/ray_train")
    (tmp_path / "kkanji_jax").mkdir()
    (tmp_path / "kkanji_jax/__init__.py").touch()
    (tmp_path / "kkanji_jax/train.py").write_text(
        "import os, time\ndef run():\n    print(os.getpid(), flush=True)\n    time.sleep(600)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, ray_train.TRAIN, ray_train.PARENT],
        cwd=tmp_path,  # where Python looks first
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    trainer = int(worker.stdout.readline())
    worker.kill()
    # The trainer has the other end of the pipe, until it ends.
    assert worker.communicate(timeout=60) == ("", None)
    end = time.monotonic() + 60  # its files are closed a moment before it has ended
    while is_running(trainer):
        assert time.monotonic() < end, "the trainer outlived its worker"
        time.sleep(0.05)


@pytest.mark.slow
def test_two_workers_learn_what_one_process_does_and_go_on_to_the_bit(
    tiny_dataset: Path, tmp_path: Path
):
    pytest.importorskip("ray.train")
    cache = tmp_path / "cache"
    one, two, killed = (tmp_path / name for name in ("one", "two", "killed"))
    command = [sys.executable, "-m", "kkanji_jax.train", *arguments(tiny_dataset, one)]
    subprocess.run(command, env=environment(2, cache), cwd=ROOT, capture_output=True, check=True)

    process = on_ray(tiny_dataset, two, cache)
    try:
        finish(process, two)
        process = on_ray(tiny_dataset, killed, cache)
        wait_for(lambda: bool(finished_steps(killed)), process, killed)
        trainer = trainer_of(killed, 1)
        assert trainer is not None
        os.kill(trainer, signal.SIGKILL)
        finish(process, killed)
    finally:
        process.kill()
        process.wait()
    assert trainer_of(killed, 0) is None and trainer_of(killed, 1) is None

    alone, both, again = (load_variables(path, "latest") for path in (one, two, killed))
    assert alone.step == both.step == again.step
    said = (tmp_path / "ray_train" / killed.name / "process-0.log").read_text()
    (resumed,) = re.findall(rf"resuming {re.escape(str(killed))} at step (\d+)", said)
    assert 0 < int(resumed) < again.step, "it was not killed in mid-run"
    for left, right in zip(leaves_of(alone), leaves_of(both), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)  # a step moves 1e-3
    for left, right in zip(leaves_of(both), leaves_of(again), strict=True):
        np.testing.assert_array_equal(left, right)
