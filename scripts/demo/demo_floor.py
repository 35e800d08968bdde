"""Scores of methods that learn no features on the demo corpus (synthetic): the floor for a network.

    python scripts/demo/demo_floor.py [--demo kkanji_jax/demo]

Trains on the rows of splits.csv marked train, tests on those marked test: nearest neighbour by the
cosine of pixels at 16x16 and 32x32, and HOG + LDA. Needs the `bench` extra.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from corpus import read_pngs, split_rows
from jaxtyping import Float, Int, UInt8
from PIL import Image

IMAGE_PX = 64
DEMO = Path(__file__).resolve().parents[2] / "kkanji_jax" / "demo"
Images = UInt8[np.ndarray, "n 64 64"]


def resize(image: UInt8[np.ndarray, "h w"], size_px: int) -> UInt8[np.ndarray, "h2 w2"]:
    """Returns the image at size_px x size_px, by Pillow's bicubic as the dataset does."""
    resized = Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def read_images(demo: Path) -> dict[str, UInt8[np.ndarray, "64 64"]]:
    """Returns every image of the corpus by its sample_id."""
    images = {
        sample_id: np.asarray(Image.open(io.BytesIO(png)))
        for sample_id, png in read_pngs(demo).items()
    }
    for half in ("train", "test"):
        with np.load(demo / f"k49-{half}-imgs.npz") as arrays:
            for row, image in enumerate(arrays["arr_0"]):
                images[f"k49-{half}/{row:06d}"] = resize(image, IMAGE_PX)
    return images


def read_split(demo: Path, split: str) -> tuple[Images, list[str]]:
    """Returns the images of one split and their codepoints."""
    rows = split_rows(demo, split)
    images = read_images(demo)
    return np.stack([images[row["sample_id"]] for row in rows]), [row["codepoint"] for row in rows]


def nearest_neighbours(train: Images, test: Images, size_px: int) -> Int[np.ndarray, " m"]:
    """Returns for each test image the row of the training image with the largest cosine."""

    def unit_vectors(images: Images) -> Float[np.ndarray, "n d"]:
        small = np.stack([resize(image, size_px).ravel() for image in images]).astype(np.float32)
        return small / np.linalg.norm(small, axis=1, keepdims=True)

    return np.argmax(unit_vectors(test) @ unit_vectors(train).T, axis=1)


def hog_lda(train: Images, train_labels: list[str], test: Images) -> list[str]:
    """Returns the labels that linear discriminants on gradient histograms give the test images."""
    from skimage.feature import hog
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    def describe(images: Images) -> Float[np.ndarray, "n d"]:
        cells = {"pixels_per_cell": (8, 8), "cells_per_block": (2, 2), "orientations": 9}
        return np.stack([hog(image, **cells) for image in images])

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)  # the best of five tried
    model.fit(describe(train), train_labels)
    return list(model.predict(describe(test)))


def scores(demo: Path) -> dict[str, float]:
    """Returns the share of test images that each method names rightly, and n as `num_examples`."""
    train, train_labels = read_split(demo, "train")
    test, test_labels = read_split(demo, "test")
    truth = np.array(test_labels)
    result: dict[str, float] = {"num_examples": float(len(truth))}
    for size_px in (16, 32):
        rows = nearest_neighbours(train, test, size_px)
        result[f"nearest neighbour {size_px}x{size_px}"] = float(
            np.mean(np.array(train_labels)[rows] == truth)
        )
    predicted = np.array(hog_lda(train, train_labels, test))
    result["HOG + LDA"] = float(np.mean(predicted == truth))
    for kind, is_kind in (
        ("kanji", truth >= "U+4E00"),
        ("kana", truth < "U+4E00"),
    ):
        result[f"HOG + LDA, {kind} only"] = float(np.mean((predicted == truth)[is_kind]))
    return result


def main() -> None:
    """Prints one line per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--demo", type=Path, default=DEMO, help="folder of the corpus")
    found = scores(parser.parse_args().demo)
    num_examples = int(found.pop("num_examples"))
    print(f"demo corpus (synthetic), test split by book, n = {num_examples}")
    for method, score in found.items():
        print(f"{method:28s} {score:.3f}")


if __name__ == "__main__":
    main()
