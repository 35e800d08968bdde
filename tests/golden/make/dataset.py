"""Writes tests/golden/dataset_v<FORMAT_VERSION>/: a tiny DATASET that must load for ever.

    python tests/golden/make/dataset.py

Run once for each format version, never again: the files of a version that exists are refused. The
images are drawn here, none is CODH's. Shards are gzipped, because ArrayRecord pads each to 128 KiB.
"""

import gzip
import sys
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from data_tools.write.assemble import Options, assemble
from kkanji_jax.data.class_index import character_of
from kkanji_jax.data.records import FORMAT_VERSION

GOLDEN = Path(__file__).parents[1]
# Two outside the BMP, and a compatibility ideograph beside the character it must not become.
KANJI = ("U+6625", "U+6765", "U+795E", "U+FA19", "U+20B9F", "U+241C6")
KANA = ("U+3042", "U+309D")
IMAGES_PER_CLASS = 6


def draw(class_id: int, number: int, side_px: int) -> UInt8[np.ndarray, "h w"]:
    """A made-up glyph: strokes that belong to the class, moved a little by the number."""
    strokes = np.random.default_rng(class_id).integers(8, 56, (4, 2, 2))
    moves = np.random.default_rng([class_id, number]).integers(-4, 5, (4, 2, 2))
    image = Image.new("L", (64, 64))
    for stroke in strokes + moves:
        ImageDraw.Draw(image).line(tuple(stroke.ravel().tolist()), fill=255, width=4)
    return np.asarray(image.resize((side_px, side_px), Image.Resampling.BOX))


def write_source(folder: Path) -> None:
    """Lays made-up images out as CODH does, in the folder form and in the npz form."""
    for class_id, codepoint in enumerate(KANJI):
        class_folder = folder / "kkanji2" / codepoint
        class_folder.mkdir(parents=True)
        for number in range(IMAGES_PER_CLASS):
            Image.fromarray(draw(class_id, number, 64)).save(class_folder / f"{number:04x}.png")
    rows = [f"{i},{codepoint},{character_of(codepoint)}\n" for i, codepoint in enumerate(KANA)]
    (folder / "k49_classmap.csv").write_text(
        "index,codepoint,char\n" + "".join(rows), encoding="utf-8"
    )
    labels = np.repeat(np.arange(len(KANA), dtype=np.uint8), IMAGES_PER_CLASS)
    images = [draw(100 + label, number, 28) for number, label in enumerate(labels.tolist())]
    np.savez_compressed(folder / "k49-train-imgs.npz", np.stack(images))
    np.savez_compressed(folder / "k49-train-labels.npz", labels)


def main() -> int:
    golden = GOLDEN / f"dataset_v{FORMAT_VERSION}"
    if golden.exists():
        print(f"error: {golden} exists, and what it holds must load for ever", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "source", Path(folder) / "dataset"
        write_source(source)
        assemble(source, out, Options(ratios=(60.0, 20.0, 20.0), seed=1))
        golden.mkdir(parents=True)
        for path in sorted(out.iterdir()):
            content = path.read_bytes()
            if path.suffix == ".array_record":
                zipped = gzip.compress(content, mtime=0)
                (golden / f"{path.name}.gz").write_bytes(zipped)
            else:
                (golden / path.name).write_bytes(content)
    print(f"wrote {golden}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
