"""What is drawn of images while they are read, beside their rows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kkanji_jax.answers.rows import Row
from kkanji_jax.inputs.decoding import OnSteps
from kkanji_jax.inputs.image_input import ImageInput

if TYPE_CHECKING:
    from kkanji_jax.glyphs.glyph_image import Steps


class Drawing(ABC):
    """A file that is drawn of images and their rows, when all of them have been read.

    `add_steps` is called for each image that could be opened, in order, and `add_row` for the rows
    of all images in the same order, some time later. A drawing overrides what it is to be told.
    """

    takes_steps = False  # images are then decoded in one process

    def add_steps(self, found: ImageInput, steps: "Steps") -> None:  # noqa: B027 - may be left out
        """Takes how the next image became a glyph."""

    def add_row(self, row: Row) -> None:  # noqa: B027 - may be left out
        """Takes the next row: an image's first one, or another candidate of the image before it."""

    @abstractmethod
    def save(self) -> None:
        """Writes the file, which appears when it is whole."""


def steps_taker(drawings: Sequence[Drawing]) -> OnSteps | None:
    """For `RowOptions.on_steps`: tells all drawings that take steps; None if none does."""
    takers = [drawing for drawing in drawings if drawing.takes_steps]
    if not takers:
        return None

    def tell(found: ImageInput, steps: "Steps") -> None:
        for drawing in takers:
            drawing.add_steps(found, steps)

    return tell
