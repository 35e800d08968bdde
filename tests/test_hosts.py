"""Two processes train as one does, started as a cluster starts them, and end as one does."""

import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from kkanji_jax.parallel import hosts
from kkanji_jax.saved.checkpoint import Loaded, finished_steps, load_variables

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
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NUM_NODES=1 \\
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
        WORKDIR=str(tmp_path / "two [1]"),
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

    first, second = (load_variables(tmp_path / name, "latest") for name in ("one", "two [1]"))
    assert_close(first, second)
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two [1]")
    ]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    for left, right in zip(*lines, strict=True):
        loss = "loss" if left["kind"] == "train" else "val_loss"
        assert left[loss] == pytest.approx(right[loss], rel=1e-3)

    # A checkpoint of two processes goes on in one, to where both ended.
    shutil.rmtree(tmp_path / "two [1]" / "checkpoints" / str(second.step))
    one[one.index("--workdir") + 1] = str(tmp_path / "two [1]")
    again = subprocess.run(
        one, env=environment(8), cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert again.returncode == 0, again.stderr
    assert f"resuming {tmp_path / 'two [1]'} at step 2" in again.stderr
    assert_close(first, load_variables(tmp_path / "two [1]", "latest"))


TASK = """
import os, signal, jax
from jax._src import xla_bridge  # the option has no public reader
from kkanji_jax.parallel import hosts, joining, mesh
joining.join()
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
        SLURM_STEP_NUM_TASKS="2",
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


class End(NamedTuple):
    """How a process ended."""

    status: int
    told: str  # on stderr
    answer: Any  # the last line of JSON on stdout


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def together(
    commands: Sequence[Sequence[str]], *, count: int | None = None, first: int = 0, **more: str
) -> list[subprocess.Popen[str]]:
    """Processes of one run, numbered from `first`, on one CPU device each."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment(
                1,
                JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
                JAX_NUM_PROCESSES=str(count or len(commands)),
                JAX_PROCESS_ID=str(number),
                **more,
            ),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, command in enumerate(commands, first)
    ]


def ends(processes: Sequence[subprocess.Popen[str]], timeout_s: float = 240.0) -> list[End]:
    """How they ended, all of them by themselves and in time."""
    try:
        told = [process.communicate(timeout=timeout_s) for process in processes]
    finally:
        for process in processes:
            process.kill()
    # Gloo, which joins CPUs, writes on stdout too.
    answers = [[line for line in out.splitlines() if line.startswith("{")] for out, _ in told]
    return [
        End(process.returncode, errors, json.loads(answer[-1]) if answer else None)
        for process, (_, errors), answer in zip(processes, told, answers, strict=True)
    ]


def training(workdir: Path, dataset: Path, *more: str) -> list[str]:
    command = ["-m", "kkanji_jax.train", "--config", str(ROOT / "configs/b0.py")]
    return [
        *command,
        "--workdir",
        str(workdir),
        f"--config.data.dataset={dataset}",
        *SETTINGS,
        *more,
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_whoever_waits_for_a_process_that_never_comes_ends_with_a_line(
    number: int, tiny_dataset: Path, tmp_path: Path
) -> None:
    command = training(tmp_path / "run", tiny_dataset)
    (end,) = ends(together([command], count=2, first=number, KKANJI_JOIN_TIMEOUT_S="1.5"))
    waits, error = end.told.splitlines()
    whom = f"process {1 - number}"
    assert waits.startswith(f"process {number} of 2 waits for {whom} at 127.0.0.1:"), end.told
    assert waits.endswith(", 1.5 s at most") and end.status == 1
    expected = (f"error: {whom} of 0 to 1 did not come", "error: process 1 of 0 to 1 did not find")
    assert error.startswith(expected[number]) and "within 1.5 s" in error, end.told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("failing", "harm"), [(0, "dataset"), (1, "dataset"), (1, "device")])
def test_what_fails_in_one_process_is_told_by_the_other(
    failing: int, harm: str, tiny_dataset: Path, tmp_path: Path
) -> None:
    """No process hangs, and none advises what would not help it."""
    commands = [training(tmp_path / "run", tiny_dataset) for _ in range(2)]
    if harm == "dataset":
        commands[failing] = training(tmp_path / "run", tmp_path / "nowhere")
        reason = str(tmp_path / "nowhere")
    else:
        code = "import os, runpy, sys; os.environ['JAX_PLATFORMS'] = 'cuda';"
        code += "sys.argv = sys.argv[1:]; runpy.run_module('kkanji_jax.train', run_name='__main__')"
        commands[failing] = ["-c", code, "train", *commands[failing][2:]]
        reason = "JAX finds no device here for JAX_PLATFORMS='cuda'"
    told = ends(together(commands))
    own, other = (end.told.splitlines()[-1] for end in (told[failing], told[1 - failing]))
    assert [end.status for end in told] == [1, 1]
    assert own.startswith("error: ") and "ended first" not in own and reason in own, told
    assert other == own.replace("error: ", f"error: process {failing} of 0 to 1 ended first: "), (
        told
    )
    assert all("Traceback" not in end.told and "Check failure" not in end.told for end in told)


AGREEING = """
import json, os, sys, time
from pathlib import Path
import jax, numpy as np
from kkanji_jax.parallel import hosts, joining
from kkanji_jax.cli import answer

def told(call, *args):
    try:
        call(*args)
    except ValueError as err:
        return str(err)

def meetings(is_slow):
    # What is dispatched is done only when somebody waits for it, as on a device.
    gather, queued, asked = hosts._gather, [], []
    def drain_and_gather(value):
        asked.append(len(queued))
        time.sleep(sum(queued))
        queued.clear()
        return gather(value)
    hosts._gather = drain_and_gather
    meeting = hosts.Meetings(every_s=0.5)
    began, stopped = time.monotonic(), None
    for dispatch in range(1, 400):
        queued.append(0.03 if dispatch > 40 or is_slow else 0.005)
        is_told = number == 1 and dispatch >= 90
        told_at = told_at if dispatch > 90 else time.monotonic()
        if meeting.any_says(is_told, is_meeting=dispatch == 20):
            stopped = dispatch
            break
    hosts._gather = gather
    return {"stopped": stopped, "asked": asked, "late_s": time.monotonic() - told_at}

def work():
    joining.join()
    global number
    answers = {}
    with hosts.EndingTogether():
        number = jax.process_index()
        base = Path(sys.argv[1])
        one, own = base / "shared", base / f"own{number}"
        own.mkdir(); one.mkdir(exist_ok=True)
        answers["same"] = told(hosts.check_same, {"a thing": "x", "b": "y"})
        answers["odd"] = told(hosts.check_same, {"a thing": "x", "b": str(number == 2)})
        answers["all"] = told(hosts.check_same, {"a thing": str(number)})
        answers["shared"] = told(hosts.check_shared, one)
        answers["not shared"] = told(hosts.check_shared, one if number < 1 else own)
        hosts.meet("listed")
        answers["left"] = [path.name for path in (*one.iterdir(), *own.iterdir())]
        answers["meetings"] = meetings(False)
        answers["any"] = hosts.Meetings(every_s=9.0).any_says(number == 2, is_meeting=True)
        print(json.dumps(answers), flush=True)
        if number == 1:
            raise FloatingPointError("the loss is nan at step 3")
        hosts.meet("where it never comes")

sys.exit(answer(work))
"""


def test_three_processes_compare_what_they_hold_and_agree_when_to_stop(tmp_path: Path) -> None:
    """And end together, where one fails while the others wait for it."""
    told = ends(together([["-c", AGREEING, str(tmp_path)]] * 3))
    assert [end.status for end in told] == [1, 1, 1], told
    assert told[1].told.splitlines()[-1] == "error: the loss is nan at step 3"
    for end in (told[0], told[2]):
        expected = "error: process 1 of 0 to 2 ended first: the loss is nan at step 3"
        assert end.told.splitlines()[-1] == expected
    answers = [end.answer for end in told]
    for answer in answers:
        remedy = "give every process the same files, flags and versions"
        assert answer["same"] is None
        odd = "process 2 of 0 to 2 has another b than the 2 that agree"
        assert answer["odd"] == f"{odd}: {remedy}"
        assert answer["all"] == f"each process from 0 to 2 has another a thing: {remedy}"
        assert answer["shared"] is None and answer["left"] == []
        assert answer["not shared"].startswith(
            "processes 1, 2 of 0 to 2 does not see what process 0 writes in "
        )
        assert answer["any"] is True
    meetings = [answer["meetings"] for answer in answers]
    assert meetings[0]["stopped"] == meetings[1]["stopped"] == meetings[2]["stopped"] >= 90
    asked = meetings[0]["asked"]
    assert len(asked) < 30  # not after each of a hundred
    assert 20 in [sum(asked[: number + 1]) for number in range(len(asked))]  # where all wait anyway
    assert meetings[1]["late_s"] < 3.0  # every_s, of dispatches that last six times as long now


@pytest.mark.slow
def test_a_signal_to_one_of_two_is_heard_by_both_far_from_any_checkpoint(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "run"
    far = ("epochs=4000", "eval_every_steps=9000", "ckpt_every_steps=9000", "log_every_steps=8")
    command = training(workdir, tiny_dataset, *(f"--config.{each}" for each in far))
    processes = together([command] * 2)
    log = workdir / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size) and processes[0].poll() is None:
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    told = ends(processes, 600.0)
    assert [end.status for end in told] == [0, 0], told
    (step,) = finished_steps(workdir)
    assert f"told to stop; saved {step} of" in told[0].told and step < 9000
    print(f"heard within {time.monotonic() - began_s:.0f} s at step {step}")

    # Another build on one machine, and a folder that only one of them has, are refused at once.
    other = Path(shutil.copytree(tiny_dataset, tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["fingerprint"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    harms = {
        "dataset": training(workdir, other, *command[-4:]),
        "config": [*command, "--config.seed=9"],
        "storage that all processes share": training(
            tmp_path / "mine", tiny_dataset, *command[-4:]
        ),
    }
    (tmp_path / "mine").mkdir()
    for expected, harmed in harms.items():
        told = ends(together([command, harmed]))
        for end in told:
            assert end.status == 1 and expected in end.told.splitlines()[-1], told
    assert finished_steps(workdir) == [step]


def test_one_process_agrees_with_itself() -> None:
    meetings = hosts.Meetings(every_s=9.0)
    assert hosts.is_first() and meetings.any_says(True, is_meeting=False)
    assert not meetings.any_says(False, is_meeting=True)
    hosts.meet("anywhere")
    hosts.check_same({"thing": "x"})
    hosts.check_shared(Path("nowhere"))
    with pytest.raises(OSError, match="^its own$"), hosts.EndingTogether():
        raise OSError("its own")
