"""A sheet with the steps from picture to glyph, one row an image, to explain an answer."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kkanji_jax.answers.drawing import Drawing
from kkanji_jax.files import written_whole
from kkanji_jax.glyphs.glyph_image import Steps
from kkanji_jax.inputs.image_input import ImageInput

MAX_ROWS = 40
CELL_PX, GAP_PX, HEAD_PX, FOOT_PX = 128, 8, 24, 18
COLUMNS = ("as given", "paper removed", "paper to ink", "strays removed", "what is read")
_PAPER, _TEXT = (255, 255, 255), (40, 40, 40)


class StepsSheet(Drawing):
    """Collects the steps of the first MAX_ROWS images, and draws them."""

    takes_steps = True

    def __init__(self, out: Path) -> None:
        self._out = out
        self._rows: list[tuple[str, Steps]] = []

    def add_steps(self, found: ImageInput, steps: Steps) -> None:
        """Takes one image, if there is room."""
        if len(self._rows) < MAX_ROWS:
            where = "" if found.box is None else "#" + ",".join(map(str, found.box))
            self._rows.append((f"{Path(found.path).name}{where}", steps))

    def save(self) -> None:
        """Writes the sheet as PNG; it appears when whole. An empty one has its heading only."""
        width = len(COLUMNS) * (CELL_PX + GAP_PX) + GAP_PX
        row_px = CELL_PX + FOOT_PX + GAP_PX
        sheet = Image.new("RGB", (width, HEAD_PX + len(self._rows) * row_px), _PAPER)
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
        for column, heading in enumerate(COLUMNS):
            draw.text((GAP_PX + column * (CELL_PX + GAP_PX), 5), heading, _TEXT, font)
        for number, (name, steps) in enumerate(self._rows):
            top = HEAD_PX + number * row_px
            pictures = (steps.grey, steps.ink, steps.strokes, steps.own_strokes, steps.glyph)
            for column, picture in enumerate(pictures):
                if picture is not None:
                    left = GAP_PX + column * (CELL_PX + GAP_PX)
                    sheet.paste(_fitted(picture), (left, top))
            ink = "bright ink" if steps.is_ink_bright else "dark ink"
            shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in name)
            draw.text((GAP_PX, top + CELL_PX + 1), f"{ink}   {shown[-80:]}", _TEXT, font)
        with written_whole(self._out) as unfinished:
            sheet.save(unfinished, format="PNG")


def _fitted(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    scale = CELL_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)
