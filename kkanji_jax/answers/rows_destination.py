"""Where the rows of `predict` go: to a file that a stop does not lose, or as they come."""

import contextlib
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kkanji_jax import cli
from kkanji_jax.answers.partial_rows import PartialRows
from kkanji_jax.answers.predict_request import PredictRequest
from kkanji_jax.answers.row_formats import Render, RowFormat, write_rows
from kkanji_jax.answers.rows import Row, RowOptions, rows_by_image
from kkanji_jax.answers.tally import Tally
from kkanji_jax.files import is_written_through, written_whole
from kkanji_jax.inputs.image_input import ImageInput

if TYPE_CHECKING:
    from kkanji_jax.inference.recogniser import Recogniser


class StreamedRows:
    """Rows on their way to a text stream; as `PartialRows`, without a run to go on from."""

    def __init__(self, file: Any, form: RowFormat, render: Render | None = None) -> None:
        self._file, self._form, self._render = file, form, render
        self.tally = Tally()

    def remaining(self, found: Iterable[ImageInput]) -> Iterator[ImageInput]:
        """What is to be read: all of it."""
        return iter(found)

    def write(self, rows: Iterable[Row]) -> None:
        """Writes rows as they come, or what `render` makes of them."""
        if self._render is None:
            write_rows(self._tallied(rows), self._file, self._form)
        else:
            self._file.writelines(self._render(rows_by_image(self._tallied(rows))))

    def _tallied(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if row.is_first:
                self.tally = self.tally.with_image(row)
            yield row


@contextlib.contextmanager
def open_rows(
    request: PredictRequest,
    recogniser: "Recogniser",
    options: RowOptions,
    render: Render | None = None,
) -> Iterator[PartialRows | StreamedRows]:
    """Opens what rows are written to: a file by PartialRows; standard output, a pipe as they come.

    With `render` that is what it makes of the rows. ValueError or OSError if it cannot be written.
    """
    form = request.row_format
    if request.out is None or is_written_through(request.out):
        with _open_output(request.out) as file:
            yield StreamedRows(file, form, render)
        return
    identity = request.identity(recogniser.digest, options)
    # A drawing needs every row, those of an earlier run too.
    is_resumed = not (request.annotate or request.show_steps or request.review)
    with PartialRows(request.out, form, identity, is_resumed=is_resumed, render=render) as rows:
        yield rows


@contextlib.contextmanager
def _open_output(path: Path | None) -> Iterator[Any]:
    """Standard output, or a file that appears when whole; UTF-8 whatever the locale."""
    if path is None:
        cli.require_output()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
        yield sys.stdout
        sys.stdout.flush()
        return
    with (
        written_whole(path) as unfinished,
        unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        yield file
