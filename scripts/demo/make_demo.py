"""Makes the demo corpus in CODH's own formats: synthetic, from public-domain brush fonts.

    python scripts/demo/make_demo.py --fonts FOLDER --out kkanji_jax/demo

The fonts are in the Debian package fonts-kouzan-mouhitsu; `apt-get download` and `dpkg -x` unpack
it without installing. Needs the `demo` extra. The same fonts and seed give the same pixels; the
same bytes too, with the same zlib.
"""

import argparse
import csv
import hashlib
import io
import json
import struct
import sys
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from demo_render import IMAGE_PX, Book, Brush, choose_font, make_book, random_at, render
from jaxtyping import UInt8
from PIL import Image

# Frequent in old books, in about that order: the first gets the most images.
KANJI = (
    "一云事人又物出見子此其日小方上是中何候女国時今御有所心前合水身五山十同手立下世言申月酒名生東後江木"
    "風家花思居春戸取色分内鳥聞年西葉切治茶付道魚間外行金天食野来神長成我男理書京気平作語玉火明雨秋海"
)
# A kana and the kanji whose cursive forms old books write in its place (hentaigana).
KANA = {
    "か": "可閑加",
    "き": "起支幾",
    "す": "寸須数",
    "た": "多堂",
    "な": "那奈",
    "に": "耳爾丹",
    "の": "能農",
    "は": "者八波",
    "ま": "満万",
    "や": "屋夜",
    "れ": "礼連",
    "を": "越遠",
}
LARGEST_CLASS, SMALLEST_CLASS = 60, 8  # images of one kanji
KANA_SIZES = (160, 70)  # images of the first and of the last kana
KANA_PX = 28
VARIANT_SHARE = 0.5  # of a kana's images, written as one of its parent kanji
SPLIT_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
RIGHTS = {
    "licence": "public domain",
    "attribution": "kkanji_jax demo corpus: synthetic, drawn from the brush fonts of Kouzan Aoyagi",
}
NUM_BOOKS = {"train": 25, "val": 4, "test": 7}


class Shelf(NamedTuple):
    """The books of one split, and how often each is copied from."""

    books: tuple[Book, ...]
    weights: tuple[float, ...]


class Example(NamedTuple):
    """One image to draw: its label, its split, its book, and the character that is written."""

    label: str
    split: str
    book: Book
    font: str
    written: str
    copy: int


def make_shelves(seed: int) -> dict[str, Shelf]:
    """Returns the books of each split: a book belongs to one split only."""
    shelves = {}
    first = 0
    for split, num_books in NUM_BOOKS.items():
        books = tuple(make_book(seed, number) for number in range(first, first + num_books))
        first += num_books
        weights = np.array([random_at(seed, "size", b.number).lognormal(0, 0.4) for b in books])
        shelves[split] = Shelf(books, tuple((weights / weights.sum()).tolist()))
    return shelves


def class_sizes(largest: int, smallest: int, num_classes: int) -> list[int]:
    """Returns a long tail: a few large classes, many near `smallest`."""
    rank = np.linspace(1, 0, num_classes) ** 1.4
    return [int(size) for size in np.round(smallest + (largest - smallest) * rank)]


def split_size(num_images: int) -> dict[str, int]:
    """Divides a class: at least one image for each split, the rest by SPLIT_SHARES."""
    num_test = max(1, round(num_images * SPLIT_SHARES["test"]))
    num_val = max(1, round(num_images * SPLIT_SHARES["val"]))
    return {"train": num_images - num_test - num_val, "val": num_val, "test": num_test}


def plan_class(seed: int, label: str, num_images: int, shelves: dict[str, Shelf]) -> list[Example]:
    """Returns the examples of one class, split by split."""
    rng = random_at(seed, "plan", label)
    examples = []
    for split, expected in split_size(num_images).items():
        books, weights = shelves[split]
        copies: dict[tuple[int, str], int] = {}
        for choice in rng.choice(len(books), size=expected, p=weights):
            book = books[choice]
            written, font = label, choose_font(seed, book, label)
            if label in KANA and rng.random() < VARIANT_SHARE:
                written, font = str(rng.choice(list(KANA[label]))), "sosho"
            copy = copies[book.number, written] = copies.get((book.number, written), -1) + 1
            examples.append(Example(label, split, book, font, written, copy))
    return examples


def draw(brush: Brush, seed: int, example: Example) -> UInt8[np.ndarray, "64 64"]:
    """Renders an example beside a character drawn at random."""
    rng = random_at(seed, "beside", example.book.number, example.written, example.copy)
    neighbour = str(rng.choice(list(KANJI)))
    return render(brush, seed, example.book, example.font, example.written, example.copy, neighbour)


def resize(
    image: UInt8[np.ndarray, "h w"], size_px: int, how: Image.Resampling
) -> UInt8[np.ndarray, "h2 w2"]:
    """Returns the image at size_px x size_px."""
    return np.asarray(Image.fromarray(image).resize((size_px, size_px), how))


def shrink_to_kana(image: UInt8[np.ndarray, "64 64"]) -> UInt8[np.ndarray, "28 28"]:
    """Returns the image as Kuzushiji-49 has it: 28x28, paper clipped to 0, few gray levels."""
    small = resize(image, KANA_PX, Image.Resampling.BOX).astype(np.int32)
    small = np.clip((small - 16) * 1.3, 0, 255)
    return (np.round(small / 17) * 17).astype(np.uint8)


def split_row(sample_id: str, label: str, split: str, image: UInt8[np.ndarray, "h w"]) -> list[str]:
    """Returns a line of splits.csv; 28x28 images are hashed as a dataset holds them, at 64x64."""
    if image.shape[0] != IMAGE_PX:
        image = resize(image, IMAGE_PX, Image.Resampling.BICUBIC)
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return [sample_id, f"U+{ord(label):04X}", split, digest, sample_id]


def encode_png(image: UInt8[np.ndarray, "h w"]) -> bytes:
    """Returns an 8-bit gray PNG with unfiltered rows: for near-binary images the smallest."""
    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    deflate = [zlib.compressobj(9, zlib.DEFLATED, 15, 9, strategy) for strategy in range(4)]
    packed = min((one.compress(rows) + one.flush() for one in deflate), key=len)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", packed))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (*chunks, (b"IEND", b""))
    )


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    """Writes the members in name order, with no clock and no owner in them."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))


def make_kanji(brush: Brush, seed: int, shelves: dict[str, Shelf], out: Path) -> list[list[str]]:
    """Writes kkanji.tar; returns its lines of splits.csv."""
    files: dict[str, bytes] = {}
    rows = []
    sizes = class_sizes(LARGEST_CLASS, SMALLEST_CLASS, len(KANJI))
    for label, size in zip(KANJI, sizes, strict=True):
        for example in plan_class(seed, label, size, shelves):
            image = draw(brush, seed, example)
            address = f"{seed}/{example.book.number}/{label}/{example.copy}"
            stem = hashlib.blake2b(address.encode(), digest_size=8).hexdigest()
            codepoint = f"U+{ord(label):04X}"
            files[f"kkanji2/{codepoint}/{stem}.png"] = encode_png(image)
            rows.append(split_row(f"kkanji/{codepoint}/{stem}", label, example.split, image))
    write_tar(out / "kkanji.tar", files)
    return rows


def make_kana(brush: Brush, seed: int, shelves: dict[str, Shelf], out: Path) -> list[list[str]]:
    """Writes the four arrays and the class map of a small Kuzushiji-49; returns lines as above."""
    rows = []
    labels = sorted(KANA)
    planned = []
    for label, size in zip(KANA, class_sizes(*KANA_SIZES, len(KANA)), strict=True):
        planned += plan_class(seed, label, size, shelves)
    for half, splits in (("train", ("train", "val")), ("test", ("test",))):
        examples = [example for example in planned if example.split in splits]
        order = random_at(seed, "order", half).permutation(len(examples))
        examples = [examples[position] for position in order]
        images = [shrink_to_kana(draw(brush, seed, example)) for example in examples]
        class_ids = [labels.index(example.label) for example in examples]
        np.savez_compressed(out / f"k49-{half}-imgs.npz", np.stack(images))
        np.savez_compressed(out / f"k49-{half}-labels.npz", np.array(class_ids, np.uint8))
        for position, (example, image) in enumerate(zip(examples, images, strict=True)):
            sample_id = f"k49-{half}/{position:06d}"
            rows.append(split_row(sample_id, example.label, example.split, image))
    with open(out / "k49_classmap.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "codepoint", "char"])
        writer.writerows([i, f"U+{ord(label):04X}", label] for i, label in enumerate(labels))
    return rows


def make_demo(fonts: list[Path], out: Path, seed: int) -> dict[str, int]:
    """Writes the corpus into `out`; returns the number of images of each split."""
    brush = Brush(fonts)
    out.mkdir(parents=True, exist_ok=True)
    shelves = make_shelves(seed)
    rows = make_kanji(brush, seed, shelves, out) + make_kana(brush, seed, shelves, out)
    digests = [row[3] for row in rows]
    if len(set(digests)) != len(digests):
        raise ValueError(f"two images have the same pixels under seed {seed}; choose another seed")
    with open(out / "splits.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sample_id", "codepoint", "split", "pixels_sha256", "parent_id"])
        writer.writerows(sorted(rows))
    with open(out / "rights.json", "w", encoding="utf-8") as file:
        json.dump(RIGHTS, file, indent=1)
        file.write("\n")
    return {split: sum(row[2] == split for row in rows) for split in SPLIT_SHARES}


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, writes the corpus, prints what was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fonts", type=Path, nargs="+", required=True, help="folders with the ttf")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        counts = make_demo(args.fonts, args.out, args.seed)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    print(f"{args.out}: {counts} images, synthetic")
    return 0


if __name__ == "__main__":
    sys.exit(main())
