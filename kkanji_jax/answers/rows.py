"""The rows of an answer, made in batches as they are asked for."""

import itertools
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from kkanji_jax.data.kanji_forms import Form, forms
from kkanji_jax.inputs.decoding import DecodedImage, Decoder, OnSteps, decode_image
from kkanji_jax.inputs.image_input import ImageInput, shown_path

if TYPE_CHECKING:
    from kkanji_jax.inference.neighbours import Neighbour, NeighbourIndex
    from kkanji_jax.inference.orientation import Oriented
    from kkanji_jax.inference.recogniser import Recogniser

BATCH_SIZE = 128  # images that go through the network together
WITHOUT_CANDIDATES = ("blank", "unclear")


class Row(NamedTuple):
    """One line of the answer; None where it does not apply.

    An image that cannot be read, or whose candidates are all too improbable, is one row without a
    candidate. `neighbours` stand on the row of rank 1.
    """

    path: str
    rank: int | None = None
    character: str | None = None
    codepoint: str | None = None
    probability: float | None = None
    verdict: str = ""
    error: str = ""
    id: str = ""
    box: tuple[int, int, int, int] | None = None
    variants: tuple[Form, ...] = ()
    neighbours: "tuple[Neighbour, ...]" = ()
    ink: str = ""  # dark or bright, beside its paper: as found, or as told
    remark: str = ""  # what is remarkable of the image, with "; " between

    @property
    def is_first(self) -> bool:
        """Whether it is the first row, or the only one, of its image."""
        return self.rank in (None, 1)


class RowOptions(NamedTuple):
    """What a reader wants to be told of each image."""

    top_k: int = 5
    characters: Collection[str] | None = None  # the answer is one of these
    min_probability: float = 0.0
    index: "NeighbourIndex | None" = None
    num_neighbours: int = 0
    is_ink_bright: bool | None = None  # None: found for each image
    orient: str = "no"  # auto: images that lie on their side or upside down are turned
    on_steps: OnSteps | None = None  # told how each glyph was made


def predict_rows(
    recogniser: "Recogniser",
    found: Iterable[ImageInput],
    options: RowOptions,
    num_workers: int = 1,
) -> Generator[Row, None, None]:
    """Rows of every file in order.

    While the rows of a batch are taken, the next one is in the network and the one after it is
    decoded, each in a thread: at most 3 * BATCH_SIZE images are held at a time. With more than one
    worker, so many processes decode what comes after the first images, as `inputs.decoding.Decoder`
    says, unless `options.on_steps` is to be told of each image.
    """
    decode = partial(decode_image, is_ink_bright=options.is_ink_bright, on_steps=options.on_steps)
    decoding = Decoder(found, decode, 1 if options.on_steps is not None else num_workers)
    decoder, network = (ThreadPoolExecutor(1, name) for name in ("decoder", "network"))

    def start() -> "Future[tuple[list[DecodedImage], Any]]":
        images = decoder.submit(decoding.take, BATCH_SIZE)
        return network.submit(_outputs_of, recogniser, images, options)

    try:
        under_way = deque((start(), start()))
        while True:
            images, outputs = under_way.popleft().result()
            if not images:
                return
            under_way.append(start())
            yield from rows_of_images(recogniser, images, outputs, options)
    finally:
        for pool in (decoder, network):
            pool.shutdown(cancel_futures=True)
        decoding.close()


def rows_by_image(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of one image after another."""
    own: list[Row] = []
    for row in rows:
        if own and row.is_first:
            yield own
            own = []
        own.append(row)
    if own:
        yield own


def _outputs_of(
    recogniser: "Recogniser", decoding: "Future[list[DecodedImage]]", options: RowOptions
) -> tuple[list[DecodedImage], Any]:
    """A batch with its glyphs, and the network's logits and features of them; None without any."""
    import numpy as np

    images = decoding.result()
    glyphs = [image.glyph for image in images if not image.error]
    if not glyphs:
        return images, None
    stacked = np.stack(glyphs)
    outputs = recogniser.outputs(stacked)
    if options.orient == "no":
        return images, (stacked, *outputs)
    notes = [image.note for image in images if image.note is not None]
    return with_turns(images, recogniser.turned_upright(stacked, outputs, notes))


def with_turns(
    images: Sequence[DecodedImage], found: "Oriented"
) -> tuple[list[DecodedImage], tuple[Any, Any, Any]]:
    """What `rows_of_images` takes of images that were turned: their notes tell it."""
    remarks = iter(found.remarks)
    told = [
        image if image.note is None else image._replace(note=image.note.with_remarks(next(remarks)))
        for image in images
    ]
    return told, (found.glyphs, found.logits, found.features)


def rows_of_images(
    recogniser: "Recogniser", images: Sequence[DecodedImage], outputs: Any, options: RowOptions
) -> Iterator[Row]:
    """The rows of images in order.

    `outputs` are the glyphs of those that can be read, [n 64 64], with the network's logits and
    features of them; None if there are none.
    """
    readings: Iterator[Any] = iter(())
    neighbours: Iterator[Any] = itertools.repeat(())
    if outputs is not None:
        glyphs, logits, features = outputs
        notes = [image.note for image in images if image.note is not None]
        readings = iter(
            recogniser.readings_of(
                (logits, features),
                glyphs,
                options.top_k,
                characters=options.characters,
                notes=notes,
            )
        )
        if options.index is not None:
            neighbours = iter(options.index.nearest(features, options.num_neighbours))
    for image in images:
        item, note = image.found, image.note
        remark = "" if note is None else "; ".join(note.remarks)
        path, ink = shown_path(item.path), image.ink
        empty = Row(path, error=image.error, id=item.id, box=item.box, ink=ink, remark=remark)
        if note is None:
            yield empty
        else:
            yield from _rows_of(empty, next(readings), tuple(next(neighbours)), options)


def _rows_of(
    empty: Row, reading: Any, neighbours: "tuple[Neighbour, ...]", options: RowOptions
) -> Iterator[Row]:
    kept = [c for c in reading if c.probability >= options.min_probability]
    if not kept:
        verdict = reading.verdict if reading.verdict in WITHOUT_CANDIDATES else "unknown"
        yield empty._replace(verdict=verdict, neighbours=neighbours)
    for candidate in kept:
        yield empty._replace(
            rank=candidate.rank,
            character=candidate.character,
            codepoint=candidate.codepoint,
            probability=candidate.probability,
            verdict=reading.verdict,
            variants=forms(candidate.codepoint),
            neighbours=neighbours if candidate.rank == 1 else (),
        )
