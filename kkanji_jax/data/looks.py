"""Which look an image has: as the Kuzushiji datasets publish it, or cut from a photographed page.

What published images have been through nobody but their makers knows; photographed crops come
through `glyph_image`, with thinner strokes and what else a page has.
"""

LOOKS = ("published", "photographed")
_PHOTOGRAPHED = ("char-shape",)  # CODH's character shapes, cut from page images in colour


def look_of(sample_id: str) -> str:
    """published or photographed, by the source that a sample id begins with."""
    return LOOKS[sample_id.split("/", 1)[0] in _PHOTOGRAPHED]
