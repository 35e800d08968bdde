"""The network run by ONNX Runtime: no compilation, and JAX need not be installed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kkanji_jax.array_types import Float32, UInt8
from kkanji_jax.files import sha256_of
from kkanji_jax.saved.bundle import ONNX, PARAMS, flatten
from kkanji_jax.workers import num_cores

if TYPE_CHECKING:
    from kkanji_jax.saved.trained import Trained

# Maps of 48 x 48 then stay in the cache while two cores work: 3 % less CPU time than at 32, and 2 %
# more where maps have half that side. A call with more images has work for another core.
BATCH_SIZE = 16
NOT_INSTALLED = 'onnxruntime is not installed: pip install "kkanji_jax[onnx]", or use --backend jax'


class OnnxBackend:
    """Logits and features of glyphs, on the CPU. Made by `of_trained`."""

    name = "onnx"

    def __init__(self, model: Path | bytes) -> None:
        """`model` is an ONNX file or its content; ValueError where ONNX Runtime cannot load it."""
        self._model = model
        try:
            import onnxruntime
        except ModuleNotFoundError as err:
            raise ValueError(NOT_INSTALLED) from err
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only; warnings about folded nodes do not help users
        # One batch per core: threads within a batch would wait for each other at every node.
        options.intra_op_num_threads = 1
        self._workers = ThreadPoolExecutor(num_cores(), "onnx")
        try:
            self._session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=["CPUExecutionProvider"],
            )
        except _load_errors() as err:
            what = "the network" if isinstance(model, bytes) else model
            raise ValueError(f"ONNX Runtime cannot load {what}: {err}") from err

    def __reduce__(self) -> tuple[Any, ...]:
        return OnnxBackend, (self._model,)  # sessions cannot be pickled: it is loaded anew

    @classmethod
    def of_trained(cls, trained: "Trained") -> "OnnxBackend":
        """From the model.onnx of a bundle; otherwise from a graph made here.

        ValueError if the onnx package, which makes the graph, is missing, or if model.onnx has
        other weights than the bundle.
        """
        path = trained.path / ONNX
        if trained.is_bundle and path.is_file():
            backend = cls(path)
            told = backend._session.get_modelmeta().custom_metadata_map.get("params_sha256")
            if told != sha256_of(trained.path / PARAMS):
                raise ValueError(
                    f"{path} is of another run: it was made for other weights than {PARAMS}; "
                    "export the bundle anew"
                )
            return backend
        try:
            from kkanji_jax.model.onnx_graph import model_in_memory
        except ModuleNotFoundError as err:
            raise ValueError(
                f"{trained.path} has no {ONNX}, and the onnx package that makes it is not "
                'installed: pip install "kkanji_jax[onnx]", or use --backend jax'
            ) from err
        variables = flatten(trained.params, "params") | flatten(trained.batch_stats, "batch_stats")
        return cls(model_in_memory(trained.config["model"], trained.class_index, variables))

    def __call__(
        self, glyphs: UInt8[np.ndarray, "n 64 64"]
    ) -> tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]]:
        """Logits and features of any number of glyphs."""
        starts = range(0, max(len(glyphs), 1), BATCH_SIZE)
        batches = [glyphs[start : start + BATCH_SIZE] for start in starts]
        parts = list(self._workers.map(self._run, batches))
        logits, features = (np.concatenate(column) for column in zip(*parts, strict=True))
        return logits, features

    def _run(self, glyphs: UInt8[np.ndarray, "n 64 64"]) -> Any:
        return self._session.run(["logits", "features"], {"images": np.ascontiguousarray(glyphs)})


def _load_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a model it cannot load; they share no class of their own."""
    from onnxruntime.capi import (
        onnxruntime_pybind11_state as state,  # pyright: ignore[reportAttributeAccessIssue]
    )

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
