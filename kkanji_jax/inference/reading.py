"""What a recogniser says of an image: its candidates, and how far to rely on them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from kkanji_jax.glyphs.glyph_image import CUT_OFF
from kkanji_jax.glyphs.paper_and_ink import BLANK, UNCLEAR

# Strokes seem cut off in most halves of characters, but also in about half of the crops of whole
# ones whose boxes are drawn tightly. The support, the log odds that a character is whole and
# upright, tells them apart. `scripts/experiments/cut_off.py` measures what each number gains and
# costs.
CUT_SUPPORT = 2.5  # nats

VERDICTS = ("accept", "ask", "unknown", BLANK, UNCLEAR)


class Candidate(NamedTuple):
    """One reading of an image; rank 1 is the most probable."""

    character: str
    codepoint: str
    probability: float
    rank: int


def may_accept(remarks: Sequence[str], support: float | None) -> bool:
    """Whether an image with these remarks can be accepted: with one on cut strokes alone, it can.

    Its `support` must be CUT_SUPPORT or more; None is that of a calibration without one.
    """
    if not remarks:
        return True
    return [*remarks] == [CUT_OFF] and support is not None and support >= CUT_SUPPORT


class Reading(Sequence[Candidate]):
    """The candidates of one image, best first, and how far to rely on the first.

    `verdict` is one of VERDICTS; empty where the model has no calibration, save for `blank`, an
    image without ink, and `unclear`, whose ink and paper cannot be told apart: they have no
    candidates. With any of `remarks` on the image the verdict is not `accept`, except as
    `may_accept` says. It equals another reading with the same candidates, verdict and remarks.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        verdict: str = "",
        remarks: Sequence[str] = (),
    ) -> None:
        self._candidates = tuple(candidates)
        self.verdict = verdict
        self.remarks = tuple(remarks)

    @property
    def _content(self) -> tuple[object, ...]:
        return self._candidates, self.verdict, self.remarks

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self._candidates[index]

    def __len__(self) -> int:
        return len(self._candidates)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reading):
            return NotImplemented
        return self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __repr__(self) -> str:
        told = f", remarks={self.remarks!r}" if self.remarks else ""
        return f"Reading({list(self._candidates)!r}, verdict={self.verdict!r}{told})"
