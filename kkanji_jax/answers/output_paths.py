"""Files to be written that are none of those to be read, and not each other."""

import itertools
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kkanji_jax.inputs.finding import is_image_name, pdf_of
from kkanji_jax.inputs.image_input import STANDARD_INPUT


def require_apart(
    outputs: Mapping[str, Path], inputs: Mapping[str, Path], paths: Sequence[str]
) -> None:
    """ValueError if an output is an input, lies among images of a folder, or is another output.

    `outputs` and `inputs` are files by their flag, `paths` the images, folders and `-` that are
    read. A folder among `inputs` stands for all files in it. Links count as what they point to,
    and names that differ by case or by Unicode's composition as one, unless both are there.
    """
    for (flag, path), (other_flag, other) in itertools.combinations(outputs.items(), 2):
        if _is_same(path, other):
            raise ValueError(f"{flag} and {other_flag} name one file, {path}: name two")
    for flag, path in outputs.items():
        for other_flag, other in inputs.items():
            if _is_same(path, other) or (other.is_dir() and path.exists() and _is_in(path, other)):
                raise ValueError(f"{flag} {path} is read, as {other_flag}: name another file")
        for source in paths:
            if source == STANDARD_INPUT:
                continue
            read = Path(pdf_of(source) or source)
            if _is_same(path, read):
                raise ValueError(f"{flag} {path} is an image to be read: name another file")
            if read.is_dir() and _is_in(path, read) and is_image_name(path.name):
                raise ValueError(
                    f"{flag} {path} would be an image in the folder {source}, which is read: "
                    "name a place outside"
                )
    _require_not_linked(outputs, [path for path in paths if os.path.isdir(path)])


def _require_not_linked(outputs: Mapping[str, Path], folders: Sequence[str]) -> None:
    """ValueError if an image in a folder is, by a link, a file that is to be written."""
    there = {_identity(path): flag for flag, path in outputs.items() if path.is_file()}
    if not there:
        return
    for image in itertools.chain.from_iterable(map(_files_in, folders)):
        flag = there.get(_identity(image))
        if flag is not None:
            raise ValueError(
                f"{flag} {outputs[flag]} is an image to be read, as {image}: name another file"
            )


def _files_in(folder: str) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if is_image_name(name) and not name.startswith("."):
                yield Path(place, name)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_same(one: Path, other: Path) -> bool:
    if os.path.realpath(one) == os.path.realpath(other) == os.path.realpath(os.devnull):
        return False
    identities = _identity(one), _identity(other)
    if None not in identities:
        return identities[0] == identities[1]
    return _folded(one) == _folded(other)


def _is_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
