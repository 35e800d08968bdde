"""The network run by JAX, on the device that JAX chooses."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, UInt8

from kkanji_jax.compilation_cache import enable_compilation_cache
from kkanji_jax.model.network import make_graphdef, make_logits_fn
from kkanji_jax.parallel import mesh as mesh_lib

# Every batch is padded to one of these, so that at most three programs are ever compiled.
BATCH_SIZES = (1, 16, 128)


class JaxBackend:
    """Logits and features of glyphs; compiles on first use."""

    name = "jax"

    def __init__(
        self, model: dict[str, Any], num_classes: int, params: Any, batch_stats: Any
    ) -> None:
        enable_compilation_cache()
        mesh_lib.devices()
        graphdef = make_graphdef(model, num_classes)
        self._logits_fn = make_logits_fn(graphdef, model["image_px"])
        self._params, self._batch_stats = jax.device_put((params, batch_stats))
        self._compiled: set[int] = set()

    def __call__(
        self, glyphs: UInt8[np.ndarray, "n 64 64"]
    ) -> tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]]:
        """Logits and features of any number of glyphs."""
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
        # Compiling costs more than padding to a size that is compiled already.
        size = next((size for size in fitting if size in self._compiled), fitting[0])
        self._compiled.add(size)
        return size
