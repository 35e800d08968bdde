"""The commonest confusions among your own labelled crops, as the network saw them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from kkanji_jax.answers.labelled_scores import Answer
from kkanji_jax.data.class_index import character_of
from kkanji_jax.glyphs.glyph_image import glyph_steps
from kkanji_jax.glyphs.image_files import load_picture
from kkanji_jax.inputs.labelled_images import open_labelled
from kkanji_jax.plots import glyph_rows
from kkanji_jax.plots.fonts import Font

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 15
WIDTHS = (4, 4, 4)


def draw(answers: Sequence[Answer], font: Font) -> "Figure":
    """Fifteen confusions: misread images, then other images with each of the two labels.

    Images without candidates do not count as confusions. The files of the drawn images are opened
    again.
    """
    read = [answer for answer in answers if answer.codepoints]
    labelled: dict[str, list[Answer]] = defaultdict(list)
    confused: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in read:
        labelled[answer.labelled.codepoint].append(answer)
        if answer.labelled.codepoint != answer.codepoints[0]:
            confused[answer.labelled.codepoint, answer.codepoints[0]].append(answer)
    rows = []
    for (true, other), misread in sorted(confused.items(), key=lambda c: (-len(c[1]), c[0]))[:MOST]:
        rest = [answer for answer in labelled[true] if answer.codepoints[0] != other]
        groups = (misread, _right_first(rest), _right_first(labelled.get(other, [])))
        rows.append(
            glyph_rows.GlyphRow(
                (character_of(true), character_of(other)),
                f"{true} → {other}\n{len(misread):,} of {len(labelled[true]):,}",
                tuple(
                    [_glyph_of(answer) for answer in group[:width]]
                    for group, width in zip(groups, WIDTHS, strict=True)
                ),
            )
        )
    num_wrong = sum(map(len, confused.values()))
    return glyph_rows.draw(
        "The commonest confusions, as written",
        f"Your labelled images: {num_wrong:,} of {len(read):,} misread\n"
        "Label → read; how often, of the images with that label",
        ("misread", "other images of that label", "images labelled as what was read"),
        WIDTHS,
        rows,
        font,
    )


def _right_first(answers: list[Answer]) -> list[Answer]:
    return sorted(answers, key=lambda a: a.labelled.codepoint != a.codepoints[0])


def _glyph_of(answer: Answer) -> UInt8[np.ndarray, "64 64"]:
    return glyph_steps(load_picture(open_labelled(answer.labelled))).glyph
