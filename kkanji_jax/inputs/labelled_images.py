"""Somebody's own images with their labels: in folders named by code point, or in a table."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kkanji_jax.data.class_index import parse_codepoint
from kkanji_jax.data.label_table import LABELS, Label, read_labels
from kkanji_jax.files import is_foreign
from kkanji_jax.glyphs.image_files import MAX_PAGE_PIXELS, load_picture
from kkanji_jax.inputs.box_crops import cut_out
from kkanji_jax.inputs.finding import (
    find_files,
    find_images,
    images_in,
    page_of,
    pages_of,
    pdf_of,
    told_counts,
)
from kkanji_jax.inputs.heif_and_pdf import PDF_SUFFIX
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages.box import Box


class Labelled(NamedTuple):
    """An image and what it is said to show; `error` says why it cannot be found."""

    path: str
    codepoint: str
    image: Any = None  # read instead of the file
    error: str = ""


def find_labelled(path: Path, passed_over: Counter[str] | None = None) -> list[Labelled]:
    """Images of a folder of folders named U+XXXX, or of a CSV file with `path` and `codepoint`.

    The CSV file is as `data.label_table.read_labels` takes it; its paths are relative to it. A
    folder may have one in it, named labels.csv: as in a build, its label counts where the name of
    an image's folder says another, and folders of other names hold its images. `passed_over` counts
    what is left out. ValueError names the folder or the line, and a path without any image.
    """
    passed_over = Counter() if passed_over is None else passed_over
    if not path.is_dir():
        found = list(_in_table(path, read_labels(path)))
    elif (path / LABELS).is_file():
        labels = read_labels(path / LABELS)
        found = list(_in_table(path / LABELS, labels))
        # A page whose boxes are labelled is no image of one character.
        named = {os.path.normpath(path / label.path) for label in labels}
        inside = _in_folders(path, passed_over, is_alone=False)
        found += [item for item in inside if named.isdisjoint(_names_of(item))]
    else:
        found = list(_in_folders(path, passed_over, is_alone=True))
    if not found:
        told = f" (but {told_counts(passed_over)})" if passed_over else ""
        raise ValueError(
            f"no labelled images in {path}: expected folders named U+XXXX with images, or "
            f"{LABELS}{told}"
        )
    return found


def _in_folders(path: Path, passed_over: Counter[str], *, is_alone: bool) -> Iterator[Labelled]:
    """The images in folders named by code point; without `is_alone`, others may be beside them."""
    files = _Files()
    for child in sorted(path.iterdir()):
        if is_foreign(child.name):
            continue
        if not child.is_dir():
            if is_alone:
                passed_over["outside the folders named U+XXXX"] += 1
            continue
        try:
            codepoint = parse_codepoint(child.name)
        except ValueError as err:
            if is_alone:
                raise ValueError(f"{child}: {err}") from err
            continue
        for file in find_files([str(child)], passed_over):
            for item in files.images_in(file):
                yield Labelled(item.path, codepoint, item.image, item.error)


def _names_of(item: Labelled) -> set[str]:
    """The path by which a table may name an image, and for a page of a PDF file also the file's."""
    return {os.path.normpath(name) for name in (item.path, pdf_of(item.path)) if name}


def _in_table(path: Path, labels: list[Label]) -> Iterator[Labelled]:
    """The images that the lines of the table at `path` name."""
    files, page = _Files(), _LastPage()
    for label in labels:
        file = str(path.parent / label.path)
        if os.path.isdir(file):
            yield Labelled(file, label.codepoint, None, "a folder, and not an image")
            continue
        found = files.named(file)
        if len(found) != 1:
            yield Labelled(file, label.codepoint, None, f"has {len(found)} pages: name one")
        elif label.box is None:
            yield Labelled(found[0].path, label.codepoint, found[0].image, found[0].error)
        else:
            name = str(path.parent / label.name)
            cut = partial(page.cut, found[0], label.box)
            yield Labelled(name, label.codepoint, cut, found[0].error)


class _Files:
    """The images in files. Of PDF files, only the one that was opened last is kept open."""

    def __init__(self) -> None:
        self._named: dict[str, list[ImageInput]] = {}
        self._pdf = ""
        self._pages: list[ImageInput] = []

    def named(self, file: str) -> list[ImageInput]:
        """What `find_images` finds at a path, which is looked up once; a PDF file once for all."""
        if file not in self._named:
            pdf = pdf_of(file)
            if pdf and os.path.isfile(pdf):
                self._named[file] = [page_of(self.named(pdf), file)]
            else:
                self._named[file] = self._let_go(file, list(find_images([file])))
        return self._named[file]

    def images_in(self, file: ImageInput) -> list[ImageInput]:
        """The images of a file that `find_files` found."""
        return self._let_go(file.path, list(images_in(file)))

    def _let_go(self, file: str, found: list[ImageInput]) -> list[ImageInput]:
        """As found; pages of a PDF file do not hold it, but open it again if they must."""
        if not file.lower().endswith(PDF_SUFFIX) or not found or found[0].path == file:
            return found  # no PDF file, or one that cannot be read
        self._pdf, self._pages = file, found
        return [page._replace(image=partial(self._render, file, page.path)) for page in found]

    def _render(self, pdf: str, name: str) -> Any:
        if self._pdf != pdf:
            self._pdf, self._pages = pdf, []  # the one before is let go first
            self._pages = list(pages_of(pdf))
        page = page_of(self._pages, name)
        if page.error:
            raise ValueError(page.error)
        return page.source()


class _LastPage:
    """Cuts boxes out of pages; keeps the page that was opened last."""

    def __init__(self) -> None:
        self._path, self._picture = "", None

    def cut(self, page: ImageInput, box: tuple[int, int, int, int]) -> Any:
        """The box's pixels; ValueError or OSError if there are none."""
        if self._picture is None or self._path != page.path:
            self._picture = load_picture(page.source(), max_pixels=MAX_PAGE_PIXELS)
            self._path = page.path
        return cut_out(self._picture, Box(*box))


def open_labelled(item: Labelled) -> Any:
    """What `load_picture` takes; ValueError or OSError for an image that cannot be opened."""
    return ImageInput(item.path, image=item.image).source()
