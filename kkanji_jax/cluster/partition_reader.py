"""What a worker does: one partition in, one file of rows out. This module does not use Ray."""

import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kkanji_jax.answers.rows import RowOptions, predict_rows
from kkanji_jax.cluster.listing import images_of
from kkanji_jax.cluster.partitions import Partition
from kkanji_jax.cluster.rows_file import Written, write_partition
from kkanji_jax.files import naming_in_errors
from kkanji_jax.inputs.decoding import decode_image
from kkanji_jax.inputs.image_input import ImageInput

if TYPE_CHECKING:
    from kkanji_jax.inference.recogniser import Recogniser

WORKING = "_working"  # the folder of marks, in that of the rows


class Job(NamedTuple):
    """What all partitions have in common.

    `load` makes the recogniser, in the worker; `folder` is where relative paths begin.
    """

    out: Path
    load: "Callable[[], Recogniser]"
    options: RowOptions
    folder: str


class Attempt(NamedTuple):
    """A partition to be read.

    `excluded` are images that must not be opened, by their place in it, with the reason. A careful
    attempt first opens each image alone, and records its place in a file, so that an image that
    kills the worker can be identified.
    """

    partition: Partition
    excluded: Mapping[int, str] = {}
    is_careful: bool = False


def read_partition(recogniser: "Recogniser", job: Job, attempt: Attempt) -> Written:
    """Reads the images of a partition and writes the same rows as `predict`.

    OSError when the rows cannot be written.
    """
    partition = attempt.partition
    with contextlib.ExitStack() as stack:
        found: Iterator[ImageInput] = _without(images_of(partition.units), attempt.excluded)
        if attempt.is_careful:
            # Entered before the rows: it stays open until nothing reads any more.
            mark = stack.enter_context(_opened_mark(mark_of(job.out, partition)))
            found = _tried(found, mark, job.options.is_ink_bright)
        rows = stack.enter_context(contextlib.closing(predict_rows(recogniser, found, job.options)))
        written = write_partition(
            job.out / partition.file, rows, number=partition.number, digest=partition.digest
        )
    mark_of(job.out, partition).unlink(missing_ok=True)
    return written


def load_same(model: str | None, weights: str | None, backend: str, digest: str) -> "Recogniser":
    """The recogniser that the command loaded; ValueError if this node has another one."""
    from kkanji_jax.inference.recogniser import load

    recogniser = load(model, weights=weights, backend=backend)
    if recogniser.digest != digest:
        raise ValueError(
            f"a worker has another model as {model or 'the one of the package'}: put it on storage "
            "that all nodes share, or install the same version everywhere"
        )
    return recogniser


def mark_of(out: Path, partition: Partition) -> Path:
    """The file in which a careful attempt records the image that it is opening."""
    return out / WORKING / partition.file


def marked_image(mark: Path) -> int | None:
    """The place of the last image that an attempt recorded; None if it recorded none."""
    try:
        told = mark.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return int(told) if told else None


def _without(found: Iterable[ImageInput], excluded: Mapping[int, str]) -> Iterator[ImageInput]:
    for place, item in enumerate(found):
        if place in excluded:
            item = item._replace(image=None, error=excluded[place])
        yield item


class _Mark(NamedTuple):
    """An open file that tells which image an attempt is at."""

    path: Path
    descriptor: int

    def set(self, place: int) -> None:
        with naming_in_errors(self.path):
            os.pwrite(self.descriptor, b"%020d" % place, 0)


@contextlib.contextmanager
def _opened_mark(path: Path) -> Iterator[_Mark]:
    with naming_in_errors(path):
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        yield _Mark(path, descriptor)
    finally:
        os.close(descriptor)


def _tried(
    found: Iterable[ImageInput], mark: _Mark, is_ink_bright: bool | None
) -> Iterator[ImageInput]:
    """Each image after it was prepared once, alone: what fails does so at its own mark.

    An image is marked before its bytes are asked for, which may be what fails.
    """
    remaining = iter(found)
    for place in itertools.count():
        mark.set(place)
        item = next(remaining, None)
        if item is None:
            return
        decode_image(item, is_ink_bright)
        if isinstance(item.image, io.BytesIO):
            item.image.seek(0)
        yield item
