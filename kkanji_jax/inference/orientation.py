"""Images that lie on their side or upside down: their glyphs are read in all four turns.

The network is surest of a character that stands upright. How sure it is of a glyph, against all
that it may see, is the logarithm of the sum of exp(logit / temperature), the negative energy of Liu
et al., arXiv:2010.03759; the probability of the best character, which compares it with the other
characters alone, tells turns apart less well. Differences are in nats.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kkanji_jax.array_types import Float, Float32, Float64, Int, UInt8
from kkanji_jax.evaluation.calibration import softmax_sums

ORIENTS = ("no", "auto")
# Of 791 upright images of the tuning half, 4 nats turn 1; turned by 90° or 180°, 83 % of them are
# turned back and read right. With 3 nats it was 4, and 88 %.
MIN_GAIN = 4.0  # nats by which another turn must be surer for the glyph to be turned
MIN_DOUBT = 0.0  # and for the image not to be accepted
LEVEL_STROKE = "U+4E00"  # 一: so does し read on its side, which says nothing of how it lay
# By how many quarter turns to the left the glyph was turned before it was read.
TURNED = (
    "",
    "read after turning it 90° to the left",
    "read after turning it 180°",
    "read after turning it 90° to the right",
)
DOUBTFUL = "may lie on its side or upside down"


class TurnedGlyphs(NamedTuple):
    """Glyphs of a batch in their three other turns: those of one turn, then those of the next."""

    places: Int[np.ndarray, " m"]  # which glyphs of the batch
    glyphs: UInt8[np.ndarray, "t 64 64"]  # t = 3 m


class Oriented(NamedTuple):
    """A batch with its surest turns: glyphs, logits and features, and what to remark on each."""

    glyphs: UInt8[np.ndarray, "n 64 64"]
    logits: Float32[np.ndarray, "n k"]
    features: Float32[np.ndarray, "n d"]
    remarks: list[tuple[str, ...]]


def turned_glyphs(glyphs: UInt8[np.ndarray, "n 64 64"], is_read: Sequence[bool]) -> TurnedGlyphs:
    """The other turns of the glyphs that are read at all."""
    places = np.flatnonzero(np.asarray(is_read, bool))
    turns = [np.rot90(glyphs[places], turn, axes=(1, 2)) for turn in (1, 2, 3)]
    return TurnedGlyphs(places, np.concatenate(turns))


def oriented(
    glyphs: UInt8[np.ndarray, "n 64 64"],
    outputs: tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]],
    turned: TurnedGlyphs,
    turned_outputs: tuple[Float32[np.ndarray, "t k"], Float32[np.ndarray, "t d"]],
    temperature: float,
    level_stroke: int | None,
) -> Oriented:
    """The batch with the surest turn of each glyph, and remarks; `outputs` are logits and features.

    A glyph is turned if another turn is surer by MIN_GAIN nats and reads another character, so that
    口, which looks much the same in several turns, stays as it is. Where another turn is surer by
    MIN_DOUBT than the one that is kept, and reads another character, that is remarked. A turn that
    reads `level_stroke`, the class of LEVEL_STROKE, if there is one, counts for neither.
    """
    places = turned.places
    if not places.size:
        return Oriented(glyphs, *outputs, [()] * len(glyphs))
    every = [
        np.concatenate([first[places], others]).reshape(4, len(places), first.shape[1])
        for first, others in zip(outputs, turned_outputs, strict=True)
    ]
    sureness = np.stack([sureness_of(logits, temperature) for logits in every[0]])
    best = every[0].argmax(axis=2)
    if level_stroke is not None:
        sureness[1:][best[1:] == level_stroke] = -np.inf
    gains = np.where(best != best[0], sureness - sureness[0], -np.inf)
    turns = np.where(gains.max(axis=0) >= MIN_GAIN, gains.argmax(axis=0), 0)
    columns = np.arange(len(places))
    kept = best[turns, columns], sureness[turns, columns]
    is_doubtful = ((best != kept[0]) & (sureness - kept[1] >= MIN_DOUBT)).any(axis=0)

    stacked = np.concatenate([glyphs[places], turned.glyphs]).reshape(4, len(places), 64, 64)
    made = [array.copy() for array in (glyphs, *outputs)]
    for array, of_turns in zip(made, (stacked, *every), strict=True):
        array[places] = of_turns[turns, columns]
    remarks: list[tuple[str, ...]] = [()] * len(glyphs)
    for place, turn, doubtful in zip(
        places.tolist(), turns.tolist(), is_doubtful.tolist(), strict=True
    ):
        found = (TURNED[turn], DOUBTFUL if doubtful else "")
        remarks[place] = tuple(remark for remark in found if remark)
    return Oriented(made[0], made[1], made[2], remarks)


def sureness_of(logits: Float[np.ndarray, "n k"], temperature: float) -> Float64[np.ndarray, " n"]:
    """The logarithm of the sum over each row of exp(logit / temperature)."""
    highest = logits.max(axis=1).astype(np.float64)
    return highest / temperature + np.log(softmax_sums(logits, temperature))
