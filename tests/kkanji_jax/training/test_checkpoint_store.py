"""Whatever happens to a checkpoint's files, the last whole one is found, or the run refuses."""

import errno
import gc
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from kkanji_jax.config import default_config
from kkanji_jax.files import SUMS
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.saved.checkpoint import best_step, check_step, finished_steps, refuse_other_run
from kkanji_jax.training import checkpoint_store
from kkanji_jax.training.checkpoint_store import CheckpointStore
from kkanji_jax.training.state import TrainState


class Position:
    """A data iterator, as far as a checkpoint knows one."""

    def __init__(self, index: int = -1) -> None:
        self.index = index

    def get_state(self) -> dict[str, int]:
        return {"next_index": self.index}

    def set_state(self, state: Mapping[str, int]) -> None:
        self.index = state["next_index"]


def state_at(step: int) -> TrainState:
    kernel = np.random.default_rng(step).random((64, 64), np.float32)  # nothing to compress
    weights = {"kernel": kernel, "bias": np.arange(64.0) + step}
    statistics = {"mean": np.full(3, -step, np.float32)}
    return TrainState(
        np.asarray(step, np.int32), weights, statistics, [weights], weights, statistics
    )


META = {
    "config": default_config().to_dict(),
    "class_index": {"digest": "d", "codepoint_to_id": {"春 (U+6625)": 0}},
    "manifest_sha256": "m",
    "train_counts": {},
    "package_version": "0",
}


def save(workdir: Path, *steps: int, scores: Mapping[int, float] | None = None) -> None:
    store = CheckpointStore(workdir, max_to_keep=2)
    for step in steps:
        score = {"val_accuracy": scores[step]} if scores else None
        store.save(step, state_at(step), Position(step), META, score)
    store.close()


def resume(workdir: Path, meta: Mapping[str, Any] = META) -> tuple[int | None, Position]:
    """The step that a run would go on from, its arrays and its position compared."""
    position = Position()
    store = CheckpointStore(workdir, max_to_keep=2)
    try:
        mesh = mesh_lib.make_mesh(jax.devices()[:1])
        found = store.restore_latest(state_at(0), position, mesh, meta)
    finally:
        store.close()
    if found is None:
        return None, position
    step = int(found[0].step)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found[0]), state_at(step))
    return step, position


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("saved")
    save(workdir, 4, 8)
    return workdir


@pytest.fixture
def workdir(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def largest(folder: Path) -> Path:
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def copy_half(folder: Path) -> None:
    """As a copy over the network that was cut: every second file is not there yet."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[::2]:
        path.unlink(missing_ok=path.name != SUMS)


HARMS: dict[str, Callable[[Path], object]] = {
    "a flipped byte": lambda step: flip(largest(step)),
    "a cut file": lambda step: os.truncate(largest(step), 100),
    "an empty file": lambda step: largest(step).write_bytes(b""),
    "no manifest of the state": lambda step: (step / "state" / "_METADATA").unlink(),
    "no meta": lambda step: shutil.rmtree(step / "meta"),
    "a changed meta": lambda step: flip(step / "meta" / "metadata"),
    "no position": lambda step: shutil.rmtree(step / "data"),
    "no digests": lambda step: (step / SUMS).unlink(),
    "empty digests": lambda step: (step / SUMS).write_bytes(b""),
    "cut digests": lambda step: os.truncate(step / SUMS, 70),
    "half a copy": copy_half,
    "an empty folder": lambda step: (shutil.rmtree(step), step.mkdir()),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_is_taken(
    harm: str, workdir: Path, capsys: pytest.CaptureFixture[str]
):
    HARMS[harm](workdir / "checkpoints" / "8")
    step, position = resume(workdir)
    assert (step, position.index) == (4, 4)
    told = capsys.readouterr().err
    assert "falling back to an earlier checkpoint" in told or "its save did not finish" in told
    assert finished_steps(workdir) == [4]
    save(workdir, 8, 12)  # the run goes on past the place
    assert resume(workdir)[0] == 12


def test_when_every_checkpoint_is_damaged_nothing_starts_over_however_often_it_is_asked(
    workdir: Path,
):
    for step in (4, 8):
        flip(largest(workdir / "checkpoints" / str(step)))
    for _ in range(2):
        with pytest.raises(ValueError, match="every checkpoint in .* is damaged"):
            resume(workdir)
    assert finished_steps(workdir) == [4, 8]


def test_a_copy_without_any_digests_is_refused_and_left_as_it_is(workdir: Path):
    for step in ("4", "8"):
        (workdir / "checkpoints" / step / SUMS).unlink()
    before = sorted((workdir / "checkpoints").rglob("*"))
    with pytest.raises(ValueError, match=r"has its SHA256SUMS \(steps 4, 8\): copy them whole"):
        resume(workdir)
    assert sorted((workdir / "checkpoints").rglob("*")) == before


def test_folders_and_files_of_others_are_left_alone(workdir: Path):
    root = workdir / "checkpoints"
    theirs = [root / name for name in ("my notes", "4 copy", "old_16")]
    for folder in theirs:
        folder.mkdir()
        (folder / "file").write_text("mine")
    (root / "99").write_text("a file, no step")
    ours = [root / "16", root / "16.orbax-checkpoint-tmp-7", root / "16.orbax-checkpoint-tmp"]
    for folder in ours:
        folder.mkdir()
        (folder / "half").write_text("of a save")
    assert resume(workdir)[0] == 8
    assert all((folder / "file").exists() for folder in theirs)
    assert not any(folder.exists() for folder in ours)
    save(workdir, 16)
    assert resume(workdir)[0] == 16


def test_an_old_checkpoint_that_is_damaged_does_not_stop_a_save(workdir: Path):
    flip(workdir / "checkpoints" / "4" / "meta" / "metadata")
    (workdir / "checkpoints" / "4" / "meta" / "metadata").write_bytes(b"{")
    save(workdir, 12)
    assert finished_steps(workdir) == [8, 12]
    assert resume(workdir)[0] == 12


def test_the_best_is_kept_beside_the_latest(tmp_path: Path):
    save(tmp_path, 1, 2, 3, 4, scores={1: 0.2, 2: 0.9, 3: 0.3, 4: 0.1})
    assert finished_steps(tmp_path) == [2, 3, 4] and best_step(tmp_path) == 2


CHANGES = {
    "batch_size": ({"batch_size": 7}, "batch_size: 1024 -> 7"),
    "seed": ({"seed": 5}, "seed: 0 -> 5"),
    "architecture": ({"model.variant": "b3"}, "model.variant: 'b0' -> 'b3'"),
    "microbatches": ({"microbatches": 2}, "microbatches: 1 -> 2"),
}


@pytest.mark.parametrize("what", [*CHANGES, "dataset", "classes"])
def test_a_run_that_is_not_this_one_is_refused_with_the_difference(what: str, workdir: Path):
    meta = dict(META)
    if what in CHANGES:
        changes, wanted = CHANGES[what]
        config = default_config()
        config.update_from_flattened_dict(changes)
        meta["config"] = config.to_dict()
    elif what == "dataset":
        meta["manifest_sha256"], wanted = "other", "the dataset's shards or options"
    else:
        meta["class_index"], wanted = {"digest": "other"}, "the dataset's class index"
    with pytest.raises(ValueError, match="holds a run with another configuration") as refused:
        resume(workdir, meta)
    assert wanted in str(refused.value) and "\n" not in str(refused.value)
    assert finished_steps(workdir) == [4, 8]


def test_what_changes_no_number_may_change(workdir: Path):
    config = default_config()
    config.update_from_flattened_dict({"log_every_steps": 3, "data.dataset": "elsewhere"})
    refuse_other_run(META, META | {"config": config.to_dict()}, workdir)


@pytest.mark.parametrize(
    ("failure", "raised", "told"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError, "the disk is full"),
        (ValueError("write: No space left on device"), OSError, "the disk is full"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), OSError, "mend this"),
        (ValueError("a shape that Orbax does not like"), ValueError, "^a shape that Orbax"),
        (RuntimeError("anything else"), RuntimeError, "^anything else$"),
    ],
)
def test_only_a_full_disk_is_called_one(
    failure: Exception, raised: type, told: str, workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: object, **more: object) -> None:
        (workdir / "checkpoints" / "12.orbax-checkpoint-tmp").mkdir()
        raise failure

    store = CheckpointStore(workdir, max_to_keep=2)
    monkeypatch.setattr(store._manager, "save", fail)
    store.save(12, state_at(12), Position(12), META, None)
    with pytest.raises(raised, match=told) as stopped:
        store.wait()
    store.close()
    store.close()
    if raised is OSError:
        assert "checkpoint 8 is whole" in str(stopped.value)
        assert not (workdir / "checkpoints" / "12.orbax-checkpoint-tmp").exists()
    assert finished_steps(workdir) == [4, 8]


# Orbax's own threads die loudly of a disk that fills up under them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
# Orbax leaves futures of the writes that failed to a loop it has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fills_up_during_a_save_keeps_what_is_whole(
    mount: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    disk = mount("size=180k")  # one of these checkpoints takes some 140 kB
    save(disk, 4)
    with pytest.raises(OSError, match="the disk is full .* checkpoint 4 is whole: make room"):
        save(disk, 8)
    # Somebody else fills the disk after the check: it finds room.
    monkeypatch.setattr(checkpoint_store, "_check_space", lambda *_: None)
    with pytest.raises(OSError, match="the disk is full .* checkpoint 4 is whole: make room"):
        save(disk, 8)
    assert [path.name for path in sorted((disk / "checkpoints").iterdir())] == ["4"]
    mount("size=4m")
    save(disk, 8)
    assert resume(disk)[0] == 8
    gc.collect()  # here, and not in the test that comes next


def test_a_state_that_is_not_finite_is_not_saved(workdir: Path):
    state = state_at(12)
    state.params["bias"][3] = np.nan
    store = CheckpointStore(workdir, max_to_keep=2)
    with pytest.raises(FloatingPointError, match="not finite at step 12"):
        store.save(12, state, Position(12), META, None)
    store.close()
    assert finished_steps(workdir) == [4, 8]


def test_the_digests_cover_every_file_of_a_step(workdir: Path):
    check_step(workdir, 8)
    folder = workdir / "checkpoints" / "8"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SUMS]
    assert len(files) > 5 and json.loads((folder / "meta" / "metadata").read_text())
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(ValueError, match="damaged"):
            check_step(workdir, 8)
        path.write_bytes(content)
    check_step(workdir, 8)
