"""A run killed at any step and started again ends with the bits of one never killed."""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from kkanji_jax.saved.checkpoint import check_sums, finished_steps, load_variables


def last_step(trainer: Any, workdir: Path) -> int:
    return max((line["step"] for line in trainer.lines(workdir)), default=0)


def wait_for(condition: Any, process: Any) -> None:
    """Until it holds, or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.005)


def is_saving(workdir: Path) -> bool:
    """Whether a save has begun and not finished."""
    root = workdir / "checkpoints"
    finished = {str(step) for step in finished_steps(workdir)}
    return root.is_dir() and any(path.name not in finished for path in root.iterdir())


def kill_at(trainer: Any, workdir: Path, step: int, delay_s: float, *, in_save: bool) -> bool:
    """Starts the run, kills it after `step`, and tells whether work was lost that it had begun."""
    resumed = finished_steps(workdir)[-1:] or [0]
    process = trainer.start(workdir)
    wait_for(lambda: last_step(trainer, workdir) > max(step, resumed[0]), process)
    if in_save:
        wait_for(lambda: is_saving(workdir), process)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    saved = finished_steps(workdir)[-1:] or [0]
    return last_step(trainer, workdir) > saved[0] or is_saving(workdir)


def interrupt(trainer: Any, workdir: Path, number: signal.Signals) -> None:
    """Starts the run and, when it has written a line, asks it to stop: it must, with a save."""
    before = len(trainer.lines(workdir))
    process = trainer.start(workdir)
    wait_for(lambda: len(trainer.lines(workdir)) > before, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    assert not children.exists() or children.read_text() == "", "a kill would leave orphans"
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 0 and "told to stop; saved" in errors, errors


def test_killed_then_stopped_by_ctrl_c_then_left_alone_it_ends_with_the_same_bits(
    trainer: Any, undisturbed: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "killed"
    kill_at(trainer, workdir, 8, 0.01, in_save=False)
    assert 0 < last_step(trainer, workdir) < finished_steps(undisturbed)[-1]
    for name in ("config.json", "index.json"):  # they are written again
        (workdir / name).unlink()
    interrupt(trainer, workdir, signal.SIGINT)
    assert 0 < finished_steps(workdir)[-1] < finished_steps(undisturbed)[-1]
    assert "resuming" in trainer.run(workdir)
    trainer.assert_same_end(undisturbed, workdir)
    for name in ("config.json", "index.json"):
        assert (workdir / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.slow
def test_ten_kills_at_any_moment_change_no_bit(
    trainer: Any, undisturbed: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "killed"
    rng = np.random.default_rng(5)
    num_unfinished = 0
    for number, step in enumerate(np.sort(rng.integers(1, 40, 10))):
        delay_s = rng.uniform(0, 0.1)
        num_unfinished += kill_at(trainer, workdir, step, delay_s, in_save=number % 3 == 1)
    assert num_unfinished >= 8
    trainer.run(workdir)
    trainer.assert_same_end(undisturbed, workdir)


@pytest.mark.slow
def test_a_kill_inside_a_save_of_the_real_b0_changes_no_bit(trainer: Any, tmp_path: Path) -> None:
    settings = (
        *trainer.settings,
        "--config.model.variant=b0",
        "--config.model.image_px=32",
        "--config.batch_size=8",
        "--config.log_every_steps=2",
        "--config.eval_every_steps=100",
        "--config.ckpt_every_steps=2",
        "--config.epochs=0.7",
    )
    trainer = trainer._replace(settings=settings)
    whole, workdir = tmp_path / "whole", tmp_path / "killed"
    trainer.run(whole)
    assert kill_at(trainer, workdir, 5, 0.02, in_save=True)  # the first save is whole by then
    assert "resuming" in trainer.run(workdir)
    trainer.assert_same_end(whole, workdir)


def test_a_second_trainer_is_kept_out_and_the_first_stops_on_sigterm(
    trainer: Any, undisturbed: Path, tmp_path: Path
) -> None:
    workdir = tmp_path / "held"
    process = trainer.start(workdir)
    wait_for(lambda: trainer.lines(workdir), process)
    process.send_signal(signal.SIGSTOP)  # it holds the workdir, and does no more
    before = (workdir / "metrics.jsonl").read_bytes()
    told = trainer.run(workdir, status=1)
    assert told.startswith(f"error: another trainer is running in {workdir}"), told
    assert told.count("\n") == 1 and (workdir / "metrics.jsonl").read_bytes() == before
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate()
    assert process.returncode == 0 and "told to stop; saved" in errors, errors
    lines = trainer.lines(workdir)
    assert 0 < len(lines) < len(trainer.lines(undisturbed))
    assert lines == trainer.lines(undisturbed)[: len(lines)]


def test_a_flipped_bit_is_noticed_and_an_earlier_checkpoint_taken(
    trainer: Any, undisturbed: Path, tmp_path: Path
) -> None:
    workdir = Path(shutil.copytree(undisturbed, tmp_path / "flipped"))
    last = workdir / "checkpoints" / str(finished_steps(workdir)[-1])
    largest = max((last / "state").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        check_sums(last)
    with pytest.raises(ValueError, match="damaged"):
        load_variables(workdir, "latest")
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # and a line torn by the same accident
    assert "falling back to an earlier checkpoint" in trainer.run(workdir)
    trainer.assert_same_end(undisturbed, workdir)


def test_a_damaged_line_of_the_log_is_told_with_its_file_and_number(
    trainer: Any, undisturbed: Path, tmp_path: Path
) -> None:
    workdir = Path(shutil.copytree(undisturbed, tmp_path / "damaged"))
    path = workdir / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\0" * 30 + b"\n", *lines[1:]]))
    *_, error = trainer.run(workdir, status=1).splitlines()
    assert error.startswith(f"error: {path} line 2 is damaged: "), error
    assert error.endswith("restore the file, or remove that line")
    path.write_bytes(b"".join([b"\n", *lines]) + b"\0" * 30)  # a blank one, and a torn end
    trainer.run(workdir)
    assert path.read_bytes() == b"".join(lines)


def test_another_config_is_refused_with_the_difference(trainer: Any, undisturbed: Path) -> None:
    told = trainer.run(undisturbed, "--config.optim.lr_peak=0.5", status=1)
    assert "optim.lr_peak: 0.001 -> 0.5" in told and len(told.splitlines()) < 4
    # Another network, whose weights could not even be restored, is told the same way.
    told = trainer.run(undisturbed, "--config.model.variant=b0", status=1)
    assert "model.variant: 'nano' -> 'b0'" in told and len(told) < 1000


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_with_room_it_goes_on_to_the_same_bits(
    trainer: Any, undisturbed: Path, mount: Any
) -> None:
    step = undisturbed / "checkpoints" / str(finished_steps(undisturbed)[-1])
    one_kb = sum(path.stat().st_blocks // 2 for path in step.rglob("*"))
    disk = mount(f"size={one_kb * 3 // 2}k")  # one checkpoint fits, two do not
    told = trainer.run(disk, status=1)
    *_, error = told.splitlines()
    assert error.startswith(f"error: cannot save a checkpoint in {disk}: the disk is full"), told
    assert "checkpoint 6 is whole: make room" in error and "Traceback" not in told
    assert finished_steps(disk) == [6] and not is_saving(disk)
    assert load_variables(disk).step == 6
    assert last_step(trainer, disk) < finished_steps(undisturbed)[-1], "it is told at once"
    mount("size=64m")
    assert "resuming" in trainer.run(disk)
    trainer.assert_same_end(undisturbed, disk)


@pytest.mark.slow
def test_a_run_that_diverges_stops_and_names_what_is_good(trainer: Any, tmp_path: Path) -> None:
    # The first step makes huge weights, which are numbers still; the second makes none of them. No
    # config may ask for such a rate, so the table of fields is told here that it may.
    often = [f"--config.{name}=1" for name in ("steps_per_dispatch", "log_every_steps")]
    settings = ("--config.optim.lr_peak=1e15", "--config.ckpt_every_steps=1", *often)
    code = (
        "from kkanji_jax import config, train\n"
        "rate = config.FIELDS['optim.lr_peak']\n"
        "config.FIELDS['optim.lr_peak'] = rate._replace(high=1e16)\n"
        "train.run()"
    )
    python, _, _, *flags = trainer.command(tmp_path, *settings)
    ended = subprocess.run(
        [python, "-c", code, *flags],
        env=trainer.environment | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    told = ended.stderr
    assert ended.returncode == 1, told
    *_, error = told.splitlines()
    assert error.startswith("error: the ") and "at step" in error and "lr_peak" in error, told
    good = finished_steps(tmp_path)
    assert f"checkpoint {good[-1]} in {tmp_path} is good" in error
    assert error.endswith(f"from the start or with --config.init_from={tmp_path}")
    params = load_variables(tmp_path, "latest").params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert all(np.isfinite(line["loss"]) for line in trainer.lines(tmp_path) if "loss" in line)


def test_only_the_latest_and_the_best_are_kept(trainer: Any, undisturbed: Path) -> None:
    kept = finished_steps(undisturbed)
    best = load_variables(undisturbed).step
    scores = {
        line["step"]: line["val_accuracy"]
        for line in trainer.lines(undisturbed)
        if line["kind"] == "eval"
    }
    assert scores[best] == max(scores.values())
    assert 2 <= len(kept) <= 3 and best in kept
