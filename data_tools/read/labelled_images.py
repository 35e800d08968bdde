"""Images, and boxes on pages, that are labelled by a labels.csv in a folder of sources."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.read.decoding import Finding, Unread
from kkanji_jax.cli import Report
from kkanji_jax.data.label_table import LABELS, BoxPlace, Label
from kkanji_jax.files import is_plain_text
from kkanji_jax.glyphs.image_files import MAX_PAGE_PIXELS, Picture, load_picture


def iterate_labelled(
    source: str, folder: Path, labels: Sequence[Label], report: Report
) -> Iterator[Unread | Finding]:
    """The images of a table in `folder`, in the order of its lines; boxes are cut out of pages.

    Ids are `<source>/U+XXXX/<path>`, with `#x,y,w,h` for a box. One page is in memory at a time.
    """
    opened: str | None = None
    page: Picture | str = ""  # or why it cannot be read
    for number, label in enumerate(labels):
        report(f"reading {source}/{LABELS}", number, len(labels))
        file = folder / label.path
        sample_id = f"{source}/{label.codepoint}/{label.name}"
        where = f"{source}/{LABELS}, line {label.line}"
        if problem := _problem_of(file, label):
            yield Finding("unreadable", where, problem, label.codepoint)
        elif label.box is None:
            yield Unread(sample_id, label.codepoint, str(file), sample_id)
        else:
            if opened != label.path:
                opened, page = label.path, ""  # the one before is let go first
                page = _open_page(file)
            crop = page if isinstance(page, str) else _png_of(page, label.box)
            if isinstance(crop, str):
                yield Finding("unreadable", where, crop, label.codepoint)
            else:
                yield Unread(sample_id, label.codepoint, crop, sample_id)
    if labels:
        report(f"reading {source}/{LABELS}", len(labels), len(labels))


def _problem_of(file: Path, label: Label) -> str | None:
    if not is_plain_text(label.path):
        return "has a name that is no plain text"
    if file.is_file():
        return None
    if ".pdf#" in label.path.lower():
        return f"{label.path} is a page of a PDF file, which build does not read: save it as PNG"
    return f"no file {label.path}: paths are relative to the table"


def _open_page(file: Path) -> Picture | str:
    """The picture in a file, or why it cannot be read."""
    try:
        return load_picture(file, max_pixels=MAX_PAGE_PIXELS)
    except (ValueError, OSError) as err:
        return " ".join(str(err).split())


def _png_of(picture: Picture, box: BoxPlace) -> bytes | str:
    """The part of a page in a box, cut at its edge, as a PNG; or why there is none."""
    left, top, width, height = box
    crop = picture[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if not crop.size:
        return f"the box {box} is empty, or outside the page {picture.shape[1::-1]}"
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(crop)).save(content, "PNG", compress_level=1)
    return content.getvalue()
