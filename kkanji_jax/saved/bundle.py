"""A released model as a folder of plain files: written whole, checked on load, read by NumPy.

params.npz         weights and batch statistics, once, rounded
config.json        format version, which weights of which step, the run's whole config
index.json         the characters, by class id
train_counts.json  training images of each code point
calibration.json   temperature, support and verdicts, where the run has them
model_card.md      what it is, what it scores, and what nobody has measured
model.onnx         optional; its weights are those in params.npz
web/               optional; a page that reads characters in a browser, see kkanji_jax/web
SHA256SUMS         of all of them
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kkanji_jax.array_types import Float32
from kkanji_jax.config import complete
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.files import SUMS, check_sums, is_foreign, naming_in_errors, read_json, write_sums
from kkanji_jax.saved.arrays import DTYPES, read_arrays, rounded, write_arrays

FORMAT = "kkanji_jax bundle"
FORMAT_VERSION = 1
PARAMS, CONFIG, INDEX, COUNTS = "params.npz", "config.json", "index.json", "train_counts.json"
CALIBRATION, CARD, ONNX = "calibration.json", "model_card.md", "model.onnx"
WEB = "web"
FILES = (PARAMS, CONFIG, INDEX, COUNTS, CARD)  # files of every bundle

FlatVariables = Mapping[str, Float32[np.ndarray, "..."]]


@dataclass(frozen=True)
class Bundle:
    """The content of a bundle.

    `about` is config.json without the config itself: the run, the step and which weights.
    `variables` are float32, by path: params/blocks/0/expand/kernel, batch_stats/stem_norm/mean.
    """

    about: dict[str, Any]
    config: dict[str, Any]
    class_index: ClassIndex
    variables: FlatVariables
    train_counts: dict[str, int]
    calibration: dict[str, Any] | None
    model_card: str


def flatten(tree: Mapping[Any, Any], prefix: str) -> dict[str, np.ndarray]:
    """A tree of arrays as a dict; each key is `prefix` and the path, joined by slashes."""
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
    bundle: Bundle,
    dtype: str = "float16",
    add_files: Callable[[Path], None] | None = None,
) -> None:
    """Writes the folder `out`, which appears when complete; ValueError if it exists already.

    `add_files` is called with the folder once all other files are in it, to add the optional ones.
    """
    if out.exists() and (not out.is_dir() or not all(is_foreign(p.name) for p in out.iterdir())):
        raise ValueError(f"{out} is there already; give --out another name, or remove it")
    _check_counts(bundle.train_counts, bundle.class_index, out)
    with _folder_beside(out) as unfinished, naming_in_errors(out, unfinished):
        write_arrays(unfinished / PARAMS, rounded(bundle.variables, dtype))
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "dtype": dtype}
        about = {name: value for name, value in bundle.about.items() if name not in head}
        _write_json(unfinished / CONFIG, {**head, **about, "config": bundle.config})
        bundle.class_index.save(unfinished / INDEX)
        counts = {name: bundle.train_counts[name] for name in bundle.class_index.codepoints}
        _write_json(unfinished / COUNTS, counts)
        if bundle.calibration is not None:
            _write_json(unfinished / CALIBRATION, bundle.calibration)
        (unfinished / CARD).write_text(bundle.model_card, encoding="utf-8")
        if add_files is not None:
            add_files(unfinished)
        write_sums(unfinished)
        _put_in_place(unfinished, out)


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, of this process alone; removed at the end if it still exists."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name[:40]}.{secrets.token_hex(8)}.unfinished")
    unfinished.mkdir()
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(unfinished: Path, out: Path) -> None:
    """Renames the finished bundle. In a folder with foreign files, its digests are moved last."""
    if out.is_dir() and any(out.iterdir()):
        names = sorted(path.name for path in unfinished.iterdir())
        for name in sorted(names, key=lambda name: name == SUMS):
            (unfinished / name).rename(out / name)
        return
    unfinished.replace(out)  # an empty folder may be replaced


def is_bundle(path: Path) -> bool:
    """Whether a folder looks like a bundle rather than the folder of a run."""
    return (path / PARAMS).is_file()


def read_bundle(path: str | os.PathLike) -> Bundle:
    """Reads a bundle, every digest checked. Config fields that it lacks have their defaults.

    ValueError names the file that is missing, damaged, of an unknown format, or that does not fit
    the others. Whether model.onnx has the same weights is checked where it is run:
    inference/onnx_backend.py.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"no bundle at {folder}: expected a folder of kkanji_jax.export")
    listed = check_sums(folder, "bundle")
    for name in (*FILES, *(n for n in (CALIBRATION, ONNX) if (folder / n).exists())):
        if name not in listed:
            raise ValueError(
                f"{folder / name} is not of this bundle: SHA256SUMS does not list it; "
                "export the bundle anew"
            )
    about = read_json(folder / CONFIG)
    if about.get("format") != FORMAT or about.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / CONFIG} has format {about.get('format')!r} "
            f"{about.get('format_version')!r}, this version of kkanji_jax reads {FORMAT!r} "
            f"{FORMAT_VERSION}; install the version that wrote it"
        )
    if about.get("dtype") not in DTYPES or "config" not in about:
        raise ValueError(f"{folder / CONFIG} must have a config, and a dtype of {DTYPES}")
    class_index = ClassIndex.load(folder / INDEX)
    train_counts = read_json(folder / COUNTS)
    _check_counts(train_counts, class_index, folder / COUNTS)
    variables = read_arrays(folder / PARAMS, about["dtype"])
    _check_classes(variables, class_index, folder)
    has_calibration = (folder / CALIBRATION).exists()
    config = complete(about.pop("config"))
    return Bundle(
        about=about,
        config=config,
        class_index=class_index,
        variables=variables,
        train_counts=train_counts,
        calibration=read_json(folder / CALIBRATION) if has_calibration else None,
        model_card=(folder / CARD).read_text(encoding="utf-8"),
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
