"""A new run that starts from the weights of another model; new classes get fresh weights."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.model.network import Variables
from kkanji_jax.saved.trained import Trained
from kkanji_jax.training.state import TrainState


def warm_state(
    fresh: TrainState, source: Trained, class_index: ClassIndex
) -> tuple[TrainState, dict[str, Any]]:
    """`fresh` with the weights of `source`, and a record of that; the optimizer state is fresh.

    The classifier's columns are matched by code point, so classes may be added, removed and
    reordered; a new class keeps its fresh column. The input size and the strides may differ: they
    change no weight. ValueError if the networks differ in anything else.
    """
    column_of = {codepoint: i for i, codepoint in enumerate(source.class_index.codepoints)}
    kept = [column_of.get(codepoint, -1) for codepoint in class_index.codepoints]
    columns = np.asarray(kept, np.int32)
    params = dict(source.params) | {
        "classifier": {
            name: _take(value, source.params["classifier"][name], columns)
            for name, value in fresh.params["classifier"].items()
        }
    }
    _check_same_shapes(fresh.params, params, source)
    _check_same_shapes(fresh.batch_stats, source.batch_stats, source)
    record = {
        "folder": str(source.path),
        "step": source.step,
        "weights": source.weights,
        "classes_kept": int((columns >= 0).sum()),
        "classes_new": int((columns < 0).sum()),
        "config": source.config,
        **source.identity,
        "warm_start": source.warm_start,
    }
    state = fresh._replace(
        params=params,
        batch_stats=source.batch_stats,
        ema_params=params,
        ema_batch_stats=source.batch_stats,
    )
    return state, record


def _take(
    fresh: Float32[np.ndarray, "... k"],
    earlier: Float32[np.ndarray, "... j"],
    columns: np.ndarray,
) -> Float32[np.ndarray, "... k"]:
    """Columns of `earlier` where `columns` is not -1, else those of `fresh`."""
    if fresh.shape[:-1] != earlier.shape[:-1]:
        return earlier  # another network: all shapes are compared, and refused, together
    return np.where(columns >= 0, earlier[..., np.maximum(columns, 0)], fresh)


def _check_same_shapes(expected: Variables, got: Variables, source: Trained) -> None:
    paths = [
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (expected, got)
    ]
    differing = sorted(
        name
        for name in paths[0].keys() | paths[1].keys()
        if paths[0].get(name) != paths[1].get(name)
    )
    if differing:
        name = differing[0]
        raise ValueError(
            f"cannot start from {source.path}: it is another network "
            f"({source.config['model']['variant']}): {name} is {paths[1].get(name)} there, "
            f"{paths[0].get(name)} here; choose the same model.variant"
        )
