"""Two processes train as one does, started as a cluster starts them."""

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from kkanji_jax.parallel import hosts
from kkanji_jax.saved.checkpoint import Loaded, load_variables

ROOT = Path(__file__).parents[1]
SETTINGS = [
    "--config.model.variant=nano",
    "--config.model.image_px=16",
    "--config.model.dtype=float32",
    "--config.batch_size=32",
    "--config.microbatches=2",
    "--config.steps_per_dispatch=2",
    "--config.epochs=1.5",
    "--config.ckpt_every_steps=2",
    "--config.eval_every_steps=4",
    "--config.optim.eps=1e-3",  # with less, Adam makes steps of rounding noise
    "--config.log_every_steps=2",
]
# srun, as far as one machine can be a cluster: two tasks with SLURM's variables.
SRUN = """#!/bin/bash
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1 \\
        SLURM_STEP_NODELIST=localhost "$@" &
done
wait -n && wait -n
"""


def environment(num_devices: int, **more: str) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    return os.environ | {"XLA_FLAGS": f"{flags} --xla_backend_optimization_level=0"} | more


def assert_close(one: Loaded, other: Loaded) -> None:
    assert one.step == other.step == 4
    pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    for left, right in pairs:
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4)  # a step moves 1e-3


@pytest.mark.slow
def test_two_processes_of_four_devices_learn_what_one_of_eight_does(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, content in (("srun", SRUN), ("scontrol", "#!/bin/bash\nexit 1\n")):
        (commands / name).write_text(content)
        (commands / name).chmod(stat.S_IRWXU)
    cluster = environment(
        4,
        PATH=f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        CONFIG=str(ROOT / "configs/b0.py"),
        DATASET=str(tiny_dataset),
        WORKDIR=str(tmp_path / "two"),
        SLURM_JOB_ID=str(random.SystemRandom().randrange(4096)),  # chooses the port
    )
    script = ["bash", str(ROOT / "scripts/launch/slurm/train.sbatch"), *SETTINGS]
    done = subprocess.run(
        script, env=cluster, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("steps of 32 on 8 x cpu") == 1, done.stderr  # one of them speaks
    one = [
        sys.executable,
        "-m",
        "kkanji_jax.train",
        "--config",
        str(ROOT / "configs/b0.py"),
        "--workdir",
        str(tmp_path / "one"),
        f"--config.data.dataset={tiny_dataset}",
        *SETTINGS,
    ]
    subprocess.run(one, env=environment(8), cwd=ROOT, capture_output=True, check=True, timeout=600)

    first, second = (load_variables(tmp_path / name, "latest") for name in ("one", "two"))
    assert_close(first, second)
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    for left, right in zip(*lines, strict=True):
        loss = "loss" if left["kind"] == "train" else "val_loss"
        assert left[loss] == pytest.approx(right[loss], rel=1e-3)

    # A checkpoint of two processes goes on in one, to where both ended.
    shutil.rmtree(tmp_path / "two" / "checkpoints" / str(second.step))
    one[one.index("--workdir") + 1] = str(tmp_path / "two")
    again = subprocess.run(
        one, env=environment(8), cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert again.returncode == 0, again.stderr
    assert f"resuming {tmp_path / 'two'} at step 2" in again.stderr
    assert_close(first, load_variables(tmp_path / "two", "latest"))


TASK = """
import os, signal, jax
from jax._src import xla_bridge  # the option has no public reader
from kkanji_jax.parallel import hosts, mesh
hosts.join()
whole = mesh.split_whole([__import__("numpy").arange(8)], mesh.make_mesh())[0]
print(xla_bridge.CUDA_VISIBLE_DEVICES.value, len(jax.devices()), whole.shape, flush=True)
hosts.meet("printed")
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


@pytest.mark.parametrize(("nodes", "devices"), [("2", "all"), ("1", "{task}")])
def test_a_task_takes_the_devices_of_its_node_and_ends_when_told_to(nodes: str, devices: str):
    job = str(random.SystemRandom().randrange(4096))
    cluster = environment(
        2,
        SLURM_JOB_ID=job,
        SLURM_NTASKS="2",
        SLURM_STEP_NUM_NODES=nodes,
        SLURM_STEP_NODELIST="localhost",
    )
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", TASK],
            env=cluster | {"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n if nodes == "1" else 0)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    try:
        ends = [(*task.communicate(timeout=120), task.returncode) for task in tasks]
    finally:
        for task in tasks:
            task.kill()
    for n, (told, errors, status) in enumerate(ends):
        assert told.splitlines()[:1] == [f"{devices.format(task=n)} 4 (8,)"], errors
        assert status == -signal.SIGTERM, errors


def test_half_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES must be set too"):
        hosts.join()


def test_one_process_agrees_with_itself() -> None:
    assert hosts.is_first() and hosts.any_says(True) and not hosts.any_says(False)
    hosts.meet("anywhere")
