"""The look of the images of a source: as the Kuzushiji datasets publish them, or photographed.

How the published images were processed is not known. Photographed crops are converted by
`glyph_image`; their strokes are thinner, and they show other marks of the page.
"""

LOOKS = ("published", "photographed")
_PHOTOGRAPHED = ("char-shape",)  # CODH's character shapes, cut from page images in colour


def look_of(sample_id: str) -> str:
    """`published` or `photographed`, by the source with which a sample id begins."""
    return LOOKS[sample_id.split("/", 1)[0] in _PHOTOGRAPHED]
