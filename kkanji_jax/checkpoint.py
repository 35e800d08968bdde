"""One Orbax step = `state` + `data` + `meta`, with our own digests, because Orbax restores
flipped bits without a word."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh
from orbax.checkpoint import checkpoint_managers

from kkanji_jax import mesh as mesh_lib
from kkanji_jax.config import differences
from kkanji_jax.digests import SUMS, check_sums, write_sums
from kkanji_jax.state import TrainState, Variables, abstract_variables

FORMAT_VERSION = 1


class Loaded(NamedTuple):
    """The variables of one checkpoint as NumPy trees, for inference."""

    step: int
    path: Path
    params: Variables
    batch_stats: Variables
    ema_params: Variables
    ema_batch_stats: Variables
    meta: dict[str, Any]


# --- the steps in a workdir --------------------------------------------------------------------


def _root(workdir: Path) -> Path:
    return workdir / "checkpoints"


def finished_steps(workdir: Path) -> list[int]:
    """Steps whose save finished, ascending. Whether their files are whole, `check_sums` tells."""
    root = _root(workdir)
    if not root.is_dir():
        return []
    return sorted(
        int(path.name) for path in root.iterdir() if path.name.isdigit() and (path / SUMS).exists()
    )


def read_meta(workdir: Path, step: int) -> dict[str, Any]:
    """The `meta` item of a step: config, class index, manifest digest, scores, versions."""
    meta = json.loads((_root(workdir) / str(step) / "meta" / "metadata").read_text())
    if meta["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"checkpoint {step} in {workdir} has format {meta['format_version']}, this version of "
            f"kkanji_jax reads up to {FORMAT_VERSION}; install a newer one"
        )
    return meta


def best_step(workdir: Path) -> int | None:
    """The finished step with the best score by the run's `best_metric`; None if none is scored."""
    scored = []
    for step in finished_steps(workdir):
        meta = read_meta(workdir, step)
        if meta["scores"]:
            value = meta["scores"][meta["config"]["best_metric"]]
            better = -value if meta["config"]["best_metric"] == "val_loss" else value
            scored.append((better, step))
    return max(scored)[1] if scored else None


def load_variables(workdir: Path, which: str = "best") -> Loaded:
    """Loads weights and statistics onto the host from the `best` or the `latest` checkpoint.

    Raises ValueError if there is none, or a file is damaged.
    """
    steps = finished_steps(workdir)
    if not steps:
        raise ValueError(
            f"{workdir} holds no finished checkpoint: train first "
            "(python -m kkanji_jax.train --config configs/b0.py --workdir DIR)"
        )
    scored = best_step(workdir) if which == "best" else None
    step = steps[-1] if scored is None else scored
    folder = _root(workdir) / str(step)
    check_sums(folder)
    meta = read_meta(workdir, step)
    num_classes = len(meta["class_index"]["codepoint_to_id"])
    params, batch_stats = abstract_variables(meta["config"]["model"], num_classes)
    template = {
        "params": params,
        "batch_stats": batch_stats,
        "ema_params": params,
        "ema_batch_stats": batch_stats,
    }
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(
            epath.Path(folder.resolve()) / "state",
            args=ocp.args.PyTreeRestore(item=template, restore_args=as_numpy, partial_restore=True),
        )
    return Loaded(step=step, path=folder, meta=meta, **restored)


# --- saving and resuming -------------------------------------------------------------------------


# What may differ between a run and its resumption without changing one number of it.
_FREE_FIELDS = ("data.dataset:", "log_every_steps:", "max_checkpoints:")


def refuse_other_run(saved: dict[str, Any], current: dict[str, Any], workdir: Path) -> None:
    """Raises ValueError with the differences unless `current` continues the `saved` run.

    Both are the `meta` of a checkpoint: config, class index and dataset manifest decide.
    """
    changes = differences(saved["config"], current["config"])
    changes = [line for line in changes if not line.startswith(_FREE_FIELDS)]
    if saved["class_index"]["digest"] != current["class_index"]["digest"]:
        changes.append("the dataset's class index")
    elif saved["manifest_sha256"] != current["manifest_sha256"]:
        changes.append("the dataset's manifest")
    if changes:
        raise ValueError(
            f"{workdir} holds a run with another configuration ({'; '.join(changes)}); "
            "give --workdir another folder, or restore the old values to resume"
        )


class _LatestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the latest n steps, and the best one whose save has finished.

    A step is deleted only when a newer one is whole, so a kill at any point leaves one to resume.
    """

    def __init__(self, workdir: Path, num_latest: int) -> None:
        self._workdir = workdir
        self._num_latest = num_latest

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """One decision a checkpoint; `checkpoints` come from Orbax in step order."""
        del context
        kept = {info.step for info in checkpoints[-self._num_latest :]} | {best_step(self._workdir)}
        return [info.step in kept for info in checkpoints]


class CheckpointStore:
    """The checkpoints of one run, for its trainer: saves, keeps latest and best, resumes."""

    def __init__(self, workdir: Path, *, max_to_keep: int) -> None:
        self._workdir = workdir
        root = _root(workdir)
        root.mkdir(parents=True, exist_ok=True)
        finished = {str(step) for step in finished_steps(workdir)}
        for path in sorted(root.iterdir()):
            if path.is_dir() and path.name not in finished:
                print(f"removing {path}: its save did not finish", file=sys.stderr)
                shutil.rmtree(path)
        self._manager = ocp.CheckpointManager(
            root.resolve(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_LatestAndBest(workdir, max_to_keep),
                enable_async_checkpointing=False,
            ),
        )

    def save(
        self,
        step: int,
        state: TrainState,
        batches: Any,
        meta: Mapping[str, Any],
        scores: Mapping[str, Any] | None,
    ) -> None:
        """Saves once the update of `step` is done and before the next batch is drawn.

        `scores` are those of an evaluation at this step, if there was one; its numbers are kept.
        """
        numbers = {k: v for k, v in (scores or {}).items() if isinstance(v, float)} or None
        with jax.transfer_guard("allow"):
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
                    data=grain.checkpoint.CheckpointSave(batches),
                    meta=ocp.args.JsonSave(
                        {  # pyright: ignore[reportCallIssue]
                            **meta,
                            "format_version": FORMAT_VERSION,
                            "scores": numbers,
                        }
                    ),
                ),
            )
        if not saved:
            raise RuntimeError(f"Orbax did not save step {step} in {self._workdir}")
        write_sums(_root(self._workdir) / str(step))

    def restore_latest(
        self, abstract_state: TrainState, batches: Any, mesh: Mesh
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """Restores the newest whole checkpoint onto `mesh`, and the position into `batches`.

        A damaged one is reported, removed and passed over for the one before it. None if none is
        left because there was none; ValueError if all are damaged.
        """
        steps = finished_steps(self._workdir)
        sharding = mesh_lib.replicated(mesh)
        template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract_state,
        )
        for step in reversed(steps):
            try:
                check_sums(_root(self._workdir) / str(step))
            except ValueError as err:
                print(f"warning: {err}; falling back to an earlier checkpoint", file=sys.stderr)
                self._manager.delete(step)
                continue
            with jax.transfer_guard("allow"):
                restored = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(template),  # pyright: ignore[reportCallIssue]
                        data=grain.checkpoint.CheckpointRestore(batches),
                    ),
                )
            return restored["state"], read_meta(self._workdir, step)
        if steps:
            raise ValueError(
                f"every checkpoint in {_root(self._workdir)} is damaged; "
                "remove the folder to start over"
            )
        return None

    def close(self) -> None:
        """Waits for Orbax to finish and releases it."""
        self._manager.close()
