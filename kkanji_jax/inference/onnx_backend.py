"""The network run by ONNX Runtime: no compilation, and nothing of JAX installed or imported."""

from typing import Any

import numpy as np

from kkanji_jax.array_types import Float32, UInt8
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.model.onnx_graph import onnx_bytes
from kkanji_jax.saved.bundle import flatten

BATCH_SIZE = 32  # more are no faster on a CPU, and hold more memory
NOT_INSTALLED = 'onnxruntime is not installed: pip install "kkanji_jax[onnx]", or use --backend jax'


class OnnxBackend:
    """Logits and features of glyphs, on the CPU."""

    name = "onnx"

    def __init__(
        self, model: dict[str, Any], class_index: ClassIndex, params: Any, batch_stats: Any
    ) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as err:
            raise ValueError(NOT_INSTALLED) from err
        variables = flatten(params, "params") | flatten(batch_stats, "batch_stats")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; a warning about a folded node helps no reader
        self._session = onnxruntime.InferenceSession(
            onnx_bytes(model, class_index, variables), options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, glyphs: UInt8[np.ndarray, "n 64 64"]
    ) -> tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]]:
        """Logits and features, however many glyphs there are."""
        parts = []
        for start in range(0, max(len(glyphs), 1), BATCH_SIZE):
            batch = np.ascontiguousarray(glyphs[start : start + BATCH_SIZE])
            parts.append(self._session.run(["logits", "features"], {"images": batch}))
        logits, features = (np.concatenate(column) for column in zip(*parts, strict=True))
        return logits, features
