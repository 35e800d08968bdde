"""Pictures that Pillow alone does not open: HEIC photographs, and pages of PDF files.

Each needs a package of its own, which is imported when the first such file is met.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
PDF_SUFFIX = ".pdf"
PDF_DPI = 300
MAX_PDF_PIXELS = 100_000_000  # a page that would have more is rendered smaller


def open_heif(path: str) -> "Image.Image":
    """A HEIC photograph, upright; ValueError if it cannot be read, or its extra is not there."""
    try:
        import pillow_heif
    except ModuleNotFoundError as err:
        raise ValueError(_missing(path, "pillow-heif", "heif")) from err
    try:
        # Turned and mirrored by the library, as the file says.
        return pillow_heif.open_heif(path).to_pillow()
    except (ValueError, SyntaxError, RuntimeError, EOFError) as err:
        raise ValueError(f"expected a HEIC image, cannot read {path}: {err}") from err


def pages_of_pdf(path: str) -> "list[Callable[[], Image.Image]]":
    """Functions that render the pages of a PDF file at 300 dpi, in order.

    They are to be called by one thread at a time. ValueError as `open_heif`, and for a file with a
    password.
    """
    try:
        import pypdfium2
    except ModuleNotFoundError as err:
        raise ValueError(_missing(path, "pypdfium2", "pdf")) from err
    try:
        document = pypdfium2.PdfDocument(path)
        num_pages = len(document)
    except pypdfium2.PdfiumError as err:
        raise ValueError(
            f"expected a PDF file without a password, cannot read {path}: {err}"
        ) from err
    return [partial(_render, document, number, path) for number in range(num_pages)]


def _render(document: Any, number: int, path: str) -> "Image.Image":
    import pypdfium2

    try:
        page = document[number]
        try:
            width, height = page.get_size()  # in points, 72 to the inch
            scale = min(PDF_DPI / 72, math.sqrt(MAX_PDF_PIXELS / max(width * height, 1)))
            # Sides are rounded up: without this, 450.00001 pixels would be 451.
            return page.render(scale=scale * (1 - 1e-6)).to_pil().convert("RGB")
        finally:
            page.close()
    except (pypdfium2.PdfiumError, RuntimeError) as err:
        raise ValueError(f"cannot read page {number + 1} of {path}: {err}") from err


def _missing(path: str, package: str, extra: str) -> str:
    return f'{path} needs the package {package}: pip install "kkanji_jax[{extra}]"'
