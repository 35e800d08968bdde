"""A page on which a person confirms and corrects readings: one self-contained HTML file.

Its corrections are saved as a table of labels, which `evaluate --images` and `data_tools.build`
take (`data.label_table`).
"""

import base64
import hashlib
import io
import json
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kkanji_jax.answers.drawing import Drawing
from kkanji_jax.answers.rows import Row
from kkanji_jax.files import written_whole
from kkanji_jax.glyphs.glyph_image import Steps
from kkanji_jax.inputs.image_input import ImageInput, shown_path
from kkanji_jax.reporting.rendering import render

MOST = 20_000  # images on a sheet: 10,000 are 19 MB, which a browser opens in seconds
THUMB_PX, QUALITY = 96, 72
SHOWN_PATH = 60  # characters of a path in a heading


class ReviewSheet(Drawing):
    """Collects images and their rows as they are read, and writes the sheet."""

    takes_steps = True

    def __init__(self, out: Path) -> None:
        self._out = out
        self._thumbs: deque[str] = deque()
        self._items: list[dict[str, Any]] = []
        self.num_left_out = 0  # beyond MOST
        self.num_errors = 0

    @property
    def num_images(self) -> int:
        return len(self._items)

    def add_steps(self, found: ImageInput, steps: Steps) -> None:
        """Takes the picture of the next image."""
        self._thumbs.append(_thumb_of(steps.grey))

    def add_row(self, row: Row) -> None:
        """Takes a row: an image's first one, or another candidate of the image before it."""
        if row.error:
            self.num_errors += 1
            return
        if row.is_first:
            thumb = self._thumbs.popleft()
            if len(self._items) == MOST:
                self.num_left_out += 1
                return
            self._items.append(
                {
                    "path": _relative(row.path, self._out),
                    "box": "" if row.box is None else " ".join(map(str, row.box)),
                    "id": row.id,
                    "verdict": row.verdict,
                    "remark": row.remark,
                    "candidates": [],
                    "thumb": thumb,
                }
            )
        if row.character is not None and not self.num_left_out:
            self._items[-1]["candidates"].append([row.character, round(row.probability or 0, 4)])

    def save(self) -> None:
        """Writes the file, which appears when it is whole; says on standard error what it lacks."""
        # A path with </script> in it must not end the script element.
        data = json.dumps(self._items, ensure_ascii=False, separators=(",", ":"))
        context = {
            "data": data.replace("<", "\\u003c"),
            "digest": hashlib.sha256(data.encode("utf-8", "backslashreplace")).hexdigest()[:32],
            "num_images": len(self._items),
            "num_errors": self.num_errors,
            "num_left_out": self.num_left_out,
            "name": self._out.stem[:SHOWN_PATH],
        }
        with written_whole(self._out) as unfinished:
            text = render("review.html.j2", context)
            unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
        if self.num_left_out:
            print(
                f"{self._out} holds the first {self.num_images:,} images; "
                f"{self.num_left_out:,} more have no room on it: read them apart",
                file=sys.stderr,
            )


def _thumb_of(grey: UInt8[np.ndarray, "h w"]) -> str:
    image = Image.fromarray(grey)
    image.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def _relative(path: str, out: Path) -> str:
    """A path relative to the sheet's folder, for the table beside it; an address is unchanged."""
    if path.startswith(("http://", "https://")):
        return path
    folder = os.path.dirname(os.path.realpath(out))
    try:
        return shown_path(os.path.relpath(os.path.abspath(path), folder)).replace(os.sep, "/")
    except ValueError:  # another drive
        return shown_path(os.path.abspath(path))
