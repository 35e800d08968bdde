"""The training images of a DATASET in the forms that peers read: a record each, a PNG each."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

IMAGE_PX = 64
PER_SHARD = 5_000  # a random read costs what its shard has in records; more would slow the peers


def take_images(
    dataset: Path, num_images: int
) -> tuple[UInt8[np.ndarray, "n 64 64"], Int32[np.ndarray, " n"]]:
    """The first training images and their labels; ValueError where there are fewer."""
    from kkanji_jax.data.resident import load_split

    split = load_split(dataset, "train")
    if len(split.labels) < num_images:
        raise ValueError(
            f"{dataset} has {len(split.labels)} training images, expected {num_images}"
        )
    return split.images[:num_images], split.labels[:num_images]


def write_records(
    folder: Path, images: UInt8[np.ndarray, "n 64 64"], labels: Int32[np.ndarray, " n"]
) -> list[str]:
    """ArrayRecord files as Grain's documentation has them: `group_size:1`, one example a record."""
    from array_record.python.array_record_module import ArrayRecordWriter

    paths = []
    for start in range(0, len(images), PER_SHARD):
        path = folder / f"single-{start:07d}.array_record"
        writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
        for image, label in zip(images[start:][:PER_SHARD], labels[start:], strict=False):
            writer.write(label.tobytes() + image.tobytes())
        writer.close()
        paths.append(str(path))
    return paths


def parse_record(record: bytes) -> tuple[UInt8[np.ndarray, "64 64"], Int32[np.ndarray, ""]]:
    """Image and label of such a record."""
    image = np.frombuffer(record, np.uint8, IMAGE_PX * IMAGE_PX, 4)
    return image.reshape(IMAGE_PX, IMAGE_PX), np.frombuffer(record, np.int32, 1)[0]


def write_pngs(folder: Path, images: UInt8[np.ndarray, "n 64 64"]) -> list[str]:
    """One PNG file an image, by Pillow's defaults."""
    paths = [str(folder / f"{number:07d}.png") for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths
