"""One image that is to be read: its path, what to open, and where on a page it is."""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from kkanji_jax.pages.box import Canvas

STANDARD_INPUT = "-"  # the path of an image that comes on standard input


class ImageInput(NamedTuple):
    """Something to read, or why there is nothing.

    `image` is read instead of the file, if given: an image, or a function that opens one, and that
    raises ValueError or OSError. A page may have other `names` than its path, and a canvas of IIIF
    on which boxes are told. A box may be in a `line` of text, on a page of `page_size` pixels.
    """

    path: str
    error: str = ""
    id: str = ""
    box: tuple[int, int, int, int] | None = None  # left, top, width, height on the page
    image: Any = None
    names: tuple[str, ...] = ()
    canvas: "Canvas | None" = None
    line: str = ""
    page_size: tuple[int, int] | None = None  # width, height

    def source(self) -> Any:
        """What `load_image` takes; ValueError or OSError for a document that cannot be opened."""
        if self.image is None:
            return self.path
        return self.image() if callable(self.image) else self.image


def shown_path(path: str) -> str:
    """A path as rows have it: UTF-8 whatever the locale, other bytes as \\xff."""
    try:
        content = os.fsencode(path)
    except UnicodeEncodeError:  # not of the file system: a name from a list
        content = path.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")
