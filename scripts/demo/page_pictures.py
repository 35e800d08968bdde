"""The pictures of a page that is read, for README.md, docs/predict.md and docs/reading-a-page.md.

    python scripts/demo/page_pictures.py kkanji_jax/demo docs/images [--model MODEL]

Runs the guide's commands on the demo page, crops what they draw and keeps few colours. Writes
page-read.png, page-steps.png and network-input.png. To be run again after a change of the released
model or of `kkanji_jax.glyphs`.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from kkanji_jax import predict

READ_CROP = (60, 60, 740, 545)  # left, top, right, bottom: the first four characters of a column
NUM_STEPS = 3  # characters of page-steps.png
STEPS_ROW_PX, STEPS_HEAD_PX = 154, 24
# The same character cut closely and widely, and one with strokes of both its neighbours.
BOXES = "id,x,y,w,h\nclose,443,214,94,94\nwide,417,188,146,146\nboth,414,298,152,152\n"


def run_predict(*arguments: str) -> None:
    """`predict` without its text; ValueError if it failed."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        status = predict.main(["--backend", "onnx", *arguments])
    if status:
        raise ValueError(f"predict {' '.join(arguments)} ended with status {status}")


def save(picture: Image.Image, out: Path, num_colours: int) -> None:
    """Writes it as a PNG file with a palette."""
    few = picture.quantize(num_colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(out, optimize=True)


def main() -> None:
    """Writes the three pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="a bundle; default: the package's")
    args = parser.parse_args()
    model = ["--model", str(args.model)] if args.model else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo_page = Path(__file__).with_name("demo_page.py")
        subprocess.run([sys.executable, demo_page, args.demo, folder], check=True)
        page, read, steps = (folder / each for each in ("page.jpg", "read.png", "steps.png"))
        (folder / "three.csv").write_text(BOXES)
        boxes = ["--boxes", str(folder / "boxes.csv")]
        drawn = ["--annotate", str(read), "--show-steps", str(steps)]
        run_predict(str(page), *boxes, *model, *drawn)
        save(Image.open(read).crop(READ_CROP), args.out / "page-read.png", 128)
        sheet = Image.open(steps)
        height = STEPS_HEAD_PX + NUM_STEPS * STEPS_ROW_PX
        save(sheet.crop((0, 0, sheet.width, height)), args.out / "page-steps.png", 32)
        boxes = ["--boxes", str(folder / "three.csv")]
        run_predict(str(page), *boxes, *model, "--show-steps", str(steps))
        save(Image.open(steps), args.out / "network-input.png", 32)


if __name__ == "__main__":
    main()
