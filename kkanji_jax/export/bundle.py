"""A bundle as `export` writes it: the format's own files, and optionally model.onnx and web/."""

from pathlib import Path
from types import ModuleType

from kkanji_jax.saved.bundle import ONNX, PARAMS, WEB, Bundle, write_bundle


def export_bundle(
    out: Path,
    bundle: Bundle,
    *,
    dtype: str = "float16",
    with_onnx: bool = True,
    with_web: bool = False,
    dataset: Path | None = None,
) -> None:
    """Writes the folder `out`, which appears when it is complete; ValueError if something is there.

    If the page shows examples of each character, they come from `dataset`.
    """

    def add_files(folder: Path) -> None:
        params = folder / PARAMS
        if with_onnx:
            model = bundle.config["model"]
            _onnx().write_onnx(folder / ONNX, model, bundle.class_index, params)
        if with_web:
            from kkanji_jax.web.web_page import write_web

            write_web(folder / WEB, bundle, params=params, dtype=dtype, dataset=dataset)

    write_bundle(out, bundle, dtype, add_files)


def export_self_contained(out: Path, bundle: Bundle, dtype: str = "float16") -> None:
    """Writes the file `out`, an ONNX model without other files; see `onnx.write_self_contained`."""
    _onnx().write_self_contained(out, bundle, dtype)


def _onnx() -> ModuleType:
    try:
        from kkanji_jax.export import onnx
    except ModuleNotFoundError as err:
        raise ValueError(
            'an ONNX file is written with the onnx package: pip install "kkanji_jax[onnx]", or '
            "export a bundle with --no-onnx"
        ) from err
    return onnx
