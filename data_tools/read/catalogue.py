"""One catalogue of originals from a folder of sources, in all their forms."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_tools.fetch.sources import is_published
from data_tools.read import formats
from data_tools.read.class_folders import iterate_images, iterate_kkanji
from data_tools.read.decoding import (
    Finding,
    FoundOriginal,
    decode_image,
    decode_kkanji,
    digest_of,
    read_all,
)
from data_tools.read.labelled_images import iterate_labelled
from data_tools.read.layouts import CHAR_SHAPE, KKANJI, SmallPart, find_layout, is_class_folder
from data_tools.read.pixel_store import PixelStore, StoredPixels
from data_tools.read.rights import RIGHTS_NAME
from kkanji_jax.cli import Report, say_nothing
from kkanji_jax.data.class_index import character_of
from kkanji_jax.data.label_table import LABELS, read_labels
from kkanji_jax.data.records import IMAGE_PX
from kkanji_jax.files import sha256_of
from kkanji_jax.workers import Workers

OFFICIAL_TESTS = ("k49-test", "kmnist-test")


def official_tests(pooled: Collection[str] = ()) -> frozenset[str]:
    """The sources whose images are test under every protocol: all but those of `pooled` sets."""
    return frozenset(OFFICIAL_TESTS) - {f"{name}-test" for name in pooled}


class Original(NamedTuple):
    """One image as its source has it: `pixels` are 64x64 or 28x28, the digest is of 64x64.

    `held` is the pixels, or their place on disk. `book` is empty if the source does not state it.
    """

    sample_id: str
    codepoint: str
    source: str
    held: bytes | StoredPixels
    pixels_sha256: str
    book: str = ""

    @property
    def pixels(self) -> bytes:
        """The pixels, row by row; read from disk each time if they are there."""
        return self.held if isinstance(self.held, bytes) else self.held.read()


class Catalogue(NamedTuple):
    """All originals in order: kkanji, the 28x28 sets by row, image folders, character shapes.

    Except for the 28x28 sets, each is in order of code point, then of sample id.
    """

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
    small = Image.frombytes("L", (formats.SMALL_PX, formats.SMALL_PX), pixels)
    return small.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC).tobytes()


def stack_images(pixels: Iterable[bytes]) -> UInt8[np.ndarray, "n 64 64"]:
    """The images of several originals, at 64x64."""
    joined = b"".join(to_64px(each) for each in pixels)
    return np.frombuffer(joined, np.uint8).reshape(-1, IMAGE_PX, IMAGE_PX)


def _read_rows(images: UInt8[np.ndarray, "n 28 28"]) -> list[tuple[bytes, str]]:
    """The pixels and the digest of each."""
    rows = [image.tobytes() for image in images]
    return [(pixels, digest_of(to_64px(pixels))) for pixels in rows]


def _read_small(
    source: str, part: SmallPart, workers: Workers, report: Report
) -> Iterator[FoundOriginal]:
    """The rows of a 28x28 part; ids `<source>/<row>`."""
    codepoints = formats.read_classmap(part.classmap)
    labels = formats.read_labels(part.labels, len(codepoints), part.classmap)
    num_images = formats.count_images(part.images)
    if num_images != len(labels):
        raise ValueError(
            f"{part.images.name} has {num_images} images, {part.labels.name} {len(labels)} labels"
        )
    row = 0
    blocks = formats.iterate_images(part.images)
    for block in workers.map(_read_rows, blocks, most=2 * workers.count):
        report(f"reading {source}", row, num_images)
        for pixels, digest in block:
            yield FoundOriginal(f"{source}/{row:06d}", codepoints[labels[row]], pixels, digest)
            row += 1
    report(f"reading {source}", num_images, num_images)


def _by_codepoint(originals: list[Original]) -> list[Original]:
    keys = {o.codepoint: ord(character_of(o.codepoint)) for o in originals}
    return sorted(originals, key=lambda o: (keys[o.codepoint], o.sample_id))


class _Gathering:
    """The catalogue while it is built; pixels go to the store, not into memory."""

    def __init__(self, store: PixelStore, skip_bad: bool) -> None:
        self._store, self._skip_bad = store, skip_bad
        self.originals: list[Original] = []
        self.findings: list[Finding] = []
        self.sources: list[dict[str, Any]] = []

    def take(
        self,
        source: str,
        stream: Iterable[FoundOriginal | Finding],
        files: Iterable[Path] = (),
        *,
        in_order: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a source, with `details` for the manifest; BadFilesError for unusable files."""
        originals: list[Original] = []
        findings: list[Finding] = []
        num_made = 0
        for found in stream:
            if isinstance(found, Finding):
                findings.append(found)
                continue
            held, digest = self._store.put(found.pixels), found.pixels_sha256
            codepoint, book = intern(found.codepoint), intern(found.book)
            originals.append(Original(found.sample_id, codepoint, source, held, digest, book))
            num_made += not found.is_its_own
        bad = sorted(f for f in findings if f.rule in ("wrong_name", "unreadable"))
        if bad and not self._skip_bad:
            raise BadFilesError([f"{f.name}: {f.detail}" for f in bad])
        self.originals += originals if in_order else _by_codepoint(originals)
        self.findings += sorted(findings)
        described = [
            {
                "file": file.name,
                "bytes": file.stat().st_size,
                "sha256": sha256_of(file),
                "is_as_published": is_published(file),
            }
            for file in files
        ]
        more = dict(details or {})
        more |= {"num_through_glyph_image": num_made} if num_made else {}
        self.sources.append(
            {"name": source, "num_images": len(originals), "files": described, **more}
        )


def read_catalogue(
    folder: Path,
    *,
    skip_bad: bool = False,
    scratch: Path | None = None,
    workers: Workers | None = None,
    report: Report = say_nothing,
) -> Catalogue:
    """Reads every source in `folder`; `layouts.find_layout` says what a source is.

    ValueError for a folder without any, half of an images-labels pair, and damaged archives.
    Unusable files in class folders raise BadFilesError with a list of them all; with `skip_bad`
    they become findings. Other files are ignored, and are findings. Pixels are not kept in memory
    but in a PixelStore in the folder `scratch`. `workers` decode; the result does not depend on
    their number.
    """
    workers = workers or Workers(1)
    layout = find_layout(folder)
    if layout.image_folders and not (folder / RIGHTS_NAME).is_file():
        names = ", ".join(f"{name}/" for name in layout.image_folders)
        layout.notes.append(f"no {RIGHTS_NAME} states licence and attribution of {names}")
    gathering = _Gathering(PixelStore(scratch), skip_bad)
    if layout.kkanji:
        files = [layout.kkanji] if layout.kkanji.is_file() else []
        listed = iterate_kkanji(layout.kkanji, report)
        gathering.take(KKANJI, read_all(listed, decode_kkanji, workers), files)
        if not gathering.originals:
            raise ValueError(f"{layout.kkanji} holds no image kkanji2/U+XXXX/*.png")
    for source, part in layout.parts.items():
        gathering.take(source, _read_small(source, part, workers, report), part, in_order=True)
    used = set(layout.used)
    for source, path in layout.image_folders.items():
        table = path / LABELS
        labels = read_labels(table) if table.is_file() else []
        if path == folder:
            used |= {part for label in labels for part in Path(label.path).parts[:1]}
        is_mixed = path == folder or table.is_file()
        class_folders = [p for p in sorted(path.iterdir()) if not is_mixed or is_class_folder(p)]
        # Where a table and a folder's name speak of one image, the table does.
        named = frozenset(os.path.abspath(path / label.path) for label in labels)
        listed = iterate_images(source, class_folders, report, besides=named)
        labelled = iterate_labelled(source, path, labels, report)
        gathering.take(source, read_all(chain(listed, labelled), decode_image, workers))
    if layout.books:
        listed = chain.from_iterable(
            iterate_images(CHAR_SHAPE, sorted(path.iterdir()), report, book)
            for book, path in layout.books.items()
        )
        crops = read_all(listed, decode_image, workers)
        gathering.take(CHAR_SHAPE, crops, details={"books": list(layout.books)})
    if not gathering.originals:
        raise ValueError(f"{folder} holds no image in its folders U+XXXX/, nor one in labels.csv")
    findings = gathering.findings + [
        Finding("ignored", path.name, "not read")
        for path in sorted(folder.iterdir())
        if path.name not in used and path.name != RIGHTS_NAME
    ]
    return Catalogue(gathering.originals, findings, gathering.sources, layout.notes)
