"""One folder of CODH's files, in whichever of their forms -> one catalogue of originals."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_tools import readers
from data_tools.progress import Report, say_nothing
from data_tools.sources import RIGHTS_NAME, is_published, sha256_of
from kkanji_jax.data.class_index import character_of, parse_codepoint
from kkanji_jax.data.records import IMAGE_PX

OFFICIAL_TESTS = ("k49-test", "kmnist-test")
_SMALL_PX = 28
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


class Original(NamedTuple):
    """One image as its source has it: `pixels` 64x64 or 28x28, its digest that of 64x64."""

    sample_id: str
    codepoint: str
    source: str
    pixels: bytes
    pixels_sha256: str
    book: str = ""


class Finding(NamedTuple):
    """One thing that a rule of the audit names: a sample or a file, and why."""

    rule: str
    name: str
    detail: str


class Catalogue(NamedTuple):
    """All originals in order: kkanji by code point and file name, then the 28x28 sets by row."""

    originals: list[Original]
    findings: list[Finding]
    sources: list[dict[str, Any]]
    notes: list[str]


class BadFilesError(ValueError):
    """Files that cannot be used; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        shown = "; ".join(problems[:3]) + ("; ..." if len(problems) > 3 else "")
        super().__init__(
            f"cannot use {len(problems)} files or folders: {shown}: "
            "repair them, or drop and list them with --skip-bad"
        )


def to_64px(pixels: bytes) -> bytes:
    """Pixels at 64x64: as they are, or from 28x28 by Pillow's bicubic, clipped to 0..255."""
    if len(pixels) == IMAGE_PX * IMAGE_PX:
        return pixels
    small = Image.frombytes("L", (_SMALL_PX, _SMALL_PX), pixels)
    return small.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC).tobytes()


def stack_images(pixels: Iterable[bytes]) -> UInt8[np.ndarray, "n 64 64"]:
    """The images of several originals, at 64x64."""
    joined = b"".join(to_64px(each) for each in pixels)
    return np.frombuffer(joined, np.uint8).reshape(-1, IMAGE_PX, IMAGE_PX)


def _make_original(sample_id: str, codepoint: str, source: str, pixels: bytes) -> Original:
    digest = hashlib.sha256(to_64px(pixels)).hexdigest()
    return Original(sample_id, codepoint, source, pixels, digest)


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini", "__MACOSX")


def _iterate_folder(folder: Path, report: Report) -> Iterator[tuple[str, bytes | None]]:
    """Path inside the source and bytes of every file; None for an empty class folder."""
    class_folders = sorted(folder.iterdir())
    for number, class_folder in enumerate(class_folders):
        report("reading kkanji2", number, len(class_folders))
        inside = f"{folder.name}/{class_folder.name}"
        if _is_junk(class_folder.name) or not class_folder.is_dir():
            yield inside, b""
            continue
        files = sorted(class_folder.rglob("*"))
        if not files:
            yield inside + "/", None
        for file in files:
            if not file.is_dir():
                name = f"{inside}/{file.relative_to(class_folder).as_posix()}"
                is_wanted = file.suffix.lower() == ".png" and not _is_junk(file.name)
                yield name, file.read_bytes() if is_wanted else b""
    report("reading kkanji2", len(class_folders), len(class_folders))


def _iterate_tar(path: Path, report: Report) -> Iterator[tuple[str, bytes | None]]:
    num_bytes, done = path.stat().st_size >> 20, 0
    for name, data in readers.iterate_tar(path):
        done += 512 + -(-len(data) // 512) * 512
        report("reading kkanji.tar (MB)", min(done >> 20, num_bytes - 1), num_bytes)
        yield name, data
    report("reading kkanji.tar (MB)", num_bytes, num_bytes)


@cache
def _codepoint_problem(folder_name: str) -> str | None:
    try:
        parse_codepoint(folder_name)
    except ValueError as err:
        return str(err)
    return None


def _read_kkanji(
    files: Iterable[tuple[str, bytes | None]], skip_bad: bool
) -> tuple[list[Original], list[Finding]]:
    originals, findings, misnamed = {}, [], set()
    for path, data in files:
        folder, _, name = path.removeprefix("kkanji2/").partition("/")
        is_inside = path.startswith("kkanji2/") and bool(folder)
        if data is None:
            findings.append(Finding("empty_class", path, "no file"))
            continue
        if (
            not is_inside
            or not name.lower().endswith(".png")
            or any(map(_is_junk, path.split("/")))
        ):
            findings.append(Finding("ignored", path, "no image of a class folder"))
            continue
        problem = _codepoint_problem(folder)
        if problem:
            if folder not in misnamed:
                misnamed.add(folder)
                findings.append(Finding("wrong_name", f"kkanji2/{folder}", problem))
            continue
        sample_id = f"kkanji/{folder}/{name[: -len('.png')]}"
        try:
            if "/" in name:
                raise ValueError("is in a folder inside its class folder")
            if sample_id in originals:
                raise ValueError(f"has the same sample id as another file, {sample_id}")
            pixels, mode = readers.decode_png(data)
        except readers.WrongSizeError as err:
            findings.append(Finding("wrong_size", sample_id, str(err)))
        except ValueError as err:
            findings.append(Finding("unreadable", path, str(err)))
        else:
            if mode is not None:
                findings.append(Finding("converted", sample_id, f"mode {mode}"))
            originals[sample_id] = _make_original(sample_id, folder, "kkanji", pixels)
    bad = [f for f in findings if f.rule in ("wrong_name", "unreadable")]
    if bad and not skip_bad:
        raise BadFilesError([f"{f.name}: {f.detail}" for f in sorted(bad)])
    by_codepoint = sorted(
        originals.values(), key=lambda o: (ord(character_of(o.codepoint)), o.sample_id)
    )
    return by_codepoint, sorted(findings)


def _read_small(
    source: str, images_path: Path, labels_path: Path, classmap_path: Path, report: Report
) -> list[Original]:
    codepoints = readers.read_classmap(classmap_path)
    labels = readers.read_labels(labels_path, len(codepoints), classmap_path)
    images = readers.read_images(images_path)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path.name} has {len(images)} images, {labels_path.name} {len(labels)} labels"
        )
    originals = []
    for row, label in enumerate(labels):
        if row % 1024 == 0:
            report(f"reading {source}", row, len(labels))
        sample_id = f"{source}/{row:06d}"
        originals.append(
            _make_original(sample_id, codepoints[label], source, images[row].tobytes())
        )
    report(f"reading {source}", len(labels), len(labels))
    return originals


def _describe(name: str, files: list[Path], originals: list[Original]) -> dict[str, Any]:
    described = [
        {
            "file": file.name,
            "bytes": file.stat().st_size,
            "sha256": sha256_of(file),
            "is_as_published": is_published(file),
        }
        for file in files
    ]
    return {"name": name, "num_images": len(originals), "files": described}


def _find_parts(folder: Path, notes: list[str]) -> dict[str, tuple[Path, Path, Path]]:
    """Images, labels and class map of each 28x28 part that is there; refuses half of a pair."""
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
        parts[source] = (*pairs[0], classmap)
    return parts


def combine(folder: Path, *, skip_bad: bool = False, report: Report = say_nothing) -> Catalogue:
    """Reads every source in `folder`: kkanji2/ or kkanji.tar, and the npz and idx sets.

    Refuses a folder without any, half of an images-labels pair, and damaged archives. Files of
    Kuzushiji-Kanji that cannot be used stop it with a list of them all (BadFilesError); with
    `skip_bad` they become findings. Files that are none of CODH's are ignored, and are findings.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: wanted one that holds CODH's files, such as kkanji2")
    notes: list[str] = []
    parts = _find_parts(folder, notes)
    kkanji_folder, kkanji_tar = folder / "kkanji2", folder / "kkanji.tar"
    has_folder, has_tar = kkanji_folder.is_dir(), kkanji_tar.is_file()
    if not (has_folder or has_tar or parts):
        raise ValueError(
            f"nothing to read in {folder}: wanted kkanji2/ or kkanji.tar, "
            "or *-imgs.npz with *-labels.npz and *_classmap.csv"
        )
    used = {path.name for paths in parts.values() for path in paths} | {RIGHTS_NAME}
    originals: list[Original] = []
    findings: list[Finding] = []
    sources: list[dict[str, Any]] = []
    if has_folder or has_tar:
        if has_folder and has_tar:
            notes.append("kkanji2/ and kkanji.tar are both there: the folder is read, not the tar")
        name = "kkanji2" if has_folder else "kkanji.tar"
        used.add(name)
        iterator = (
            _iterate_folder(kkanji_folder, report)
            if has_folder
            else _iterate_tar(kkanji_tar, report)
        )
        found, findings = _read_kkanji(iterator, skip_bad)
        if not found:
            raise ValueError(f"{folder / name} holds no image kkanji2/U+XXXX/*.png")
        originals += found
        sources.append(_describe("kkanji", [] if has_folder else [kkanji_tar], found))
    for source, paths in parts.items():
        found = _read_small(source, *paths, report=report)
        originals += found
        sources.append(_describe(source, list(paths), found))
    for path in sorted(folder.iterdir()):
        if path.name not in used:
            findings.append(Finding("ignored", path.name, "not read"))
    return Catalogue(originals, findings, sources, notes)
