"""Whatever happens to a checkpoint's files, the last whole one is found, or the run refuses."""

import contextlib
import errno
import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from kkanji_jax.config import default_config
from kkanji_jax.files import SUMS
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.saved.checkpoint import (
    best_step,
    check_step,
    finished_steps,
    refuse_other_run,
    restore_on_host,
)
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


FOREIGN = (
    ".DS_Store",
    "._8",
    ".nfs00000000000c",
    "state/.DS_Store",
    "state/Thumbs.db",
    "state/manifest (conflicted copy).ocdbt",
    "meta/metadata.sync-conflict-1",
    ".stfolder/x",
)


def add_foreign(folder: Path) -> list[Path]:
    """What systems and synchronisers leave in a folder."""
    theirs = [folder / name for name in FOREIGN]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    return theirs


def test_a_checkpoint_with_foreign_files_is_whole_and_they_stay(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    theirs = add_foreign(workdir / "checkpoints" / "8") + [workdir / "checkpoints" / ".DS_Store"]
    theirs[-1].write_text("mine")
    check_step(workdir, 8)
    assert resume(workdir)[0] == 8
    assert capsys.readouterr().err == "" and all(path.exists() for path in theirs)
    save(workdir, 12)
    assert resume(workdir)[0] == 12


def test_a_foreign_file_that_was_there_while_saving_is_not_missed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_sums = checkpoint_store.write_sums

    def with_foreign(folder: Path) -> None:
        (folder / ".nfs0001").write_text("open somewhere")
        write_sums(folder)
        (folder / ".nfs0001").unlink()

    monkeypatch.setattr(checkpoint_store, "write_sums", with_foreign)
    save(tmp_path, 4)
    check_step(tmp_path, 4)


def test_a_damaged_checkpoint_is_set_aside_and_not_deleted(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    flip(largest(workdir / "checkpoints" / "8"))
    add_foreign(workdir / "checkpoints" / "8")
    assert resume(workdir)[0] == 4
    assert "8 is now 8.set-aside; remove it" in capsys.readouterr().err
    aside = workdir / "checkpoints" / "8.set-aside"
    assert all((aside / name).exists() for name in (*FOREIGN, "SHA256SUMS", "state/_METADATA"))
    save(workdir, 8)
    assert resume(workdir)[0] == 8


def test_a_step_without_digests_that_holds_more_than_a_save_writes_is_set_aside(workdir: Path):
    step = workdir / "checkpoints" / "16"
    step.mkdir()
    (step / "notes.txt").write_text("mine")
    assert resume(workdir)[0] == 8
    assert (workdir / "checkpoints" / "16.set-aside" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["008", "８", "8.5", "8 copy"])
def test_a_folder_whose_name_is_like_a_steps_is_none(name: str, workdir: Path):
    shutil.copytree(workdir / "checkpoints" / "8", workdir / "checkpoints" / name)
    assert finished_steps(workdir) == [4, 8]
    assert resume(workdir)[0] == 8
    assert (workdir / "checkpoints" / name).exists()


def test_what_a_failed_removal_leaves_does_not_hinder_and_goes_later(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    step = workdir / "checkpoints" / "16"
    (step / "state").mkdir(parents=True)
    with monkeypatch.context() as patch:  # as .nfs files, which are there while they are open
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        save(workdir, 16)
    assert finished_steps(workdir)[-1] == 16
    assert len(list((workdir / "checkpoints").glob(".16.*.discarded"))) == 1
    assert resume(workdir)[0] == 16
    assert list((workdir / "checkpoints").glob(".16.*.discarded")) == []


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
        changes, expected = CHANGES[what]
        config = default_config()
        config.update_from_flattened_dict(changes)
        meta["config"] = config.to_dict()
    elif what == "dataset":
        meta["manifest_sha256"], expected = "other", "the dataset's shards or options"
    else:
        meta["class_index"], expected = {"digest": "other"}, "the dataset's class index"
    with pytest.raises(ValueError, match="holds a run with another configuration") as refused:
        resume(workdir, meta)
    assert expected in str(refused.value) and "\n" not in str(refused.value)
    assert finished_steps(workdir) == [4, 8]


def test_the_same_dataset_in_other_bytes_and_a_source_spelt_otherwise_go_on(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to("runs")
    told = {"dataset_digest": "d"}

    def meta(manifest: str, init_from: str | None, **more: str) -> dict[str, Any]:
        config = META["config"] | {"init_from": init_from}
        return META | {"config": config, "manifest_sha256": manifest} | more

    saved = meta("m", "runs/a", **told)
    for spelt in ("runs/a", "runs/a/", "./runs//a", "link/a", str(tmp_path / "runs" / "a")):
        refuse_other_run(saved, meta("other bytes", spelt, **told), workdir)
    for other, expected in (
        (meta("m", "runs/b", **told), "init_from: 'runs/a' -> 'runs/b'"),
        (meta("m", None, **told), "init_from"),
        (meta("m", "runs/a", dataset_digest="e"), "the dataset's shards or options"),
    ):
        with pytest.raises(ValueError, match=expected):
            refuse_other_run(saved, other, workdir)
    before = meta("m", None)  # of a version that knew the manifest's bytes only
    refuse_other_run(before, meta("m", None, **told), workdir)
    with pytest.raises(ValueError, match="the dataset's shards or options"):
        refuse_other_run(before, meta("other bytes", None, **told), workdir)


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


PATHS = ["a run [1]", "[", "what?", "all *", "a**b", "back\\slash", os.fsdecode(b"not \xff UTF-8")]


@pytest.mark.parametrize("name", PATHS, ids=ascii)
def test_a_workdir_of_any_name_is_saved_to_and_resumed_from(name: str, tmp_path: Path):
    workdir = tmp_path / name / "run"
    save(workdir, 4, 8)
    assert resume(workdir)[0] == 8
    held = restore_on_host(workdir / "checkpoints" / "4", state_at(0))
    jax.tree.map(np.testing.assert_array_equal, held, state_at(4))
    assert [path.name for path in sorted((workdir / "checkpoints").iterdir())] == ["4", "8"]


def test_a_whole_run_reads_as_well_under_another_name(workdir: Path, tmp_path: Path):
    renamed = workdir.rename(tmp_path / "run [copy]")
    assert resume(renamed)[0] == 8
    assert not list(Path(tempfile.gettempdir()).glob("kkanji_jax-*/linked/4")), "a link was left"


def test_where_no_link_can_help_the_run_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tmp [1]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp [1]"))
    with pytest.raises(ValueError, match=r"cannot be in .*run\[.*set TMPDIR to a plain path"):
        save(tmp_path / "run[", 4)
    save(tmp_path / "run", 4)


# Orbax leaves futures of the reads that failed to a loop it has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_first_checkpoint_is_read_back_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # As it was: Orbax saves to such a path without a word, and cannot restore from it.
    monkeypatch.setattr(checkpoint_store, "path_for_orbax", contextlib.nullcontext)
    told = r"cannot save a checkpoint in .*was written and cannot be read.*no checkpoint is whole"
    with pytest.raises(OSError, match=told):
        save(tmp_path / "run [1]", 4)
    assert not list((tmp_path / "run [1]" / "checkpoints").iterdir())
    gc.collect()  # here, and not in the test that comes next


@pytest.mark.parametrize("what", ["state.params.kernel", "data", "meta"])
def test_a_first_checkpoint_that_holds_something_else_does_not_count(
    what: str, workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    read_item, restore = checkpoint_store.read_item, checkpoint_store.restore_on_host

    def other_item(folder: Path, name: str) -> dict[str, Any]:
        return read_item(folder, name) | ({"next_index": 5, "scores": 1.0} if name == what else {})

    def other_state(folder: Path, template: TrainState) -> TrainState:
        held = restore(folder, template)
        if what.startswith("state"):
            held.params["kernel"].view(np.uint32)[3, 5] ^= 1
        return held

    monkeypatch.setattr(checkpoint_store, "read_item", other_item)
    monkeypatch.setattr(checkpoint_store, "restore_on_host", other_state)
    with pytest.raises(OSError, match=f"{what} reads back as something else; checkpoint 8 is"):
        save(workdir, 12)
    assert finished_steps(workdir) == [8] and resume(workdir)[0] == 8


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
