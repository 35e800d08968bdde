"""The pictures of docs/kuzushiji.md, made of the demo corpus.

    python scripts/demo/kuzushiji_pictures.py kkanji_jax/demo docs/images

Writes kuzushiji-forms.png (one character a row: its printed form, then unlike images of it) and
kuzushiji-look-alikes.png (pairs of images of two characters that are nearly the same). All of it
is rendered from brush fonts: no image is from a book.
"""

import argparse
import io
from collections import defaultdict
from pathlib import Path

import numpy as np
from corpus import read_pngs
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from kkanji_jax.plots.fonts import font_files

CHARACTERS = "春花風御かはに"  # the rows of kuzushiji-forms.png
PAIRS = ("是来", "見風", "来葉", "其手", "女食", "西雨")
NUM_FORMS = 8
CELL_PX, GAP_PX = 80, 6
COMPARED_PX = 16  # images are compared at this size
PAPER, PRINT = 255, 30


def images_by_character(demo: Path) -> dict[str, list[UInt8[np.ndarray, "64 64"]]]:
    """Every image of the corpus, in the order of sample ids; kana are enlarged from 28 px."""
    found = defaultdict(list)
    for sample_id, png in sorted(read_pngs(demo).items()):
        character = chr(int(sample_id.split("/")[1][2:], 16))
        found[character].append(np.asarray(Image.open(io.BytesIO(png)).convert("L")))
    lines = (demo / "k49_classmap.csv").read_text(encoding="utf-8").splitlines()[1:]
    kana = {int(number): character for number, _, character in (line.split(",") for line in lines)}
    with np.load(demo / "k49-train-imgs.npz") as images:
        with np.load(demo / "k49-train-labels.npz") as labels:
            for image, label in zip(images["arr_0"], labels["arr_0"], strict=True):
                large = Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)
                found[kana[int(label)]].append(np.asarray(large))
    return dict(found)


def directions(images: list[UInt8[np.ndarray, "64 64"]]) -> Float[np.ndarray, "n d"]:
    """The images, made small, as vectors of length 1: their products say how alike they are."""
    size = (COMPARED_PX, COMPARED_PX)
    small = [Image.fromarray(image).resize(size, Image.Resampling.BOX) for image in images]
    vectors = np.stack([np.asarray(image, np.float64).ravel() for image in small])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def unlike(images: list[UInt8[np.ndarray, "64 64"]], number: int) -> list[int]:
    """Positions of images that differ most: each is the one least like those before it.

    The first is the one most like all others, the commonest form.
    """
    alike = (vectors := directions(images)) @ vectors.T
    chosen = [int(alike.sum(axis=0).argmax())]
    while len(chosen) < number:
        chosen.append(int(alike[chosen].max(axis=0).argmin()))
    return chosen


def most_alike(
    first: list[UInt8[np.ndarray, "64 64"]], second: list[UInt8[np.ndarray, "64 64"]]
) -> tuple[int, int]:
    """Positions of the image of `first` and the one of `second` that are most alike."""
    alike = directions(first) @ directions(second).T
    row, column = np.unravel_index(int(alike.argmax()), alike.shape)
    return int(row), int(column)


def printed(character: str, side_px: int) -> Image.Image:
    """The character in a modern typeface, dark on white."""
    cell = Image.new("L", (side_px, side_px), PAPER)
    font = ImageFont.truetype(str(font_files()[0]), round(side_px * 0.7))
    ImageDraw.Draw(cell).text((side_px / 2, side_px / 2), character, PRINT, font, anchor="mm")
    return cell


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Cells of one size in rows and columns, on white."""
    step = CELL_PX + GAP_PX
    width, height = len(rows[0]) * step + GAP_PX, len(rows) * step + GAP_PX
    drawn = Image.new("L", (width, height), PAPER)
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            large = cell.resize((CELL_PX, CELL_PX), Image.Resampling.BICUBIC)
            drawn.paste(large, (GAP_PX + column * step, GAP_PX + row * step))
    return drawn


def forms(images: dict[str, list[UInt8[np.ndarray, "64 64"]]]) -> Image.Image:
    """A row for each of CHARACTERS."""
    rows = []
    for character in CHARACTERS:
        chosen = [images[character][place] for place in unlike(images[character], NUM_FORMS)]
        rows.append([printed(character, CELL_PX), *map(Image.fromarray, chosen)])
    return sheet(rows)


def look_alikes(images: dict[str, list[UInt8[np.ndarray, "64 64"]]]) -> Image.Image:
    """PAIRS, two in a row: printed, written, written, printed."""
    cells = []
    for first, second in PAIRS:
        left, right = most_alike(images[first], images[second])
        written = [images[first][left], images[second][right]]
        pair = [printed(first, CELL_PX), *map(Image.fromarray, written), printed(second, CELL_PX)]
        cells.append(pair)
    return sheet([cells[n] + cells[n + 1] for n in range(0, len(cells), 2)])


def main() -> None:
    """Writes both pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    images = images_by_character(args.demo)
    for name, picture in (
        ("kuzushiji-forms.png", forms(images)),
        ("kuzushiji-look-alikes.png", look_alikes(images)),
    ):
        picture.quantize(16).save(args.out / name, optimize=True)


if __name__ == "__main__":
    main()
