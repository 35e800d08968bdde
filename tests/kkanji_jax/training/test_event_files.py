"""TensorBoard shows each step once, however often a run was killed and started again."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kkanji_jax.training.metric_log import LogConfig, MetricLog

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")

CONFIG = LogConfig(
    total_steps=9,
    steps_per_epoch=3.0,
    batch_size=4,
    learning_rates=np.zeros(9),
    has_tensorboard=True,
)


def events(workdir: Path) -> Iterator[Any]:
    """All events of a run in the order in which TensorBoard reads them: file by file."""
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:  # TFRecord: length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", data)
            yield event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def shown(workdir: Path) -> list[tuple[str, int, float]]:
    """Name, step and value of what TensorBoard shows: a start hides what is at its step or later.

    As its event accumulator does for files of version brain.Event:2.
    """
    kept: list[tuple[str, int, float]] = []
    for event in events(workdir):
        if event.session_log.status == event.session_log.START:
            kept = [each for each in kept if each[1] < event.step]
        kept += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return kept


def write(workdir: Path, monkeypatch: pytest.MonkeyPatch, *, resumed: int, steps: range) -> None:
    """What a run that was resumed after `resumed` writes, up to its kill."""
    # A file is named by the second it is begun in.
    monkeypatch.setattr("time.time", lambda: 1e9 + 10 * len(list(workdir.rglob("events*"))))
    log = MetricLog(workdir, CONFIG, resumed_step=resumed)
    for step in steps:
        log._append({"kind": "train", "step": step, "elapsed_s": 1.0 * step, "loss": 10.0 * step})
    log.close()


def test_steps_that_are_done_again_are_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, monkeypatch, resumed=0, steps=range(1, 6))
    write(tmp_path, monkeypatch, resumed=3, steps=range(4, 8))
    write(tmp_path, monkeypatch, resumed=6, steps=range(7, 10))
    assert len(list((tmp_path / "tensorboard").iterdir())) == 3
    losses = [(step, value) for name, step, value in shown(tmp_path) if name == "train/loss"]
    assert losses == [(step, 10.0 * step) for step in range(1, 10)]


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, monkeypatch, resumed=0, steps=range(1, 4))
    write(tmp_path, monkeypatch, resumed=0, steps=range(1, 3))
    assert [step for name, step, _ in shown(tmp_path) if name == "train/loss"] == [1, 2]
    versions = [event.file_version for event in events(tmp_path) if event.file_version]
    assert set(versions) == {"brain.Event:2"}  # without it TensorBoard would not look for starts
