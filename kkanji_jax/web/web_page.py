"""The web page: a static folder that recognises characters in the browser; it uploads nothing.

It holds the assets unchanged, a copy of the bundle's params.npz (a hard link if the file system has
them, so the weights are on disk once) and model.json: the network's plan, where each array is in
params.npz, the characters, and the calibration. The loops of the network are WebAssembly, which
scripts/assets/build_wasm.py makes from kernels.c; everything else is plain JavaScript.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.kanji_forms import forms
from kkanji_jax.data.scripts import script_of
from kkanji_jax.files import sha256_of
from kkanji_jax.glyphs.published_form import GLYPH_PX
from kkanji_jax.model.forward_pass import NORM_EPSILON, STEM_KERNEL_PX, resize_weights
from kkanji_jax.model.variants import blocks_of, get_variant
from kkanji_jax.saved.arrays import places_in
from kkanji_jax.saved.bundle import Bundle

ASSETS = Path(__file__).with_name("assets")
MODEL = "model.json"
_SCRIPTS = {"kana": "a", "kanji": "i", "other": "o"}  # a letter a class; reading.js has them too


def write_web(
    out: Path, bundle: Bundle, *, params: Path, dtype: str, dataset: Path | None = None
) -> None:
    """Writes the folder `out` for a bundle, whose weights are the file `params` of `dtype`.

    With a DATASET, candidates are shown beside examples cut from its training images.
    """
    shutil.copytree(ASSETS, out, ignore=shutil.ignore_patterns("__pycache__"))
    try:
        os.link(params, out / params.name)
    except OSError:
        shutil.copyfile(params, out / params.name)
    content = model_content(bundle, params, dtype)
    if dataset:
        # Here, for the rest needs no dataset's packages.
        from kkanji_jax.web.lookalikes import write_lookalikes

        content["lookalikes"] = write_lookalikes(out, dataset, bundle.class_index)
    (out / MODEL).write_text(model_text(content), encoding="utf-8")


def model_content(bundle: Bundle, params: Path, dtype: str) -> dict[str, Any]:
    """The content of model.json, without examples of the characters."""
    model, codepoints = bundle.config["model"], bundle.class_index.codepoints
    arrays = {
        name: {"offset": place.offset, "shape": list(place.shape)}
        for name, place in places_in(params).items()
    }
    return {
        "about": {name: bundle.about[name] for name in ("step", "weights", "package_version")}
        | {"variant": model["variant"]},
        "params_sha256": sha256_of(params),
        "params_bytes": params.stat().st_size,
        "dtype": dtype,
        "arrays": arrays,
        **network_plan(model, {name: tuple(at["shape"]) for name, at in arrays.items()}),
        "codepoints": list(codepoints),
        "scripts": "".join(_SCRIPTS[script_of(codepoint)] for codepoint in codepoints),
        "train_counts": [bundle.train_counts[codepoint] for codepoint in codepoints],
        "forms": _forms_of(bundle.class_index),
        "calibration": bundle.calibration,
        "lookalikes": None,
    }


def model_text(content: Mapping[str, Any]) -> str:
    """model.json as a text."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def network_plan(model: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What a forward pass needs besides the weights, whose shapes are `shapes`."""
    blocks, channels = [], shapes["params/stem_kernel"][3]
    for number, block in enumerate(blocks_of(get_variant(model["variant"]), model["last_stride"])):
        num_out = shapes[f"params/blocks/{number}/project/kernel"][1]
        has_residual = block.stride == 1 and channels == num_out
        told = {"kernel_px": block.kernel_px, "stride": block.stride, "has_residual": has_residual}
        blocks.append(told)
        channels = num_out
    size = model["image_px"]
    resizing = None if size == GLYPH_PX else np.asarray(resize_weights(GLYPH_PX, size))
    return {
        "image_px": size,
        "resizing": None if resizing is None else resizing.ravel().tolist(),
        "norm_epsilon": NORM_EPSILON,
        "stem": {"kernel_px": STEM_KERNEL_PX, "stride": model["stem_stride"]},
        "blocks": blocks,
    }


def _forms_of(class_index: ClassIndex) -> dict[str, list[dict[str, str]]]:
    told = {}
    for codepoint in class_index.codepoints:
        found = [
            {"character": form.character, "codepoint": form.codepoint, "relation": form.relation}
            for form in forms(codepoint)
        ]
        if found:
            told[codepoint] = found
    return told
