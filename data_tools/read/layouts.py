"""The sources in a folder, recognised by names alone, and the meaning of names inside them."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kkanji_jax.data.class_index import parse_codepoint
from kkanji_jax.data.label_table import LABELS
from kkanji_jax.files import is_foreign, is_plain_text

KKANJI, CHAR_SHAPE, UNNAMED = "kkanji", "char-shape", "images"  # names of sources
# Each part of the 28x28 sets: its name, and its images and labels in the forms CODH offers.
_PARTS = (
    ("k49-train", [("k49-train-imgs.npz", "k49-train-labels.npz")]),
    ("k49-test", [("k49-test-imgs.npz", "k49-test-labels.npz")]),
    (
        "kmnist-train",
        [
            ("kmnist-train-imgs.npz", "kmnist-train-labels.npz"),
            ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ],
    ),
    (
        "kmnist-test",
        [
            ("kmnist-test-imgs.npz", "kmnist-test-labels.npz"),
            ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
        ],
    ),
)
_RESERVED = (KKANJI, CHAR_SHAPE, *(name for name, _ in _PARTS))
_CROP = re.compile(r"(U\+[0-9A-F]{4,6})_([^_]+)_(.+)_X\d+_Y\d+(?:_\w+)?")


class SmallPart(NamedTuple):
    """The files of one part of a 28x28 set."""

    images: Path
    labels: Path
    classmap: Path


class Layout(NamedTuple):
    """The sources of a folder; `image_folders` by the name with which their sample ids begin.

    They have class folders, a table of labels, or both.
    """

    kkanji: Path | None  # kkanji2/ or kkanji.tar
    parts: dict[str, SmallPart]
    image_folders: dict[str, Path]
    books: dict[str, Path]  # <book>/characters/ of CODH's character shapes
    used: frozenset[str]  # names in the folder that belong to a source
    notes: list[str]


def is_class_folder(path: Path) -> bool:
    """Whether a folder's name is meant to be a code point, even if it is written wrongly."""
    return path.name[:2] in ("U+", "u+") and path.is_dir()


@cache
def codepoint_problem(folder_name: str) -> str | None:
    """Why the name of a class folder is not a code point, or None."""
    try:
        parse_codepoint(folder_name)
    except ValueError as err:
        return str(err)
    return None


def crop_problem(stem: str, codepoint: str, book: str) -> str | None:
    """Why a file in <book>/characters/<codepoint>/ is not a crop of these, by its name, or None.

    CODH names a crop U+XXXX_<book>_<page>_X<x>_Y<y>.
    """
    match = _CROP.fullmatch(stem)
    if match is None:
        return "must have a name U+XXXX_<book>_<page>_X<x>_Y<y>"
    if match[1] != codepoint or match[2] != book:
        return f"is named {match[1]} of the book {match[2]}, but lies in {codepoint} of {book}"
    return None


def _find_parts(folder: Path, notes: list[str]) -> dict[str, SmallPart]:
    """The 28x28 parts that are there; refuses half of a pair."""
    parts = {}
    for source, forms in _PARTS:
        pairs = []
        for names in forms:
            there = [(folder / name).is_file() for name in names]
            if any(there) and not all(there):
                missing, found = (names[0], names[1]) if there[1] else (names[1], names[0])
                raise ValueError(
                    f"{folder / missing} is missing, but {found} is there: "
                    "put it beside it, or take both away"
                )
            if all(there):
                pairs.append((folder / names[0], folder / names[1]))
        if not pairs:
            continue
        if len(pairs) > 1:
            notes.append(f"{source} is there twice: {pairs[0][0].name} is read, not its idx form")
        classmap = folder / f"{source.partition('-')[0]}_classmap.csv"
        if not classmap.is_file():
            raise ValueError(f"{classmap} is missing, but {pairs[0][0].name} is there")
        images, labels = pairs[0]
        parts[source] = SmallPart(images, labels, classmap)
    return parts


def _find_image_folders(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """(folders of class folders by name, <book>/characters by book)."""
    image_folders: dict[str, Path] = {}
    books: dict[str, Path] = {}
    children = [p for p in sorted(folder.iterdir()) if p.is_dir() and not is_foreign(p.name)]
    for child in children:
        if child.name == "kkanji2" or is_class_folder(child):
            continue
        if (child / "characters").is_dir():
            books[child.name] = child / "characters"
        elif (child / LABELS).is_file() or any(map(is_class_folder, child.iterdir())):
            image_folders[child.name] = child
    if (folder / LABELS).is_file() or any(map(is_class_folder, children)):
        if folder.resolve().name in ("kkanji2", "characters"):
            raise ValueError(
                f"{folder} is one part of a source: give the folder that holds "
                + ("kkanji2/" if folder.resolve().name == "kkanji2" else "<book>/characters/")
            )
        if UNNAMED in image_folders:
            raise ValueError(
                f"{folder} holds labelled images, and more of them in {UNNAMED}/, "
                "which would get the same sample ids: put them together"
            )
        image_folders[UNNAMED] = folder
    for name in (*image_folders, *books):
        if not is_plain_text(name):
            raise ValueError(f"{folder / name} has a name that is no plain text: rename it")
    for name in image_folders:
        if name == "characters":
            raise ValueError(
                f"{folder} is one book of CODH's character shapes: give the folder that holds it"
            )
        if name in _RESERVED:
            raise ValueError(
                f"{folder / name} is named like a source of CODH, whose sample ids it would "
                "take: rename it"
            )
    return image_folders, books


def find_layout(folder: Path) -> Layout:
    """The sources in `folder`. Refuses a folder without any, and half of an images-labels pair."""
    if not folder.is_dir():
        raise ValueError(
            f"no folder {folder}: expected one that holds CODH's files, such as kkanji2"
        )
    notes: list[str] = []
    parts = _find_parts(folder, notes)
    kkanji_folder, kkanji_tar = folder / "kkanji2", folder / "kkanji.tar"
    has_folder, has_tar = kkanji_folder.is_dir(), kkanji_tar.is_file()
    kkanji = kkanji_folder if has_folder else kkanji_tar if has_tar else None
    if has_folder and has_tar:
        notes.append("kkanji2/ and kkanji.tar are both there: the folder is read, not the tar")
    image_folders, books = _find_image_folders(folder)
    used = {path.name for part in parts.values() for path in part} | books.keys()
    used |= {kkanji.name} if kkanji else set()
    for name, path in image_folders.items():
        own = {p.name for p in path.iterdir() if is_class_folder(p) or p.name == LABELS}
        used |= own if path == folder else {name}
    if not (kkanji or parts or image_folders or books):
        raise ValueError(
            f"nothing to read in {folder}: expected kkanji2/ or kkanji.tar, *-imgs.npz with "
            "*-labels.npz and *_classmap.csv, folders U+XXXX/ of images, labels.csv, or "
            "<book>/characters/"
        )
    return Layout(kkanji, parts, image_folders, books, frozenset(used), notes)
