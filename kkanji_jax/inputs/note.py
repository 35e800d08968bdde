"""What was found of an image when it was made into a glyph, before a recogniser says what it is."""

from typing import NamedTuple


class Note(NamedTuple):
    """What was found of an image before it was read: see `glyphs.glyph_image.Steps`."""

    trouble: str = ""
    remarks: tuple[str, ...] = ()

    def with_remarks(self, more: tuple[str, ...]) -> "Note":
        """The note with what was found besides."""
        return self._replace(remarks=(*self.remarks, *more))
