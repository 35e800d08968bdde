"""A trained network by name: the folder of a run, a bundle, or the one in the package.

Bundles are read by NumPy alone; the checkpoints of a run need JAX and Orbax.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kkanji_jax.array_types import Float32
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.files import read_json
from kkanji_jax.saved import bundle as bundle_lib

WEIGHTS = ("ema", "raw")
CHECKPOINTS = ("best", "latest")  # of a run
CALIBRATION = "calibration.json"
PRETRAINED = Path(__file__).parents[1] / "pretrained" / "b0"


class Trained(NamedTuple):
    """One set of weights with everything needed to interpret its outputs.

    `params` and `batch_stats` are nested as the network has them, float32 on the host. `identity`
    identifies the training dataset, see `data.manifest.identity_of`. `calibration` is the content
    of calibration.json, if there is one for these weights, and `warm_start` the record of the
    weights that training started from, if it started from any. `stale_calibration` says of which
    weights the calibration is, if not of these.
    """

    path: Path
    is_bundle: bool
    config: dict[str, Any]
    class_index: ClassIndex
    params: Any
    batch_stats: Any
    weights: str
    step: int
    train_counts: dict[str, int]
    identity: dict[str, str]
    calibration: dict[str, Any] | None
    warm_start: dict[str, Any] | None
    stale_calibration: str = ""


def load_trained(
    model: str | os.PathLike | None = None, *, weights: str | None = None, which: str = "best"
) -> Trained:
    """Loads a model for inference or evaluation; ValueError says what is missing or damaged.

    Of a run, it loads the `best` or the `latest` checkpoint, and its `ema` or `raw` weights: by
    default the moving average if the run kept one. A bundle has one set of weights, of one step;
    ValueError if another is requested.
    """
    if which not in CHECKPOINTS:
        raise ValueError(f"expected which of {' or '.join(CHECKPOINTS)}, got {which!r}")
    path = check_model(model)
    if bundle_lib.is_bundle(path):
        if which != CHECKPOINTS[0]:
            raise ValueError(f"{path} is a bundle, with one checkpoint: leave out --which {which}")
        return _of_bundle(path, weights)

    try:
        from kkanji_jax.saved.checkpoint import load_variables
    except ModuleNotFoundError as err:
        raise ValueError(
            f"{err}, which a run's checkpoints need: export {path} to a bundle where it was trained"
        ) from err

    loaded = load_variables(path, which)
    weights = choose_weights(loaded.meta["config"], weights)
    is_average = weights == "ema"
    class_index = ClassIndex.from_json(loaded.meta["class_index"])
    calibration, stale = _calibration_of(
        path, _read_calibration(path, weights), loaded.step, class_index, "evaluate --of val again"
    )
    return Trained(
        path=path,
        is_bundle=False,
        config=loaded.meta["config"],
        class_index=class_index,
        params=loaded.ema_params if is_average else loaded.params,
        batch_stats=loaded.ema_batch_stats if is_average else loaded.batch_stats,
        weights=weights,
        step=loaded.step,
        train_counts=loaded.meta["train_counts"],
        identity=_identity_in(loaded.meta),
        calibration=calibration,
        warm_start=loaded.meta.get("warm_start"),
        stale_calibration=stale,
    )


def kernel_of(params: Any) -> Float32[np.ndarray, "d k"]:
    """The classifier's weights: from features to classes."""
    return np.asarray(params["classifier"]["kernel"], np.float32)


def digest_of_weights(trained: Trained) -> str:
    """SHA-256 of a model's weights and batch statistics, in hex."""
    digest = hashlib.sha256()
    for tree in (trained.params, trained.batch_stats):
        for name, array in sorted(bundle_lib.flatten(tree, "").items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_model(model: str | os.PathLike | None) -> Path:
    """The folder of a run or a bundle, or ValueError saying what `model` is instead."""
    if model is None:
        if not PRETRAINED.is_dir():
            raise ValueError(
                f"the package's model is missing at {PRETRAINED}: install kkanji_jax anew, or name "
                "another model, as in --model runs/b0"
            )
        return PRETRAINED
    if not isinstance(model, str | os.PathLike):
        raise ValueError(f"expected the path of a model, got {type(model).__name__}")
    path = Path(model)
    if not path.is_dir():
        raise ValueError(
            f"no model at {path}: expected the folder of a run, as runs/b0, or a bundle"
        )
    if not (path / "checkpoints").is_dir() and not bundle_lib.is_bundle(path):
        raise ValueError(
            f"{path} is no model: neither a run (it has no checkpoints/) nor a bundle "
            "(it has no params.npz); expected the --workdir of kkanji_jax.train or the --out of "
            "kkanji_jax.export"
        )
    return path


def choose_weights(config: dict[str, Any], weights: str | None) -> str:
    """`ema` or `raw`: as requested, or by default the moving average if the run kept one."""
    if weights is None:
        return "ema" if config["ema_decay"] else "raw"
    if weights not in WEIGHTS:
        raise ValueError(f"expected weights {' or '.join(WEIGHTS)}, got {weights!r}")
    if weights == "ema" and not config["ema_decay"]:
        raise ValueError("this run kept no moving average (ema_decay 0): use --weights raw")
    return weights


def _of_bundle(path: Path, weights: str | None) -> Trained:
    bundle = bundle_lib.read_bundle(path)
    held = bundle.about["weights"]
    if weights is not None and choose_weights(bundle.config, weights) != held:
        raise ValueError(f"{path} holds the {held} weights only, got --weights {weights}")
    step, class_index = bundle.about["step"], bundle.class_index
    remedy = "calibrate the run, evaluate --of val, and export it again"
    calibration, stale = _calibration_of(path, bundle.calibration, step, class_index, remedy)
    return Trained(
        path=path,
        is_bundle=True,
        config=bundle.config,
        class_index=class_index,
        params=bundle_lib.nest(bundle.variables, "params"),
        batch_stats=bundle_lib.nest(bundle.variables, "batch_stats"),
        weights=held,
        step=step,
        train_counts=bundle.train_counts,
        identity=_identity_in(bundle.about),
        calibration=calibration,
        warm_start=bundle.about.get("warm_start"),
        stale_calibration=stale,
    )


def _identity_in(record: Mapping[str, Any]) -> dict[str, str]:
    names = ("manifest_sha256", "dataset_digest")
    return {name: record[name] for name in names if name in record}


def _read_calibration(workdir: Path, weights: str) -> dict[str, Any] | None:
    path = workdir / CALIBRATION
    if not path.exists():
        return None
    content = read_json(path)
    # A calibration fitted with one set of weights is not valid for the other.
    return content if content.get("weights") == weights else None


def _calibration_of(
    path: Path,
    content: dict[str, Any] | None,
    step: int,
    class_index: ClassIndex,
    remedy: str,
) -> tuple[dict[str, Any] | None, str]:
    """The calibration if it was fitted to these very weights; otherwise what is wrong with it."""
    fitted_on = content.get("fitted_on") if content is not None else None
    if not isinstance(fitted_on, dict):
        return content, ""  # none, or damaged: who reads it says so
    # `evaluate` writes both; a calibration made by calibration_fit alone need not say.
    fitted_step = fitted_on.get("checkpoint_step", step)
    if fitted_step != step:
        wrong = f"on step {fitted_step}, not on {step}"
    elif fitted_on.get("class_index_digest", class_index.digest) != class_index.digest:
        wrong = "for other classes"
    else:
        return content, ""
    told = f"{path / CALIBRATION} was fitted {wrong}: left out, so there are no verdicts"
    return None, f"{told}; {remedy}"
