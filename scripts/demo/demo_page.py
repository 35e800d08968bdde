"""A page to try the guide on: characters of the demo corpus, in columns, on shaded paper.

    python scripts/demo/demo_page.py kkanji_jax/demo FOLDER [--columns 5] [--rows 7]

Writes page.jpg, boxes.csv (id,x,y,w,h: column and row, read from the right) and truth.csv (id,
character). The characters are of the corpus's test books: synthetic, drawn from brush fonts.
"""

import argparse
import csv
import io
from pathlib import Path

import numpy as np
from corpus import kanji_of
from PIL import Image, ImageFilter

CELL_PX, MARGIN_PX = 120, 70
PAPER, INK = (222, 204, 168), (48, 40, 36)


def test_images(demo: Path) -> list[tuple[str, Image.Image]]:
    """(character, 64x64 white on black) of the kanji of the test books, in the order of ids."""
    found = []
    for sample_id, png in kanji_of(demo, "test"):
        codepoint = sample_id.split("/")[1]
        image = Image.open(io.BytesIO(png)).convert("L")
        found.append((chr(int(codepoint[2:], 16)), image))
    return found


def make_page(
    glyphs: list[tuple[str, Image.Image]], num_columns: int, num_rows: int, rng: np.random.Generator
) -> tuple[Image.Image, list[tuple[str, int, int, int, int, str]]]:
    """The page, and (id, x, y, w, h, character) of each of its characters."""
    width = num_columns * CELL_PX + 2 * MARGIN_PX
    height = num_rows * CELL_PX + 2 * MARGIN_PX
    ink = Image.new("L", (width, height), 0)
    boxes = []
    chosen = rng.choice(len(glyphs), num_columns * num_rows, replace=False)
    for number, choice in enumerate(chosen):
        character, image = glyphs[choice]
        column, row = divmod(number, num_rows)
        side = int(rng.integers(84, 104))
        x = width - MARGIN_PX - (column + 1) * CELL_PX + (CELL_PX - side) // 2
        y = MARGIN_PX + row * CELL_PX + int(rng.integers(0, CELL_PX - side))
        ink.paste(image.resize((side, side), Image.Resampling.BICUBIC), (x, y))
        boxes.append((f"{column + 1}-{row + 1}", x, y, side, side, character))
    light = np.asarray(
        Image.fromarray(rng.integers(190, 256, (4, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        ),
        np.float32,
    )
    share = np.asarray(ink.filter(ImageFilter.GaussianBlur(0.8)), np.float32)[..., None] / 255
    colours = np.array(PAPER, np.float32) * (1 - share) + np.array(INK, np.float32) * share
    grain = rng.normal(0, 4, (height, width, 1))
    pixels = colours * light[..., None] / 255 + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), boxes


def main() -> None:
    """Writes the three files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=7)
    args = parser.parse_args()
    glyphs = test_images(args.demo)
    page, boxes = make_page(glyphs, args.columns, args.rows, np.random.default_rng(7))
    args.folder.mkdir(parents=True, exist_ok=True)
    page.save(args.folder / "page.jpg", quality=90)
    tables = {
        "boxes.csv": [("id", "x", "y", "w", "h"), *(row[:5] for row in boxes)],
        "truth.csv": [("id", "character"), *((row[0], row[5]) for row in boxes)],
    }
    for name, rows in tables.items():
        with (args.folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
