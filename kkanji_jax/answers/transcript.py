"""What was read on pages as a document: text with a line for each column, or TEI.

A character whose verdict is not `accept` stands as 〓.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from kkanji_jax.answers.page_readings import PagesOfRows, ReadPage
from kkanji_jax.answers.rows import Row
from kkanji_jax.answers.tei import tei_of_pages

if TYPE_CHECKING:
    from kkanji_jax.inference.recogniser import Recogniser

TRANSCRIPTS = ("transcript", "tei")
PAGE_BREAK = "\f"  # as pdftotext has it
MAX_TOLD = 20  # kinds of errors


def text_of_pages(pages: Iterable[ReadPage]) -> Iterator[str]:
    """A line for each column; between pages, a line with a form feed."""
    for number, page in enumerate(pages):
        if number:
            yield f"{PAGE_BREAK}\n"
        for column in page.columns:
            yield "".join(box.text for box in column) + "\n"


def troubles_of(pages: Iterable[ReadPage]) -> Counter[str]:
    """What could not be read, by page and reason; the text shows only 〓."""
    told: Counter[str] = Counter()
    for page in pages:
        if page.error:
            told[f"{page.path}: {page.error}"] += 1
        for box in itertools.chain.from_iterable(page.columns):
            if box.rows[0].error:
                told[f"{page.path}: {box.rows[0].error}"] += 1
    return told


def about_reader(recogniser: "Recogniser", version: str) -> dict[str, str]:
    """Who reads, as `written_as` takes it; ValueError for a model without verdicts."""
    if recogniser.accuracy_of("accept") is None:
        raise ValueError(
            "a transcript needs verdicts, and this model is not calibrated: run "
            "kkanji_jax.evaluate --of val, or give a --format of rows"
        )
    return {"version": version, "model": recogniser.digest}


def written_as(
    name: str, read: PagesOfRows, about: Mapping[str, str], groups: Iterable[list[Row]]
) -> Iterator[str]:
    """The whole document in parts, `name` being `transcript` or `tei`; errors on standard error.

    Every group is taken before the first part comes. `about` says who read: version and model.
    """
    pages = list(read.pages(groups))
    told = troubles_of(pages)
    pages = [page for page in pages if page.is_given]
    for text, count in told.most_common(MAX_TOLD):
        print(f"{text} ({count:,} boxes)" if count > 1 else text, file=sys.stderr)
    if len(told) > MAX_TOLD:
        print(f"and {len(told) - MAX_TOLD:,} kinds more", file=sys.stderr)
    yield from tei_of_pages(pages, about) if name == "tei" else text_of_pages(pages)
