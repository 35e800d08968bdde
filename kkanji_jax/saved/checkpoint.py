"""Checkpoints on disk: finding, checking and reading them; checkpoint_store writes them.

Each is one Orbax step with the items `state`, `data` and `meta`, and digests of our own, because
Orbax restores flipped bits without an error.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from kkanji_jax.config import complete, differences
from kkanji_jax.data.manifest import is_same_dataset
from kkanji_jax.files import SUMS, check_sums, read_json, require_utf8
from kkanji_jax.model.network import Variables, abstract_variables
from kkanji_jax.parallel import mesh as mesh_lib

_OF_SAVE = re.compile(
    r"_CHECKPOINT_METADATA|commit_success\.txt|(data|meta)/(metadata|commit_success\.txt)"
    r"|data/process_\d+-of-\d+\.json|state/(_METADATA|_sharding|commit_success\.txt)"
    r"|state/array_metadatas/process_\d+|state/(ocdbt\.process_\d+/)?(manifest\.ocdbt|d/[0-9a-f]+)"
)
FORMAT_VERSION = 2  # 1 held the position in Grain's file, one for each process


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


def checkpoints_of(workdir: Path) -> Path:
    return workdir / "checkpoints"


def finished_steps(workdir: Path) -> list[int]:
    """Steps whose save finished, ascending. `check_step` checks that their files are whole."""
    root = checkpoints_of(workdir)
    if not root.is_dir():
        return []
    return sorted(
        int(path.name) for path in root.iterdir() if is_step(path.name) and (path / SUMS).exists()
    )


def is_step(name: str) -> bool:
    """Whether a folder of this name is a saved step: its number, and nothing else."""
    return name.isascii() and name.isdigit() and name == str(int(name))


def is_of_save(name: str) -> bool:
    """Whether a save writes a file of this name, relative to the folder of its step."""
    return _OF_SAVE.fullmatch(name) is not None


def check_step(workdir: Path, step: int) -> None:
    """Raises ValueError naming the first file of a step that is missing, changed or unlisted.

    Files that a save does not write are ignored.
    """
    folder = checkpoints_of(workdir) / str(step)
    listed = {SUMS, *check_sums(folder)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in listed and is_of_save(name):
            raise ValueError(f"{folder / SUMS} is damaged: it does not list {path}")


def read_meta(workdir: Path, step: int) -> dict[str, Any]:
    """The `meta` item of a step: config, class index, manifest digest, scores, versions."""
    meta = read_item(checkpoints_of(workdir) / str(step), "meta")
    if meta["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"checkpoint {step} in {workdir} has format {meta['format_version']}, this version of "
            f"kkanji_jax reads up to {FORMAT_VERSION}; install a newer one"
        )
    return meta | {"config": complete(meta["config"])}


def read_item(folder: Path, name: str) -> dict[str, Any]:
    """The JSON item `name` in the `folder` of a step; ValueError if it cannot be read."""
    path = folder / name / "metadata"
    try:
        return read_json(path)
    except OSError as err:
        raise ValueError(f"checkpoint file {path} cannot be read: {err.strerror}") from err


def read_position(folder: Path) -> dict[str, Any]:
    """The state of the data iterator; it is the same in every process, whatever their number."""
    files = [folder / "data" / "metadata", *sorted((folder / "data").glob("process_0-of-*.json"))]
    found = next((file for file in files if file.exists()), None)
    if found is None:
        raise ValueError(f"checkpoint file {files[0]} is missing")
    return read_json(found)


def score_of(workdir: Path, step: int) -> float | None:
    """The step's score by its run's `best_metric`, higher is better; None if it was not scored."""
    meta = read_meta(workdir, step)
    if not meta["scores"]:
        return None
    value = meta["scores"][meta["config"]["best_metric"]]
    return -value if meta["config"]["best_metric"] == "val_loss" else value


def best_step(workdir: Path) -> int | None:
    """The finished step with the best score by the run's `best_metric`; None without a score."""
    scores = {step: score_of(workdir, step) for step in finished_steps(workdir)}
    scored = [(score, step) for step, score in scores.items() if score is not None]
    return max(scored)[1] if scored else None


def load_variables(workdir: Path, which: str = "best") -> Loaded:
    """Loads weights and statistics onto the host from the `best` or the `latest` checkpoint.

    ValueError if there is none, a file is damaged, or JAX has no device.
    """
    require_utf8(workdir.resolve())
    mesh_lib.devices()  # Orbax asks for them, and would not say what is missing
    steps = finished_steps(workdir)
    if not steps:
        raise ValueError(
            f"{workdir} holds no finished checkpoint: train first "
            "(python -m kkanji_jax.train --config configs/b0.py --workdir DIR)"
        )
    scored = best_step(workdir) if which == "best" else None
    step = steps[-1] if scored is None else scored
    folder = checkpoints_of(workdir) / str(step)
    check_step(workdir, step)
    meta = read_meta(workdir, step)
    num_classes = len(meta["class_index"]["codepoint_to_id"])
    params, batch_stats = abstract_variables(meta["config"]["model"], num_classes)
    template = {
        "params": params,
        "batch_stats": batch_stats,
        "ema_params": params,
        "ema_batch_stats": batch_stats,
    }
    return Loaded(step=step, path=folder, meta=meta, **restore_on_host(folder, template))


def restore_on_host(folder: Path, template: Any) -> Any:
    """The arrays of the state in the `folder` of a step that are in `template`, as NumPy arrays."""
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    with (
        path_for_orbax(folder) as path,
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
    ):
        return checkpointer.restore(
            epath.Path(path) / "state",
            args=ocp.args.PyTreeRestore(item=template, restore_args=as_numpy, partial_restore=True),
        )


# --- paths -------------------------------------------------------------------------------------


@contextlib.contextmanager
def path_for_orbax(folder: Path) -> Iterator[Path]:
    """An absolute path to `folder` that Orbax can use while the context is open.

    Orbax takes [ ] * ? anywhere in a path as a pattern, and then finds no array; TensorStore takes
    a backslash as a slash, and accepts UTF-8 only. For a folder with such a path, a link to it is
    made in the folder for temporary files.
    """
    whole = folder.resolve()
    if _is_plain(whole):
        yield whole
        return
    with tempfile.TemporaryDirectory(prefix="kkanji_jax-") as temporary:
        if not _is_plain(Path(temporary)):
            raise ValueError(
                f"a checkpoint cannot be in {folder}, for [ ] * ? and a backslash in its path, nor "
                f"linked from {Path(temporary).parent}: move it, or set TMPDIR to a plain path"
            )
        link = Path(temporary) / "linked"
        link.symlink_to(whole, target_is_directory=True)
        yield link


def _is_plain(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return not set(str(path)) & set("[]*?\\")


# --- which run ---------------------------------------------------------------------------------


# What may differ between a run and its resumption without changing one number of it.
_FREE_FIELDS = ("data.dataset:", "log_every_steps:", "max_checkpoints:", "tensorboard:", "profile:")


def refuse_other_run(saved: Mapping[str, Any], current: Mapping[str, Any], workdir: Path) -> None:
    """Raises ValueError with the differences unless `current` continues the `saved` run.

    Both are the `meta` of a checkpoint. Config, class index and dataset manifest are compared.
    """
    changes = differences(saved["config"], current["config"])
    changes = [line for line in changes if not line.startswith(_FREE_FIELDS)]
    if _is_same_folder(saved["config"]["init_from"], current["config"]["init_from"]):
        changes = [line for line in changes if not line.startswith("init_from:")]
    if saved["class_index"]["digest"] != current["class_index"]["digest"]:
        changes.append("the dataset's class index")
    elif not is_same_dataset(saved, current):
        changes.append("the dataset's shards or options")
    if changes:
        raise ValueError(
            f"{workdir} holds a run with another configuration ({'; '.join(changes)}); "
            "give --workdir another folder, or restore the old values to resume"
        )


def _is_same_folder(one: str | None, other: str | None) -> bool:
    """Whether two paths name one folder, however they are written."""
    if not one or not other:
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)
