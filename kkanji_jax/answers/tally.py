"""How many images were read, and how many of them in which way."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from kkanji_jax.answers.rows import Row
from kkanji_jax.inputs.finding import told_counts

SEVERAL = "several characters"  # of glyph_image's remarks


class Tally(NamedTuple):
    """How many images were answered, and how many of them in which way."""

    num_images: int = 0
    num_errors: int = 0
    num_blank: int = 0
    num_unclear: int = 0
    num_several: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """That of the images of both."""
        return Tally(*map(sum, zip(self, other, strict=True)))

    def with_image(self, first: Row) -> "Tally":
        """One image more; `first` is its first row."""
        return Tally(
            self.num_images + 1,
            self.num_errors + bool(first.error),
            self.num_blank + (first.verdict == "blank"),
            self.num_unclear + (first.verdict == "unclear"),
            self.num_several + (SEVERAL in first.remark),
        )


def tally_lines(tally: Tally, passed_over: Counter[str]) -> Iterator[str]:
    """What a reader should know of the whole: images without an answer, and files passed over."""
    for count, what in (
        (tally.num_errors, "could not be read"),
        (tally.num_blank, "have no ink"),
        (tally.num_unclear, "are unclear: their ink and paper cannot be told apart"),
        (tally.num_several, "seem to hold several characters: cut them apart, or use --boxes"),
    ):
        if count:
            yield f"{count:,} of {tally.num_images:,} images {what}"
    if passed_over:
        yield f"passed over in folders, being no images: {told_counts(passed_over)}"
