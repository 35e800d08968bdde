"""ONNX files: model.onnx of a bundle, and one file that holds everything.

Every file is checked by the onnx package before it is kept.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.files import sha256_of, written_whole
from kkanji_jax.model.onnx_graph import inside, make_model, outside
from kkanji_jax.saved.arrays import places_in, rounded
from kkanji_jax.saved.bundle import Bundle


def write_onnx(out: Path, model: Mapping[str, Any], class_index: ClassIndex, params: Path) -> None:
    """Writes a model whose weights are those in the file `params`, which must stay beside it."""
    weights = [
        outside(
            name,
            at.dtype,
            at.shape,
            file_name=params.name,
            offset=at.offset,
            num_bytes=at.num_bytes,
        )
        for name, at in places_in(params).items()
    ]
    metadata = {"params_sha256": sha256_of(params)}
    _write(make_model(model, class_index, weights, metadata=metadata), out)


def write_self_contained(out: Path, bundle: Bundle, dtype: str) -> None:
    """Writes one file without others: weights, preprocessing and code points.

    Its outputs are `logits`, `features` and `probabilities`, which are calibrated if the model is.
    Its metadata are `codepoints`, a JSON list by class id, and `about`, with run, step and weights.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; give --out another name, or remove it")
    arrays = rounded(bundle.variables, dtype)
    weights = [inside(name, array) for name, array in arrays.items()]
    temperature = bundle.calibration["temperature"] if bundle.calibration else 1.0
    metadata = {
        "codepoints": json.dumps(bundle.class_index.codepoints),
        "about": json.dumps(bundle.about),
        "is_calibrated": json.dumps(bundle.calibration is not None),
    }
    model = make_model(
        bundle.config["model"],
        bundle.class_index,
        weights,
        metadata=metadata,
        temperature=temperature,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    _write(model, out)


def _write(model: onnx.ModelProto, out: Path) -> None:
    """Writes a model after onnx's full check; `out` appears when it is complete."""
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    with written_whole(out) as unfinished:
        unfinished.write_bytes(model.SerializeToString(deterministic=True))
        # By its path, so that the tensors in other files are looked for.
        onnx.checker.check_model(str(unfinished), full_check=True)
