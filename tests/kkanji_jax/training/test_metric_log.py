"""metrics.jsonl tells sums divided once, and goes on where it was stopped."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kkanji_jax.training import metric_log
from kkanji_jax.training.metric_log import LogConfig, MetricLog, format_duration
from kkanji_jax.training.metrics import Norms, StepMetrics, Sums
from kkanji_jax.training.metrics_file import read_metrics

CONFIG = LogConfig(
    total_steps=40,
    steps_per_epoch=8.0,
    batch_size=4,
    learning_rates=np.linspace(0.1, 4.0, 40),  # 0.1 a step
)
SCORES = {
    "weights": "ema",
    "val_num_examples": 10,
    "val_loss": 1.5,
    "val_accuracy": 0.25,
    "val_macro_accuracy": 0.125,
    "val_top5": 0.75,
}


def measured(loss: float, true: list[int], hits: list[int], steps: int = 1) -> StepMetrics:
    """Of `steps` steps: norms of 3, 2 and 1 each. Class 0 is predicted where nothing was right."""
    predicted = np.array(hits)
    predicted[0] += sum(true) - sum(hits)
    norms = (np.asarray(norm * steps, np.float32) for norm in (3, 2, 1))
    return StepMetrics(
        Sums(
            loss=np.asarray(loss, np.float32),
            count=np.asarray(sum(true), np.int32),
            top5=np.zeros((), np.int32),
            true=np.array(true),
            predicted=predicted,
            hits=np.array(hits),
        ),
        Norms(np.asarray(steps, np.int32), *norms),
    )


def opened(workdir: Path, step: int = 0, carried: Any = None, **changes: Any) -> MetricLog:
    return MetricLog(workdir, replace(CONFIG, **changes), resumed_step=step, carried=carried)


def lines_of(workdir: Path) -> list[dict[str, Any]]:
    return read_metrics(workdir / "metrics.jsonl")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, for a test to set."""
    now = [100.0]
    monkeypatch.setattr(metric_log.time, "monotonic", lambda: now[0])
    return now


def test_a_line_divides_sums_by_counts_and_norms_by_steps(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.add(measured(6.0, [1, 1, 0], [1, 1, 0]))  # 3 nats an example
    log.add(measured(4.0, [3, 0, 5], [0, 0, 1], steps=2))  # half a nat
    log.write(3)
    (line,) = lines_of(tmp_path)
    assert (line["kind"], line["step"], line["total_steps"], line["examples"]) == (
        "train",
        3,
        40,
        12,
    )
    assert line["loss"] == pytest.approx(1.0) and line["accuracy"] == pytest.approx(0.3)
    assert line["epoch"] == 0.375 and line["lr"] == pytest.approx(0.3)  # of the third step
    norms = [line[f"{name}_norm"] for name in ("gradient", "update", "weight")]
    assert norms == [3, 2, 1]


def test_each_line_is_of_what_came_since_the_one_before(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.add(measured(8.0, [4, 0, 0], [4, 0, 0]))
    log.write(1)
    log.add(measured(4.0, [2, 2, 0], [0, 2, 0]))
    log.write(2)
    log.write(2)  # nothing came: no line
    log.write_scores(2, SCORES)
    log.add(measured(1.0, [0, 0, 4], [0, 0, 1]))
    log.write_scores(3, SCORES)
    train, second, scores, last = lines_of(tmp_path)
    assert (train["loss"], second["loss"]) == (2, 1)
    assert scores["kind"] == "eval" and scores["val_accuracy"] == 0.25
    assert scores["train_loss"] == 1.5  # of both lines: 12 nats, 8 examples
    assert scores["train_accuracy"] == pytest.approx(6 / 8)
    assert scores["train_recall"] == pytest.approx(6 / 8)
    # Class 0: 4 right of 6 called so. Class 1: 2 of 2. By examples, 6 to 2.
    assert scores["train_precision"] == pytest.approx(0.75 * 4 / 6 + 0.25)
    assert (last["train_loss"], last["train_accuracy"]) == (0.25, 0.25)


def test_what_was_carried_through_a_checkpoint_is_as_if_nothing_had_stopped(tmp_path: Path) -> None:
    parts = [measured(1 / 3, [1, 2, 1], [1, 0, 1]), measured(1e-9, [4, 0, 0], [4, 0, 0])]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    log = opened(whole)
    for part in parts:
        log.add(part)
    log.write(2)
    log = opened(halves)
    log.add(parts[0])
    carried = json.loads(json.dumps(log.carry()))
    log = opened(halves, 1, carried)
    log.add(parts[1])
    log.write(2)
    for name in ("loss", "accuracy", "gradient_norm"):
        assert lines_of(halves)[0][name] == lines_of(whole)[0][name]


def test_sums_carried_by_an_old_checkpoint_are_taken_up(tmp_path: Path) -> None:
    sums = [5.0, 4, 4, [4, 0, 0], [2, 2, 0], [2, 0, 0]]  # a list, without norms
    log = opened(tmp_path, 1, {"since_log": sums, "since_eval": None})
    log.write(1)
    (line,) = lines_of(tmp_path)
    assert (line["loss"], line["accuracy"]) == (1.25, 0.5) and "gradient_norm" not in line
    log.add(measured(4.0, [4, 0, 0], [4, 0, 0]))
    log.write(2)
    assert lines_of(tmp_path)[1]["gradient_norm"] == 3


def test_lines_after_the_step_that_a_run_goes_on_from_are_dropped(
    tmp_path: Path, clock: list[float]
) -> None:
    log = opened(tmp_path)
    for step in (1, 2, 3):
        log.add(measured(float(step), [4, 0, 0], [4, 0, 0]))
        clock[0] += 10
        log.write(step)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')  # cut off by a kill
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3]
    log = opened(tmp_path, 2)
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2]
    clock[0] += 5
    log.add(measured(1.0, [4, 0, 0], [4, 0, 0]))
    log.write(3)
    assert lines_of(tmp_path)[-1]["elapsed_s"] == 25  # 20 s up to step 2, and 5


def test_speed_leaves_out_compiling_and_pauses_and_tells_waiting(
    tmp_path: Path, clock: list[float]
) -> None:
    log = opened(tmp_path, images_per_s_limit=16.0)
    log.add(measured(1.0, [4, 0, 0], [4, 0, 0]))
    clock[0] += 1000  # the first dispatch compiles
    log.compiled(1)
    log.add(measured(1.0, [4, 0, 0], [4, 0, 0]))
    with log.waiting_for_data():
        clock[0] += 1
    clock[0] += 3
    with log.pause():
        clock[0] += 500
    log.write(5)
    (line,) = lines_of(tmp_path)
    assert line["images_per_s"] == 4  # steps 2 to 5 in 4 s
    assert line["data_wait"] == 0.25 and line["roofline"] == 0.25
    assert line["elapsed_s"] == 1504


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_loss_or_a_norm_that_is_not_finite_stops_the_run(tmp_path: Path, number: float) -> None:
    log = opened(tmp_path)
    log.add(measured(number, [4, 0, 0], [4, 0, 0]))
    with pytest.raises(FloatingPointError, match=f"the loss is {number} at step 7"):
        log.write(7)
    sums, norms = measured(1.0, [4, 0, 0], [4, 0, 0])
    log = opened(tmp_path)
    log.add(StepMetrics(sums, norms._replace(weight=np.asarray(number, np.float32))))
    with pytest.raises(FloatingPointError, match=f"the weight norm is {number} at step 8"):
        log.write(8)
    assert lines_of(tmp_path) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_loss_of_val_that_is_not_finite_stops_the_run(tmp_path: Path, number: float) -> None:
    log = opened(tmp_path)
    with pytest.raises(FloatingPointError, match=f"the loss of val is {number} at step 7"):
        log.write_scores(7, SCORES | {"val_loss": number})
    assert lines_of(tmp_path) == []


def test_the_person_at_the_terminal_is_told_how_long_it_takes(
    tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    log = opened(tmp_path)
    clock[0] += 90
    log.compiled(2)
    log.add(measured(2.0, [4, 0, 0], [3, 0, 0]))
    clock[0] += 8
    log.write(4)  # 8 images in 8 s, 36 steps of 4 are left
    log.write_scores(4, SCORES)
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith("first steps after 1 min 30 s")
    assert re.search("loss 0.5000  accuracy 0.7500  1 images/s  2 min 24 s left$", told[1])
    assert "val (ema weights, n=10): loss 1.5000  accuracy 0.2500  macro 0.1250" in told[2]


def test_of_several_processes_one_writes_and_speaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = opened(tmp_path, is_writer=False)
    log.compiled(1)
    log.add(measured(1.0, [4, 0, 0], [4, 0, 0]))
    log.write(1)
    log.write_scores(1, SCORES)
    assert not (tmp_path / "metrics.jsonl").exists() and capsys.readouterr().err == ""


def test_event_files_hold_the_numbers_of_a_line(tmp_path: Path) -> None:
    log = opened(tmp_path, has_tensorboard=True)
    log.add(measured(2.0, [4, 0, 0], [3, 0, 0]))
    log.write(5)
    log.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    content = path.read_bytes()
    assert b"train/loss" in content and b"train/gradient_norm" in content
    assert b"train/step" not in content  # only what has a fraction is a curve


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (7.6, "8 s"),
        (59.4, "59 s"),
        (60.0, "1 min 00 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 00 min"),
    ],
)
def test_durations_are_in_the_units_that_a_person_uses(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
