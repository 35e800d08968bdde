"""Saves the checkpoints of one run, while training goes on, and resumes from them."""

import contextlib
import errno
import itertools
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from orbax.checkpoint import checkpoint_managers

from kkanji_jax.files import is_foreign, write_sums
from kkanji_jax.parallel import hosts
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.saved.checkpoint import (
    FORMAT_VERSION,
    check_step,
    checkpoints_of,
    finished_steps,
    is_of_save,
    is_step,
    path_for_orbax,
    read_item,
    read_meta,
    read_position,
    refuse_other_run,
    restore_on_host,
    score_of,
)
from kkanji_jax.training.state import TrainState

_DISCARDED = re.compile(r"\..+\.[0-9a-f]{16}\.discarded")
_BEING_WRITTEN = "orbax-checkpoint-tmp"  # in the name of a step that Orbax has not finished


class _LatestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the latest n steps, and the best one whose save has finished.

    A step is deleted only when a newer one is complete, so that after a kill at any point there is
    one to resume from.
    """

    def __init__(self, workdir: Path, num_latest: int) -> None:
        self._workdir = workdir
        self._num_latest = num_latest

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """A decision for each checkpoint; `checkpoints` come from Orbax in step order."""
        del context
        kept = {info.step for info in checkpoints[-self._num_latest :]} | {self._best_step()}
        return [info.step in kept for info in checkpoints]

    def _best_step(self) -> int | None:
        scored = []
        for step in finished_steps(self._workdir):
            try:
                score = score_of(self._workdir, step)
            except ValueError as err:  # an old one, damaged since: no reason to stop the run
                print(f"warning: {err}; it cannot be the best", file=sys.stderr)
                continue
            if score is not None:
                scored.append((score, step))
        return max(scored)[1] if scored else None


class CheckpointStore:
    """The checkpoints of one run, for its trainer: saves, keeps latest and best, resumes."""

    def __init__(self, workdir: Path, *, max_to_keep: int) -> None:
        self._workdir = workdir
        self._saving: Future[None] | None = None
        self._has_read_back = False  # a save of this store
        # Processes that save together must take turns with their training collectives.
        self._thread = ThreadPoolExecutor(1) if jax.process_count() == 1 else None
        root = checkpoints_of(workdir)
        _refuse_many_without_digests(workdir)
        if hosts.is_first():
            root.mkdir(parents=True, exist_ok=True)
            for path in _unfinished(workdir):
                if _holds_others(path):
                    print(f"{_set_aside(path)}: its save did not finish", file=sys.stderr)
                else:
                    print(f"removing {path}: its save did not finish", file=sys.stderr)
                    _discard(path)
        hosts.meet("checkpoints cleared")
        self._held = contextlib.ExitStack()
        self._manager = ocp.CheckpointManager(
            self._held.enter_context(path_for_orbax(root)),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_LatestAndBest(workdir, max_to_keep),
                enable_async_checkpointing=False,
            ),
        )
        self._held.callback(self._manager.close)

    def save(
        self,
        step: int,
        state: TrainState,
        batches: Any,
        meta: Mapping[str, Any],
        scores: Mapping[str, Any] | None,
    ) -> None:
        """Copies the state after step `step`, before the next batch is drawn; writes it meanwhile.

        `scores` are those of an evaluation at this step, if there was one; its numbers are kept.
        Waits for the previous save. OSError if that failed; FloatingPointError if the state is not
        finite, because a run that continues from it could only give NaN. The first checkpoint is
        read back and compared bit for bit before it counts: digests show that bytes are right, not
        that they can be restored.
        """
        self.wait()
        numbers = {k: v for k, v in (scores or {}).items() if isinstance(v, float)} or None
        # Copies: the next step donates the state's buffers, of which these may be views.
        copied = jax.tree.map(lambda leaf: np.array(jax.device_get(leaf)), state)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(copied)):
            raise FloatingPointError(f"the weights are not finite at step {step}")
        # Asked before: on a disk that fills up under it, Orbax writes pages of tracebacks.
        with _failure_named(self._workdir):
            _check_space(copied, self._workdir)
        content = {**meta, "format_version": FORMAT_VERSION, "scores": numbers}
        if self._thread is None:
            self._write(step, copied, batches.get_state(), content)
        else:
            self._saving = self._thread.submit(
                self._write, step, copied, batches.get_state(), content
            )

    def _write(
        self, step: int, state: TrainState, position: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> None:
        with jax.transfer_guard("allow"), _failure_named(self._workdir):
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
                    data=ocp.args.JsonSave(position),  # pyright: ignore[reportCallIssue]
                    meta=ocp.args.JsonSave(meta),  # pyright: ignore[reportCallIssue]
                ),
            )
            if not saved:
                raise RuntimeError(f"Orbax did not save step {step} in {self._workdir}")
            folder = checkpoints_of(self._workdir) / str(step)
            if not self._has_read_back:
                # The items are those of the process that writes; paths in them may be its own.
                items = {"data": position, "meta": meta} if hosts.is_first() else {}
                _check_reads_back(folder, state, items)
                self._has_read_back = True
            if hosts.is_first():
                write_sums(folder)
        hosts.meet(f"checkpoint {step}")

    def check(self) -> None:
        """Raises the error of the save in progress, if it has failed; does not wait for it."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the save in progress; raises its error if it fails."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def restore_latest(
        self, abstract_state: TrainState, batches: Any, mesh: Mesh, current: Mapping[str, Any]
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """Restores the newest undamaged checkpoint onto `mesh`, and the position into `batches`.

        ValueError with the differences, before anything is read, if its run is not that of
        `current`, the `meta` that this run would save. A damaged checkpoint is reported, and
        renamed once an earlier one proves undamaged. None if there are no checkpoints; ValueError
        if all are damaged.
        """
        steps = finished_steps(self._workdir)
        sharding = mesh_lib.replicated(mesh)
        template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract_state,
        )
        damaged = []
        for step in reversed(steps):
            try:
                check_step(self._workdir, step)
            except ValueError as err:
                print(f"warning: {err}; falling back to an earlier checkpoint", file=sys.stderr)
                damaged.append(step)
                continue
            meta = read_meta(self._workdir, step)
            refuse_other_run(meta, current, self._workdir)
            with jax.transfer_guard("allow"):
                restored = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(template),  # pyright: ignore[reportCallIssue]
                    ),
                )
            batches.set_state(read_position(checkpoints_of(self._workdir) / str(step)))
            hosts.meet("checkpoints checked")
            if damaged and hosts.is_first():  # their steps will be saved again
                for number in damaged:
                    aside = _set_aside(checkpoints_of(self._workdir) / str(number))
                    print(f"{aside}; remove it if you do not need it", file=sys.stderr)
            if damaged:
                hosts.meet("damaged checkpoints set aside")
                self._manager.reload()
            return restored["state"], meta
        if steps:
            raise ValueError(
                f"every checkpoint in {checkpoints_of(self._workdir)} is damaged; "
                "remove the folder to start over"
            )
        return None

    def close(self) -> None:
        """Waits for the save in progress, and releases Orbax. A second call does nothing."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._held.close()


def _unfinished(workdir: Path) -> list[Path]:
    """Folders of unfinished saves in a workdir; folders of other names are not ours."""
    finished = {str(step) for step in finished_steps(workdir)}
    return [
        path
        for path in sorted(checkpoints_of(workdir).iterdir())
        if path.is_dir()
        and path.name not in finished
        and (is_step(path.name) or _BEING_WRITTEN in path.name or _DISCARDED.fullmatch(path.name))
    ]


def _holds_others(step: Path) -> bool:
    """Whether a step without digests holds files that a save does not write: it may be a copy."""
    if not is_step(step.name):
        return False
    files = (path for path in step.rglob("*") if path.is_file())
    names = (path.relative_to(step) for path in files if not is_foreign(path.name))
    return not all(is_of_save(name.as_posix()) for name in names)


def _set_aside(step: Path) -> str:
    """Renames the folder of a step so that it is no longer a step; says what was done."""
    names = (f"{step.name}.set-aside{number or ''}" for number in itertools.count())
    aside = next(step.with_name(name) for name in names if not step.with_name(name).exists())
    step.rename(aside)
    return f"{step} is now {aside.name}"


def _discard(folder: Path) -> None:
    """Removes the folder of a save. It is renamed first, as files that are held open may remain."""
    discarded = folder
    if not _DISCARDED.fullmatch(folder.name):
        discarded = folder.with_name(f".{folder.name[:40]}.{secrets.token_hex(8)}.discarded")
        folder.rename(discarded)
    shutil.rmtree(discarded, ignore_errors=True)


def _check_reads_back(folder: Path, state: TrainState, items: Mapping[str, Any]) -> None:
    """Raises OSError unless the step in `folder` restores to exactly `state` and `items`."""
    try:
        held = restore_on_host(folder, state)
        held_items = {name: read_item(folder, name) for name in items}
    except (ValueError, KeyError, TypeError, RuntimeError) as err:
        raise OSError(f"{folder} was written and cannot be read: {err}") from err
    for name, item in items.items():
        if json.dumps(item, sort_keys=True) != json.dumps(held_items[name], sort_keys=True):
            raise OSError(f"{folder} was written, but {name} reads back as something else")
    for (path, leaf), back in zip(
        jax.tree.leaves_with_path(state), jax.tree.leaves(held), strict=True
    ):
        if (back.dtype, back.shape, back.tobytes()) != (leaf.dtype, leaf.shape, leaf.tobytes()):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise OSError(f"{folder} was written, but state.{name} reads back as something else")


def _refuse_many_without_digests(workdir: Path) -> None:
    """Raises ValueError if there are several steps and none has digests.

    An interrupted save leaves at most one such step; several are a copy without the digests.
    """
    if not checkpoints_of(workdir).is_dir() or finished_steps(workdir):
        return
    steps = [path.name for path in _unfinished(workdir) if is_step(path.name)]
    if len(steps) > 1:
        raise ValueError(
            f"no checkpoint in {checkpoints_of(workdir)} has its SHA256SUMS (steps "
            f"{', '.join(steps)}): copy them whole, or remove the folder to start over"
        )


def _is_disk_full(err: BaseException | None) -> bool:
    """Whether `err` comes from a full disk (or quota), by its number or by its words."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    while err is not None:
        if isinstance(err, OSError) and err.errno in numbers:
            return True
        if any(os.strerror(number) in str(err) for number in numbers):  # TensorStore has only words
            return True
        err = err.__cause__ or err.__context__
    return False


def _check_space(state: TrainState, workdir: Path) -> None:
    """Raises OSError if the disk of `workdir` has too little room for the arrays of `state`."""
    expected = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if shutil.disk_usage(workdir).free < expected:
        raise OSError(errno.ENOSPC, f"a checkpoint takes {expected / 1e6:.0f} MB")


@contextlib.contextmanager
def _failure_named(workdir: Path) -> Iterator[None]:
    """Turns the error of a save into an OSError that names what is kept; frees what the save took.

    It says that the disk is full only if the error does. Errors that are not of the disk pass.
    """
    try:
        yield
    except (OSError, ValueError) as err:
        is_full = _is_disk_full(err)
        if not is_full and not isinstance(err, OSError):
            raise
        free = shutil.disk_usage(workdir).free
        if hosts.is_first():
            for path in _unfinished(workdir):
                _discard(path)
        last = finished_steps(workdir)[-1:]
        kept = f"checkpoint {last[0]} is whole" if last else "no checkpoint is whole yet"
        why = f"the disk is full ({free / 1e6:.0f} MB free)" if is_full else str(err)
        raise OSError(
            f"cannot save a checkpoint in {workdir}: {' '.join(why.split())[:300]}; {kept}: "
            f"{'make room' if is_full else 'mend this'}, then the same command goes on"
        ) from err
