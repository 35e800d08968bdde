"""The files to read, listed as they are needed: the whole listing is never in memory.

A unit is a file: an image, a PDF, a tar of images (WebDataset's), or a row group of a Parquet file.
A worker opens it as images. Folders are searched as in `predict`, and may hold tars and Parquet
files too.
"""

import os
import re
import tarfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from kkanji_jax.cluster import stores
from kkanji_jax.inputs.box_crops import BoxesByPage, crops_of_page
from kkanji_jax.inputs.finding import find_files, find_images, images_in, is_image_name, told_counts
from kkanji_jax.inputs.heif_and_pdf import HEIF_SUFFIXES, PDF_SUFFIX
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages.box import Box

TAR, PARQUET = ".tar", ".parquet"
TAR_IMAGES = 4096  # the assumed number of images in a tar
IMAGE_COLUMNS = ("image", "img", "bytes", "content", "png", "jpg", "jpeg", "webp")
ID_COLUMNS = ("id", "sample_id", "__key__", "key", "name", "filename")
ROWS_AT_ONCE = 64  # of a Parquet file
READERS, READ_AHEAD = 16, 64  # threads, and files of a store whose bytes wait to be decoded
_MAGIC = re.compile(r"[*?[]")


class RowGroup(NamedTuple):
    """A part of a Parquet file, and which rows of the file it holds."""

    number: int
    start: int
    num_rows: int


class Unit(NamedTuple):
    """A file for a worker to open, or an error; `num_images` is how many it may hold.

    `boxes` are those of a page; None for an image of one character. `id` and `box` are of an error.
    """

    path: str
    error: str = ""
    id: str = ""
    box: tuple[int, int, int, int] | None = None
    boxes: tuple[Box, ...] | None = None
    group: RowGroup | None = None
    num_images: int = 1


# --- listing, in the driver --------------------------------------------------------------------


def list_units(sources: Iterable[str], passed_over: Counter[str]) -> Iterator[Unit]:
    """The units of images of one character; their order depends on the sources only."""
    for path in _files(sources, passed_over):
        if path.error:
            yield Unit(path.path, path.error)
        elif path.path.lower().endswith(PARQUET):
            yield from _row_groups(path.path)
        elif path.path.lower().endswith(TAR):
            yield Unit(path.path, num_images=TAR_IMAGES)
        else:
            yield Unit(path.path)


def list_pages(
    sources: Iterable[str], boxes: Sequence[Box], passed_over: Counter[str]
) -> Iterator[Unit]:
    """The units of pages, each with its boxes; then an error for each box without a page."""
    by_page = BoxesByPage(boxes)
    for found in _files(sources, passed_over):
        if found.path.lower().endswith((TAR, PARQUET)):
            raise ValueError(f"with --boxes, pages must be files of their own, not in {found.path}")
        # A page of a PDF file is known by its number, so the file is opened here.
        is_document = not found.error and found.path.lower().endswith(PDF_SUFFIX)
        for page in find_images([found.path]) if is_document else (found,):
            own = tuple(by_page.of(page.path))
            yield Unit(page.path, page.error, boxes=own, num_images=max(len(own), 1))
    for box, error in by_page.unmet():
        yield Unit(box.image, error, box.id, (box.left, box.top, box.width, box.height))


def is_read(name: str) -> bool:
    """Whether a file of this name in a folder is read."""
    return is_image_name(name) or name.lower().endswith((TAR, PARQUET))


def _files(sources: Iterable[str], passed_over: Counter[str]) -> Iterator[ImageInput]:
    for source in sources:
        if not is_pattern(source):
            yield from _files_at(source, passed_over)
            continue
        is_met = False
        for path in _matches(source):
            is_met = True
            yield from _files_at(path, passed_over)
        if not is_met:
            yield ImageInput(source, "no file matches")


def _files_at(path: str, passed_over: Counter[str]) -> Iterator[ImageInput]:
    if not stores.is_uri(path):
        yield from find_files([path], passed_over, is_wanted=is_read)
        return
    kind = stores.kind_of(path)
    if kind == "file":
        yield ImageInput(path)
    elif kind == "nothing":
        yield ImageInput(path, "no such file")
    else:
        is_empty, before = True, passed_over.copy()
        for found in _walk_store(path, passed_over):
            is_empty = False
            yield found
        if is_empty:
            own = passed_over - before
            told = f" (but {told_counts(own)})" if own else ""
            yield ImageInput(path, f"no images in this folder{told}")


def _walk_store(folder: str, passed_over: Counter[str]) -> Iterator[ImageInput]:
    for entry in stores.entries(folder):
        path = stores.join(folder, entry.name)
        if entry.is_folder:
            yield from _walk_store(path, passed_over)
        elif is_read(entry.name):
            yield ImageInput(path)
        else:
            passed_over[os.path.splitext(entry.name)[1].lower() or "without a suffix"] += 1


def may_find(source: str, path: Path) -> bool:
    """Whether a local source, which may be a pattern, has `path` in what it finds, or in folders.

    `path` need not be there. Links count as what they point to.
    """
    source = source.removeprefix("file://")
    if not is_pattern(source):
        read = Path(os.path.realpath(source))
        return read == path or read in path.parents
    folder, parts = _cut(source)
    try:
        names = path.relative_to(os.path.realpath(folder)).parts
    except ValueError:
        return False
    return _is_met(names, parts)


def _is_met(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return True  # in a folder that the pattern names, or that folder
    if not names:
        return False
    if parts[0] == "**":
        return _is_met(names, parts[1:]) or _is_met(names[1:], parts)
    return fnmatchcase(names[0], parts[0]) and _is_met(names[1:], parts[1:])


def is_pattern(source: str) -> bool:
    """Whether a source is no file or folder itself, and has * ? or [ in it."""
    return _MAGIC.search(source) is not None and not os.path.lexists(source)


def _cut(pattern: str) -> tuple[str, list[str]]:
    """The folder in which a pattern begins, and the pattern of each name from there on."""
    first = _MAGIC.search(pattern)
    assert first is not None
    cut = pattern.rfind("/", 0, first.start()) + 1
    return pattern[:cut], pattern[cut:].split("/")


def _matches(pattern: str) -> Iterator[str]:
    """The paths that a pattern names, in the order of names: * ? [] in a name, ** for folders."""
    return _matches_in(*_cut(pattern))


def _matches_in(folder: str, parts: Sequence[str]) -> Iterator[str]:
    head, rest = parts[0], parts[1:]
    if head == "**" and rest:
        yield from _matches_in(folder, rest)
    if not _MAGIC.search(head):
        path = stores.join(folder, head)
        if rest:
            yield from _matches_in(path, rest)
        elif stores.kind_of(path) != "nothing" if stores.is_uri(path) else os.path.lexists(path):
            yield path
        return
    try:
        for entry in stores.entries(folder):
            path = stores.join(folder, entry.name)
            if head == "**":
                if entry.is_folder:
                    yield from _matches_in(path, parts)
                if not rest and not entry.is_folder:
                    yield path
            elif fnmatchcase(entry.name, head):
                if not rest:
                    yield path
                elif entry.is_folder:
                    yield from _matches_in(path, rest)
    except (FileNotFoundError, NotADirectoryError):
        return  # nothing matches there


def _row_groups(path: str) -> Iterator[Unit]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with stores.open_file(path) as file:
            metadata = ParquetFile(file).metadata
            counts = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    except (ArrowException, ValueError, OSError) as err:
        yield Unit(path, f"expected a Parquet file, cannot read it: {_one_line(err)}")
        return
    start = 0
    for number, count in enumerate(counts):
        if count:
            yield Unit(path, group=RowGroup(number, start, count), num_images=count)
        start += count
    if not start:
        yield Unit(path, "no rows in this file")


# --- opening, in a worker ----------------------------------------------------------------------


def images_of(units: Iterable[Unit]) -> Iterator[ImageInput]:
    """Every image of the units, in their order; one that cannot be opened has an error.

    Files of a store are fetched by several threads, at most READ_AHEAD in advance.
    """
    ahead: deque[tuple[Unit, Future[Any] | None]] = deque()
    with ThreadPoolExecutor(READERS, "store") as pool:
        for unit in units:
            is_fetched = stores.is_uri(unit.path) and not unit.error and _is_image(unit)
            fetching = pool.submit(stores.read_file, unit.path) if is_fetched else None
            ahead.append((unit, fetching))
            if len(ahead) >= READ_AHEAD:
                yield from _images_of_unit(*ahead.popleft())
        while ahead:
            yield from _images_of_unit(*ahead.popleft())


def _is_image(unit: Unit) -> bool:
    return unit.group is None and not unit.path.lower().endswith(TAR)


def _images_of_unit(unit: Unit, fetching: "Future[Any] | None") -> Iterator[ImageInput]:
    if unit.error:
        yield ImageInput(unit.path, unit.error, unit.id, unit.box)
        return
    if unit.group is not None:
        yield from _images_of_rows(unit.path, unit.group)
        return
    if unit.path.lower().endswith(TAR):
        yield from _images_of_tar(unit.path)
        return
    found: Iterable[ImageInput]
    if fetching is None:
        found = images_in(ImageInput(unit.path))
    elif unit.path.lower().endswith((PDF_SUFFIX, *HEIF_SUFFIXES)):
        found = [ImageInput(unit.path, "is read from a disk only: copy it to one")]
    else:
        found = [_fetched(unit.path, fetching)]
    for item in found:
        if unit.boxes is None:
            yield item
        else:
            yield from crops_of_page(item, unit.boxes)


def _fetched(path: str, fetching: "Future[Any]") -> ImageInput:
    try:
        return ImageInput(path, image=fetching.result())
    except (ValueError, OSError) as err:
        return ImageInput(path, f"cannot be fetched: {_one_line(err)}")


def _images_of_tar(path: str) -> Iterator[ImageInput]:
    num_found = 0
    try:
        with stores.open_file(path) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if not member.isfile() or name.startswith(".") or not is_image_name(name):
                    continue
                content = archive.extractfile(member)
                assert content is not None
                shown = f"{path}/{member.name}"
                num_found += 1
                yield ImageInput(shown, image=stores.named(content.read(), shown))
    except (tarfile.TarError, ValueError, OSError, EOFError) as err:
        yield ImageInput(path, f"expected a tar, it is damaged after {num_found} images: {err}")
        return
    if not num_found:
        yield ImageInput(path, "no images in this archive")


def _images_of_rows(path: str, group: RowGroup) -> Iterator[ImageInput]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = group.start
    try:
        with stores.open_file(path) as file:
            table = ParquetFile(file)
            image, identity = _columns(table.schema_arrow)
            columns = [image] + ([identity] if identity else [])
            batches = table.iter_batches(
                ROWS_AT_ONCE, row_groups=[group.number], columns=columns, use_threads=False
            )
            for batch in batches:
                images = batch.column(image).to_pylist()
                ids = batch.column(identity).to_pylist() if identity else [""] * len(images)
                for content, name in zip(images, ids, strict=True):
                    number += 1
                    shown = f"{path}#{number}"
                    content = content["bytes"] if isinstance(content, dict) else content
                    told = "" if name is None else str(name)
                    if content is None:
                        yield ImageInput(shown, "no image in this row", told)
                    else:
                        yield ImageInput(shown, id=told, image=stores.named(content, shown))
    except (ArrowException, ValueError, OSError) as err:
        yield ImageInput(path, f"cannot be read after row {number}: {_one_line(err)}")


def _columns(schema: Any) -> tuple[str, str]:
    """The names of the column of images, and of the ids, empty if there is none."""
    from pyarrow import types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            place = kind.get_field_index("bytes")
            return place >= 0 and holds_bytes(kind.field(place).type)
        return types.is_binary(kind) or types.is_large_binary(kind)

    fitting = [field.name for field in schema if holds_bytes(field.type)]
    known = [name for name in IMAGE_COLUMNS if name in fitting] or fitting
    if not known or (len(fitting) > 1 and known is fitting):
        raise ValueError(
            f"expected a column of bytes named {', '.join(IMAGE_COLUMNS)}, or one such column, "
            f"got {', '.join(schema.names)}"
        )
    ids = [name for name in ID_COLUMNS if name in schema.names and name != known[0]]
    return known[0], ids[0] if ids else ""


def _one_line(err: BaseException) -> str:
    return " ".join(str(err).split())
