"""A new run that begins with another model's weights; what is new in it is drawn afresh."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from kkanji_jax.checkpoint import Loaded
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.state import TrainState, Variables


def warm_state(
    fresh: TrainState, source: Loaded, class_index: ClassIndex
) -> tuple[TrainState, dict[str, Any]]:
    """(`fresh` with the weights of `source`, what to record of it). The optimizer starts anew.

    The moving average of `source` is taken where it kept one. Its classifier's columns follow
    their code points, so classes may come, go and move; a new class keeps its fresh column.
    ValueError if the networks differ in anything but that; the input side is free.
    """
    is_average = bool(source.meta["config"]["ema_decay"])
    params = source.ema_params if is_average else source.params
    batch_stats = source.ema_batch_stats if is_average else source.batch_stats
    earlier = ClassIndex.from_json(source.meta["class_index"])
    column_of = {codepoint: column for column, codepoint in enumerate(earlier.codepoints)}
    kept = [column_of.get(codepoint, -1) for codepoint in class_index.codepoints]
    columns = np.asarray(kept, np.int32)
    params = dict(params) | {
        "classifier": {
            name: _take(value, params["classifier"][name], columns)
            for name, value in fresh.params["classifier"].items()
        }
    }
    _check_same_shapes(fresh.params, params, source)
    _check_same_shapes(fresh.batch_stats, batch_stats, source)
    record = {
        "folder": str(source.path),
        "step": source.step,
        "weights": "ema" if is_average else "raw",
        "classes_kept": int((columns >= 0).sum()),
        "classes_new": int((columns < 0).sum()),
        "config": source.meta["config"],
        "manifest_sha256": source.meta["manifest_sha256"],
        "warm_start": source.meta.get("warm_start"),
    }
    state = fresh._replace(
        params=params, batch_stats=batch_stats, ema_params=params, ema_batch_stats=batch_stats
    )
    return state, record


def _take(
    fresh: Float32[np.ndarray, "... k"],
    earlier: Float32[np.ndarray, "... j"],
    columns: np.ndarray,
) -> Float32[np.ndarray, "... k"]:
    """Columns of `earlier` where `columns` is not -1, else those of `fresh`."""
    if fresh.shape[:-1] != earlier.shape[:-1]:
        return earlier  # another network: the shapes are compared, and refused, as a whole
    return np.where(columns >= 0, earlier[..., np.maximum(columns, 0)], fresh)


def _check_same_shapes(wanted: Variables, got: Variables, source: Loaded) -> None:
    paths = [
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (wanted, got)
    ]
    differing = sorted(name for name in paths[0].keys() | paths[1].keys()
                       if paths[0].get(name) != paths[1].get(name))  # fmt: skip
    if differing:
        name = differing[0]
        raise ValueError(
            f"cannot start from {source.path}: it is another network "
            f"({source.meta['config']['model']['variant']}): {name} is {paths[1].get(name)} there, "
            f"{paths[0].get(name)} here; choose the same model.variant"
        )
