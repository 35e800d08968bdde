"""Writes a finished run's model with other weights, for scripts that change it without training."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from project_commands import require_finished

from kkanji_jax.saved.checkpoint import finished_steps, read_meta
from kkanji_jax.saved.trained import Trained

FILES = ("config.json", "env.json", "index.json", "metrics.jsonl")


def require_new(workdir: Path, out: Path) -> None:
    """ValueError if RUN is not finished, or if OUT is there already."""
    require_finished(workdir)
    if out.exists():
        raise ValueError(f"{out} is there already: name a new folder")


def write_run(out: Path, run: Trained, params: Any, batch_stats: Any, record: Any) -> None:
    """Writes OUT like a finished run's folder: its log and config are those of `run`.

    `record` tells what was done; it is kept with the run's warm start, and the model card shows
    it. Nothing can be trained from OUT but another run, with --config.init_from=OUT.
    """
    import grain
    import optax

    from kkanji_jax.training.checkpoint_store import CheckpointStore
    from kkanji_jax.training.state import TrainState

    workdir = run.path
    require_new(workdir, out)
    meta = read_meta(workdir, finished_steps(workdir)[-1])
    meta = {key: value for key, value in meta.items() if key not in ("scores", "format_version")}
    meta["warm_start"] = (run.warm_start or {}) | record
    out.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(workdir / name, out / name)
    state = TrainState(
        step=np.asarray(run.step, np.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optax.identity().init(params),
        ema_params=params,
        ema_batch_stats=batch_stats,
    )
    store = CheckpointStore(out, max_to_keep=1)
    store.save(run.step, state, iter(grain.MapDataset.range(1).to_iter_dataset()), meta, None)
    store.close()
