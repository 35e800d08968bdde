"""The form in which CODH publishes characters: which images have it already, or its negative."""

import numpy as np

from kkanji_jax.array_types import UInt8
from kkanji_jax.glyphs.paper_and_ink import border_of, median_of

GLYPH_PX, SMALL_PX = 64, 28  # Kuzushiji-Kanji's side; Kuzushiji-49's and Kuzushiji-MNIST's
# A published glyph is near-binary: 99.99 % of CODH's images have more than .72 of their pixels
# outside [DARK_BELOW, BRIGHT_FROM), and none has paper at its border. It fills its frame: all of
# 42,000 that are not black have ink of 240 or more, all but one are 40 of 64 pixels long or more.
DARK_BELOW, BRIGHT_FROM, MIN_EXTREME_SHARE = 64, 192, 0.7
MIN_PUBLISHED_LENGTH = 0.6  # of the frame
BLACK_TO = 16  # paper of a negative is white to within this


def published_in(
    grey: UInt8[np.ndarray, "h w"], is_ink_bright: bool | None
) -> UInt8[np.ndarray, "h w"] | None:
    """The picture, or its negative, if that is a published glyph already."""
    if grey.shape not in ((GLYPH_PX, GLYPH_PX), (SMALL_PX, SMALL_PX)):
        return None
    if is_ink_bright is not False and is_published_form(grey):
        return grey
    is_negative = median_of(border_of(grey)) >= 255 - BLACK_TO and is_published_form(255 - grey)
    return 255 - grey if is_negative and not is_ink_bright else None


def is_published_form(grey: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether this already is a white-on-black near-binary glyph that fills 64x64 or 28x28."""
    if grey.shape not in ((GLYPH_PX, GLYPH_PX), (SMALL_PX, SMALL_PX)):
        return False
    if median_of(border_of(grey)) >= 128:
        return False
    # What is darker wraps round to the bright end.
    num_between = np.count_nonzero(grey - np.uint8(DARK_BELOW) < BRIGHT_FROM - DARK_BELOW)
    if (grey.size - num_between) / grey.size < MIN_EXTREME_SHARE:
        return False
    if not grey.any():
        return True
    is_ink = grey >= 128
    rows, columns = (np.flatnonzero(is_ink.any(axis=axis)) for axis in (1, 0))
    if not rows.size or grey.max() < BRIGHT_FROM:
        return False
    length = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    return bool(length >= MIN_PUBLISHED_LENGTH * len(grey))
