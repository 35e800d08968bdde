"""`predict --engine ray`: a collection of images of any size becomes a Parquet dataset of rows."""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kkanji_jax.answers.predict_request import PredictRequest, row_options_of
from kkanji_jax.answers.rows import RowOptions
from kkanji_jax.answers.tally import Tally
from kkanji_jax.cli import Progress, Report, say_nothing, terminable
from kkanji_jax.cluster.listing import Unit, list_pages, list_units, may_find
from kkanji_jax.cluster.partition_reader import Attempt, Job, load_same
from kkanji_jax.cluster.partitions import Partition, partitions_of
from kkanji_jax.cluster.ray_workers import Resources, read_all
from kkanji_jax.cluster.rows_folder import RowsFolder
from kkanji_jax.cluster.stores import is_uri
from kkanji_jax.inputs.finding import require_not_one_error
from kkanji_jax.inputs.image_input import STANDARD_INPUT
from kkanji_jax.ray_cluster import connected

if TYPE_CHECKING:
    from kkanji_jax.inference.recogniser import Recogniser
    from kkanji_jax.pages.box import Box


class CollectionRequest(NamedTuple):
    """A collection to be read, and how; `boxes` are those of pages, None for single characters.

    A file of rows is of about `partition_images` images, see `PredictRequest.partition`.
    """

    sources: Sequence[str]
    out: Path
    identity: Mapping[str, str]  # all that decides about rows, besides the sources
    load: "Callable[[], Recogniser]"
    options: RowOptions
    partition_images: int
    boxes: "Sequence[Box] | None" = None


def read_on_cluster(request: PredictRequest, passed_over: Counter[str]) -> Tally:
    """`predict` with --engine ray; the tally of all images. Fails as `read_collection` does."""
    from kkanji_jax.inference.recogniser import load
    from kkanji_jax.pages.box_files import read_boxes

    assert request.out is not None, "validate() requires it"
    model = os.path.abspath(request.model) if request.model else None
    backend = request.chosen_backend
    recogniser = load(model, weights=request.weights, backend=backend)
    options = row_options_of(request, recogniser)
    identity = request.identity(recogniser.digest, options)
    asked = CollectionRequest(
        request.paths,
        request.out,
        {name: value for name, value in identity.items() if name not in ("--format", "--bom")},
        partial(load_same, model, request.weights, backend, recogniser.digest),
        options,
        request.partition,
        read_boxes(request.boxes) if request.boxes else None,
    )
    resources = Resources(request.address, request.workers, request.cpus, request.per_gpu)
    with terminable(), Progress() as progress:
        return read_collection(asked, resources, passed_over, progress)


def read_collection(
    request: CollectionRequest,
    resources: Resources,
    passed_over: Counter[str],
    report: Report = say_nothing,
) -> Tally:
    """Reads all partitions that are not read yet, and writes the manifest; the tally of all.

    The same request for the same folder resumes after the finished partitions. ValueError for a
    request that cannot be met, OSError if rows cannot be written.
    """
    _check(request)
    identity = {
        **request.identity,
        "sources": "\n".join(request.sources),
        "--partition": str(request.partition_images),
    }
    out = request.out.absolute()
    job = Job(out, request.load, request.options, os.getcwd())
    units = require_not_one_error(_units(request, passed_over))
    with RowsFolder(out, identity) as folder:
        partitions = partitions_of(units, request.partition_images)
        counted = _Counted(partitions)
        missing = (Attempt(each) for each in counted if not folder.has(each))
        first = next(missing, None)
        if first is not None:
            cpus = (resources.num_workers or 0) * resources.cpus
            with connected(resources.address, cpus or None):
                report("images", folder.tally.num_images, None)
                for written in read_all(itertools.chain([first], missing), job, resources):
                    folder.add(written)
                    report("images", folder.tally.num_images, None)
        folder.finish(counted.num_seen, passed_over)
        return folder.tally


def _units(request: CollectionRequest, passed_over: Counter[str]) -> Iterator[Unit]:
    if request.boxes is None:
        return list_units(request.sources, passed_over)
    return list_pages(request.sources, request.boxes, passed_over)


class _Counted:
    """Counts partitions as they pass."""

    def __init__(self, partitions: Iterator[Partition]) -> None:
        self._partitions, self.num_seen = partitions, 0

    def __iter__(self) -> Iterator[Partition]:
        for partition in self._partitions:
            self.num_seen += 1
            yield partition


def _check(request: CollectionRequest) -> None:
    if request.partition_images < 1:
        raise ValueError(f"--partition must be at least 1, not {request.partition_images}")
    # A file of rows, which a pattern may name where it does not name the folder.
    rows = Path(os.path.realpath(request.out), Partition(0, ()).file)
    for source in request.sources:
        if source == STANDARD_INPUT:
            raise ValueError("--engine ray reads files, not standard input")
        is_local = not is_uri(source) or source.startswith("file://")
        if is_local and may_find(source, rows):
            raise ValueError(
                f"--out {request.out} lies in {source}, which is read: name a place outside"
            )
