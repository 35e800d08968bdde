"""Writes tests/golden/bundle_v<FORMAT_VERSION>/: a tiny BUNDLE that must load for ever.

    python tests/golden/make/bundle.py

Run once for each format version, never again: the files of a version that exists are refused. Its
weights are of three values a tensor, so that gzip makes little of them; `logits.npy` is what they
say of `glyphs`. Every file of the bundle is gzipped.
"""

import gzip
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from kkanji_jax.config import default_config, fingerprint
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.calibration_fit import fit
from kkanji_jax.export.bundle import export_bundle
from kkanji_jax.inference.onnx_backend import OnnxBackend
from kkanji_jax.model.network import init_variables
from kkanji_jax.saved.bundle import FORMAT_VERSION, ONNX, Bundle, flatten, read_bundle

GOLDEN = Path(__file__).parents[1]
# Two outside the BMP, and a compatibility ideograph beside the character it must not become.
CODEPOINTS = ("U+3042", "U+6625", "U+6765", "U+795E", "U+FA19", "U+20B9F", "U+241C6")


def glyphs() -> UInt8[np.ndarray, "n 64 64"]:
    """Eight made-up glyphs."""
    drawn = []
    for number in range(8):
        image = Image.new("L", (64, 64))
        for stroke in np.random.default_rng(number).integers(8, 56, (4, 2, 2)):
            ImageDraw.Draw(image).line(tuple(stroke.ravel().tolist()), fill=255, width=4)
        drawn.append(np.asarray(image))
    return np.stack(drawn)


def _few_valued(name: str, array: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    if name.endswith("/var"):
        return np.full_like(array, 0.4)  # below 1: the signal must not fade on its way
    if "kernel" not in name:
        return array
    scale = np.float32(np.float16(array.std()))
    return np.where(np.abs(array) > 0.6 * scale, 1.4 * scale * np.sign(array), 0).astype(np.float32)


def write(folder: Path) -> None:
    """Writes the bundle itself."""
    config: dict[str, Any] = default_config().to_dict()
    config["model"] |= {"variant": "nano", "drop_path": 0.0}
    index = ClassIndex.from_codepoints(CODEPOINTS)
    params, stats = init_variables(config["model"], len(index), 0)
    variables = flatten(params, "params") | flatten(stats, "batch_stats")
    logits = np.random.default_rng(0).normal(size=(100, len(index)))
    labels = np.arange(100) % len(index)
    logits[np.arange(100), labels] += 3
    bundle = Bundle(
        about={
            "weights": "ema",
            "step": 7,
            "manifest_sha256": "0" * 64,
            "dataset_fingerprint": None,
            "config_fingerprint": fingerprint(config),
            "package_version": "0.1.0",
        },
        config=config,
        class_index=index,
        variables={name: _few_valued(name, array) for name, array in variables.items()},
        train_counts={codepoint: 10 + n for n, codepoint in enumerate(index.codepoints)},
        calibration=fit(logits, labels, weights="ema", fitted_on={"split": "val"}).to_json(),
        model_card="# A bundle that knows nothing\n",
    )
    export_bundle(folder, bundle)


def main() -> int:
    golden = GOLDEN / f"bundle_v{FORMAT_VERSION}"
    if golden.exists():
        print(f"error: {golden} exists, and what it holds must load for ever", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "bundle")
        made = Path(folder) / "bundle"
        read_bundle(made)
        run = OnnxBackend(made / ONNX)
        golden.mkdir(parents=True)
        for path in sorted(made.iterdir()):
            (golden / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        np.save(golden / "logits.npy", run(glyphs())[0])
        np.save(golden / "glyphs.npy", glyphs())
    for path in sorted(golden.iterdir()):
        print(f"{path.stat().st_size:>8,} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
