"""A released model as a folder of plain files: written whole, checked on load, read by NumPy.

params.npz         weights and batch statistics, once, in half precision
config.json        format version, which weights of which step, the run's whole config
index.json         the characters, by class id
train_counts.json  training images of each code point
calibration.json   temperature and verdicts, where the run has them
model_card.md      what it is, what it scores, and what nobody has measured
model.onnx         optional; its weights are those in params.npz
web/               optional; a page that reads characters in a browser, see web.py
SHA256SUMS         of all of them
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kkanji_jax.array_types import Float32
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.files import (
    SUMS,
    check_sums,
    is_foreign,
    naming_in_errors,
    sha256_of,
    write_sums,
)
from kkanji_jax.saved import arrays as arrays_lib

FORMAT = "kkanji_jax bundle"
FORMAT_VERSION = 1
PARAMS, CONFIG, INDEX, COUNTS = "params.npz", "config.json", "index.json", "train_counts.json"
CALIBRATION, CARD, ONNX = "calibration.json", "model_card.md", "model.onnx"
WEB = "web"
FILES = (PARAMS, CONFIG, INDEX, COUNTS, CARD)  # what no bundle is without

FlatVariables = Mapping[str, Float32[np.ndarray, "..."]]


class Bundle(NamedTuple):
    """The content of a bundle. `about` is config.json without the config itself.

    `variables` are float32, by path: params/blocks/0/expand/kernel, batch_stats/stem_norm/mean.
    """

    path: Path
    about: dict[str, Any]
    config: dict[str, Any]
    class_index: ClassIndex
    variables: FlatVariables
    train_counts: dict[str, int]
    calibration: dict[str, Any] | None


def flatten(tree: Mapping[Any, Any], prefix: str) -> dict[str, np.ndarray]:
    """A tree of arrays by path: the keys on the way, joined by slashes, after `prefix`."""
    flat = {}
    for key, value in tree.items():
        path = f"{prefix}/{key}"
        flat |= flatten(value, path) if isinstance(value, Mapping) else {path: np.asarray(value)}
    return flat


def nest(variables: FlatVariables, prefix: str) -> dict[Any, Any]:
    """The inverse of `flatten`: keys of digits are numbers, as in the list of blocks."""
    tree: dict[Any, Any] = {}
    for path, array in variables.items():
        first, *keys = path.split("/")
        if first != prefix:
            continue
        branch = tree
        *way, leaf = [int(key) if key.isdigit() else key for key in keys]
        for key in way:
            branch = branch.setdefault(key, {})
        branch[leaf] = array
    return tree


def write_bundle(
    out: Path,
    *,
    about: Mapping[str, Any],
    config: Mapping[str, Any],
    class_index: ClassIndex,
    variables: FlatVariables,
    train_counts: Mapping[str, int],
    calibration: Mapping[str, Any] | None,
    model_card: str,
    dtype: str = "float16",
    with_onnx: bool = False,
    with_web: bool = False,
    dataset: Path | None = None,
) -> None:
    """Writes the folder `out`, which appears when whole; ValueError if something is there.

    `dataset` gives the page its examples of each character.
    """
    if out.exists() and (not out.is_dir() or not all(is_foreign(p.name) for p in out.iterdir())):
        raise ValueError(f"{out} is there already; give --out another name, or remove it")
    _check_counts(train_counts, class_index, out)
    with naming_in_errors(out), _folder_beside(out) as unfinished:
        half = {name: arrays_lib.to_half(value, dtype) for name, value in variables.items()}
        arrays_lib.write_arrays(unfinished / PARAMS, half)
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "dtype": dtype}
        _write_json(unfinished / CONFIG, {**head, **about, "config": dict(config)})
        class_index.save(unfinished / INDEX)
        ordered = {codepoint: train_counts[codepoint] for codepoint in class_index.codepoints}
        _write_json(unfinished / COUNTS, ordered)
        if calibration is not None:
            _write_json(unfinished / CALIBRATION, calibration)
        (unfinished / CARD).write_text(model_card, encoding="utf-8")
        if with_onnx:
            from kkanji_jax.model.onnx_graph import write_onnx

            write_onnx(unfinished / ONNX, config["model"], class_index, unfinished / PARAMS, dtype)
        if with_web:
            from kkanji_jax.web.page import write_web

            write_web(
                unfinished / WEB,
                params=unfinished / PARAMS,
                dtype=dtype,
                about=about,
                model=config["model"],
                class_index=class_index,
                train_counts=train_counts,
                calibration=calibration,
                dataset=dataset,
            )
        write_sums(unfinished)
        _put_in_place(unfinished, out)


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, of this process alone, which is removed if it is still there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name[:40]}.{secrets.token_hex(8)}.unfinished")
    unfinished.mkdir()
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(unfinished: Path, out: Path) -> None:
    """Gives the whole bundle its name; into a folder with foreign files, its digests come last."""
    if out.is_dir() and any(out.iterdir()):
        names = sorted(path.name for path in unfinished.iterdir())
        for name in sorted(names, key=lambda name: name == SUMS):
            (unfinished / name).rename(out / name)
        return
    unfinished.replace(out)  # an empty folder gives way


def is_bundle(path: Path) -> bool:
    """Whether a folder looks like a bundle rather than the folder of a run."""
    return (path / PARAMS).is_file()


def read_bundle(path: str | os.PathLike) -> Bundle:
    """Reads a bundle, every digest checked.

    Raises ValueError naming the file that is missing, damaged, of another run, of a format that
    this version does not know, or that does not fit the others.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"no bundle at {folder}: wanted a folder of kkanji_jax.export")
    listed = check_sums(folder, "bundle")
    for name in (*FILES, *(n for n in (CALIBRATION, ONNX) if (folder / n).exists())):
        if name not in listed:
            raise ValueError(
                f"{folder / name} is not of this bundle: SHA256SUMS does not list it; "
                "export the bundle anew"
            )
    about = _read_json(folder / CONFIG)
    if about.get("format") != FORMAT or about.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / CONFIG} has format {about.get('format')!r} "
            f"{about.get('format_version')!r}, this version of kkanji_jax reads {FORMAT!r} "
            f"{FORMAT_VERSION}; install the version that wrote it"
        )
    if about.get("dtype") not in arrays_lib.DTYPES or "config" not in about:
        raise ValueError(f"{folder / CONFIG} wants a config, and a dtype of {arrays_lib.DTYPES}")
    class_index = ClassIndex.load(folder / INDEX)
    train_counts = _read_json(folder / COUNTS)
    _check_counts(train_counts, class_index, folder / COUNTS)
    variables = arrays_lib.read_arrays(folder / PARAMS, about["dtype"])
    _check_classes(variables, class_index, folder)
    if (folder / ONNX).exists():
        from kkanji_jax.model.protobuf import read_metadata

        of_params = read_metadata(folder / ONNX).get("params_sha256")
        if of_params != sha256_of(folder / PARAMS):
            raise ValueError(
                f"{folder / ONNX} is of another run: it was made for other weights than "
                f"{PARAMS}; export the bundle anew"
            )
    has_calibration = (folder / CALIBRATION).exists()
    config = about.pop("config")
    return Bundle(
        path=folder,
        about=about,
        config=config,
        class_index=class_index,
        variables=variables,
        train_counts=train_counts,
        calibration=_read_json(folder / CALIBRATION) if has_calibration else None,
    )


def _check_counts(counts: Mapping[str, int], class_index: ClassIndex, where: Path) -> None:
    missing = [codepoint for codepoint in class_index.codepoints if codepoint not in counts]
    if missing:
        raise ValueError(f"{where}: no count of training images for {missing[0]}")


def _check_classes(variables: FlatVariables, class_index: ClassIndex, folder: Path) -> None:
    kernel = variables.get("params/classifier/kernel")
    num_outputs = None if kernel is None or kernel.ndim != 2 else kernel.shape[1]
    if num_outputs != len(class_index):
        raise ValueError(
            f"{folder}: the network has {num_outputs} outputs and {INDEX} {len(class_index)} "
            "classes: they are not of one run"
        )


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise ValueError(f"{path} is damaged: {err}") from err
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: wanted a JSON object")
    return content
