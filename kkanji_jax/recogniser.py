"""A trained model, loaded: images in, characters with probabilities out."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from kkanji_jax.checkpoint import load_variables
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.glyph_image import GLYPH_PX, ImageSource, glyph_image
from kkanji_jax.state import make_graphdef
from kkanji_jax.steps import make_logits_fn

# Every batch is padded to one of these, so that at most three programs are ever compiled.
BATCH_SIZES = (1, 16, 128)
WEIGHTS = ("ema", "raw")
NO_MODEL = (
    "no model ships with kkanji_jax yet: train one (python -m kkanji_jax.train --config "
    "configs/b0.py) and name its folder, as in --model runs/b0"
)


class Candidate(NamedTuple):
    """One reading of an image; rank 1 is the most probable."""

    character: str
    codepoint: str
    probability: float
    rank: int


class Recogniser:
    """Reads images of single characters; made by `load`.

    Images are paths, PIL images or arrays of any size (see `data.glyph_image.load_image`), one or
    a list of them; an array uint8 [n h w], with w over 4, is n images. What cannot be read raises
    ValueError. An image without ink gets candidates too: ask `data.glyph_image.is_blank`.
    """

    def __init__(
        self,
        config_model: dict[str, Any],
        class_index: ClassIndex,
        params: Any,
        batch_stats: Any,
        *,
        weights: str,
        step: int,
    ) -> None:
        self.class_index = class_index
        self.weights = weights
        self.step = step
        graphdef = make_graphdef(config_model, len(class_index))
        self._logits_fn = make_logits_fn(graphdef, config_model["image_px"])
        self._params, self._batch_stats = jax.device_put((params, batch_stats))
        self._compiled: set[int] = set()

    def predict(
        self, images: ImageSource | Iterable[ImageSource], top_k: int = 5
    ) -> list[list[Candidate]]:
        """The `top_k` most probable characters of each image, best first; all if there are fewer.

        Probabilities are the network's own, uncalibrated; they sum to 1 over all classes.
        """
        return self.predict_glyphs(self._glyphs_of(images), top_k)

    def predict_glyphs(
        self, glyphs: UInt8[np.ndarray, "n 64 64"], top_k: int = 5
    ) -> list[list[Candidate]]:
        """`predict` for glyphs that already have the network's look."""
        if top_k < 1:
            raise ValueError(f"wanted top_k of at least 1, got {top_k}")
        logits = self._run(glyphs)[0].astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]  # a tie: smaller id first
        return [
            [
                Candidate(
                    self.class_index.character(int(class_id)),
                    self.class_index.codepoints[class_id],
                    float(probabilities[row, class_id]),
                    rank,
                )
                for rank, class_id in enumerate(ids, 1)
            ]
            for row, ids in enumerate(order)
        ]

    def embed(self, images: ImageSource | Iterable[ImageSource]) -> Float32[np.ndarray, "n d"]:
        """The network's pooled features of each image, the vector its classifier reads."""
        return self._run(self._glyphs_of(images))[1]

    def _glyphs_of(
        self, images: ImageSource | Iterable[ImageSource]
    ) -> UInt8[np.ndarray, "n 64 64"]:
        if isinstance(images, np.ndarray):
            sources = list(images) if _is_stack(images) else [images]
        elif isinstance(images, Iterable) and not isinstance(images, str):
            sources = images
        else:
            sources = [images]
        glyphs = [glyph_image(image) for image in sources]
        return np.stack(glyphs) if glyphs else np.zeros((0, GLYPH_PX, GLYPH_PX), np.uint8)

    def _run(
        self, glyphs: UInt8[np.ndarray, "n 64 64"]
    ) -> tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]]:
        parts = []
        start = 0
        while start < len(glyphs) or not parts:
            batch = glyphs[start : start + BATCH_SIZES[-1]]
            size = self._batch_size(len(batch))
            padded = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0)))
            outputs = self._logits_fn(self._params, self._batch_stats, jax.device_put(padded))
            parts.append([np.asarray(o)[: len(batch)] for o in jax.device_get(outputs)])
            start += len(batch)
            if not len(batch):
                break
        logits, features = (np.concatenate(column) for column in zip(*parts, strict=True))
        return logits.astype(np.float32), features.astype(np.float32)

    def _batch_size(self, n: int) -> int:
        fitting = [size for size in BATCH_SIZES if size >= n]
        # Compiling costs more than the padding of a program that is there already.
        size = next((size for size in fitting if size in self._compiled), fitting[0])
        self._compiled.add(size)
        return size


def load(
    model: str | os.PathLike | None = None, *, weights: str | None = None, which: str = "best"
) -> Recogniser:
    """Loads the `best` or `latest` checkpoint of a run, for reading images.

    `model` is the folder of a run, as `runs/b0`. `weights` is `ema` or `raw`; by default the moving
    average where the run kept one. ValueError says what is missing or damaged.
    """
    workdir = check_model(model)
    loaded = load_variables(workdir, which)
    weights = choose_weights(loaded.meta["config"], weights)
    is_average = weights == "ema"
    return Recogniser(
        loaded.meta["config"]["model"],
        ClassIndex.from_json(loaded.meta["class_index"]),
        loaded.ema_params if is_average else loaded.params,
        loaded.ema_batch_stats if is_average else loaded.batch_stats,
        weights=weights,
        step=loaded.step,
    )


def check_model(model: str | os.PathLike | None) -> Path:
    """The folder of a run, or ValueError saying what `model` is instead."""
    if model is None:
        raise ValueError(NO_MODEL)
    path = Path(model)
    if not path.is_dir():
        raise ValueError(f"no model at {path}: wanted the folder of a run, as runs/b0")
    if (path / "checkpoints").is_dir():
        return path
    if (path / "params.npz").exists():
        raise ValueError(f"{path} is a bundle; this version reads only the folders of runs")
    raise ValueError(
        f"{path} is no model: neither a run (it has no checkpoints/) nor a bundle "
        "(it has no params.npz); wanted the --workdir of kkanji_jax.train"
    )


def choose_weights(config: dict[str, Any], weights: str | None) -> str:
    """`ema` or `raw`: as asked, or by default the moving average where the run kept one."""
    if weights is None:
        return "ema" if config["ema_decay"] else "raw"
    if weights not in WEIGHTS:
        raise ValueError(f"wanted weights {' or '.join(WEIGHTS)}, got {weights!r}")
    if weights == "ema" and not config["ema_decay"]:
        raise ValueError("this run kept no moving average (ema_decay 0): use --weights raw")
    return weights


def _is_stack(array: Shaped[np.ndarray, "..."]) -> bool:
    return array.ndim == 4 or (array.ndim == 3 and array.shape[2] > 4)
