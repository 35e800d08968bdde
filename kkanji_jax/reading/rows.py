"""The rows of an answer, made in batches as they are asked for."""

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kkanji_jax.data.kanji_forms import Form, forms
from kkanji_jax.reading.files import Found

if TYPE_CHECKING:
    from kkanji_jax.data.glyph_image import Steps
    from kkanji_jax.reading.neighbours import Neighbour, NeighbourIndex
    from kkanji_jax.recogniser import Recogniser

BATCH_SIZE = 128  # images in memory at a time
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


class Asked(NamedTuple):
    """What a reader wants to be told of each image."""

    top_k: int = 5
    characters: Collection[str] | None = None  # the answer is one of these
    min_probability: float = 0.0
    index: "NeighbourIndex | None" = None
    num_neighbours: int = 0
    is_ink_bright: bool | None = None  # None: found for each image
    on_steps: "Callable[[Found, Steps], None] | None" = None  # told how each glyph was made




def predict_rows(recogniser: "Recogniser", found: Iterable[Found], asked: Asked) -> Iterator[Row]:
    """Rows of every file in order; at most BATCH_SIZE images are held at a time."""
    import numpy as np

    from kkanji_jax.data.glyph_image import glyph_steps
    from kkanji_jax.data.image_files import load_picture
    from kkanji_jax.recogniser import Note

    remaining = iter(found)
    while batch := list(itertools.islice(remaining, BATCH_SIZE)):
        glyphs: dict[int, Any] = {}
        seen: dict[int, dict[str, str]] = {}
        notes: dict[int, Note] = {}
        errors: dict[int, str] = {}
        for position, item in enumerate(batch):
            try:
                if item.error:
                    errors[position] = item.error
                else:
                    source = item.path if item.image is None else item.image
                    steps = glyph_steps(load_picture(source), asked.is_ink_bright)
                    glyphs[position] = steps.glyph
                    notes[position] = Note(steps.trouble, steps.remarks)
                    seen[position] = {
                        "ink": "bright" if steps.is_ink_bright else "dark",
                        "remark": "; ".join(steps.remarks),
                    }
                    if asked.on_steps is not None:
                        asked.on_steps(item, steps)
            except (ValueError, OSError) as err:
                errors[position] = " ".join(str(err).split())
        readings: dict[int, Any] = {}
        neighbours: dict[int, Any] = {}
        if glyphs:
            stacked = np.stack(list(glyphs.values()))
            logits, features = recogniser.outputs(stacked)
            answers = recogniser.readings_of(
                logits,
                stacked,
                asked.top_k,
                characters=asked.characters,
                notes=list(notes.values()),
            )
            readings = dict(zip(glyphs, answers, strict=True))
            if asked.index is not None:
                nearest = asked.index.nearest(features, asked.num_neighbours)
                neighbours = dict(zip(glyphs, nearest, strict=True))
        for position, item in enumerate(batch):
            # File names are UTF-8 here whatever the locale; other bytes show as \xff.
            path = os.fsencode(item.path).decode("utf-8", "backslashreplace")
            empty = Row(path, id=item.id, box=item.box)
            if position in errors:
                yield empty._replace(error=errors[position])
            else:
                yield from _rows_of(
                    empty._replace(**seen[position]),
                    readings[position],
                    tuple(neighbours.get(position, ())),
                    asked,
                )


def _rows_of(
    empty: Row, reading: Any, neighbours: "tuple[Neighbour, ...]", asked: Asked
) -> Iterator[Row]:
    kept = [c for c in reading if c.probability >= asked.min_probability]
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
