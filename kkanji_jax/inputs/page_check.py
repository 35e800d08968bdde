"""Whether an image is a whole page, of which nobody should be told one character."""

import numpy as np
from PIL import Image, ImageFilter

from kkanji_jax.array_types import Float32, UInt8
from kkanji_jax.glyphs.ink_parts import find_parts

PAGE = "this looks like a page, not one character: give --boxes, or cut its characters out"
# Parts of ink are counted at one size. Of 16 scans of pages 14 were told, of 900 crops of
# characters none, and of 450 enlarged to 1,200 pixels, 150 of them with noise, two.
MIN_PAGE_PX = 1000  # long side: scans of pages have more, crops of characters have less
WORK_PX = 512  # long side on which parts are counted
MIN_PARTS = 100
MIN_PART_PX, MAX_PART_PX, MIN_PART_AREA = 6, WORK_PX // 6, 12
PAPER_PX = 21  # reach of the mean that is taken for paper
MIN_CONTRAST = 24.0  # grey levels
DARKEST, CONTRAST_SHARE = 97.0, 0.4  # percentile of contrast, and the share of it that is ink


def looks_like_page(picture: UInt8[np.ndarray, "..."]) -> bool:
    """Whether many parts of ink of the size of strokes, dark or bright, stand in a large image.

    `picture` is [h w], or [h w 3] in colour.
    """
    height, width = picture.shape[:2]
    if max(height, width) < MIN_PAGE_PX:
        return False
    scale = WORK_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = Image.fromarray(np.ascontiguousarray(picture)).convert("L")
    small = grey.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1))
    paper = np.asarray(small.filter(ImageFilter.BoxBlur(PAPER_PX))).astype(np.float32)
    contrast = paper - np.asarray(small)
    return max(_num_parts(contrast), _num_parts(-contrast)) >= MIN_PARTS


def _num_parts(contrast: Float32[np.ndarray, "h w"]) -> int:
    strong = float(np.percentile(contrast, DARKEST))
    parts = find_parts(contrast > max(MIN_CONTRAST, CONTRAST_SHARE * strong))
    longest = np.maximum(parts.bottoms - parts.tops, parts.rights - parts.lefts)
    is_stroke = (longest >= MIN_PART_PX) & (longest <= MAX_PART_PX)
    return int(np.count_nonzero(is_stroke & (parts.areas >= MIN_PART_AREA)))
