"""Drawings are told of steps only if one takes them: images are then decoded in one process."""

import numpy as np

from kkanji_jax.answers.drawing import Drawing, steps_taker
from kkanji_jax.glyphs.glyph_image import Steps, glyph_steps
from kkanji_jax.inputs.image_input import ImageInput


class Unseen(Drawing):
    """Takes nothing."""

    def save(self) -> None:
        pass


class Listed(Unseen):
    """Takes steps, and remembers of which images."""

    takes_steps = True

    def __init__(self, told: list[tuple["Listed", str]]) -> None:
        self._told = told

    def add_steps(self, found: ImageInput, steps: Steps) -> None:
        self._told.append((self, found.path))


def test_every_drawing_that_takes_steps_is_told_of_each_image_in_order():
    told: list[tuple[Listed, str]] = []
    first, last = Listed(told), Listed(told)
    tell = steps_taker([first, Unseen(), last])
    assert tell is not None
    steps = glyph_steps(np.zeros((64, 64), np.uint8))
    for path in ("a.png", "b.png"):
        tell(ImageInput(path), steps)
    assert told == [(first, "a.png"), (last, "a.png"), (first, "b.png"), (last, "b.png")]


def test_no_image_is_decoded_here_for_drawings_that_take_no_steps():
    assert steps_taker([]) is None and steps_taker([Unseen()]) is None
