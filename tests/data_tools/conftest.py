"""Folders laid out as CODH does, of made-up glyphs."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kkanji_jax.data.class_index import character_of


class Source:
    """A folder of CODH's layout to put things into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def draw(seed: int, side_px: int = 64) -> np.ndarray:
        """A glyph of white strokes on black; another seed, other pixels."""
        image = Image.new("L", (side_px, side_px))
        points = np.random.default_rng(seed).integers(4, side_px - 4, (4, 4))
        for stroke in points.tolist():
            ImageDraw.Draw(image).line(tuple(stroke), fill=255, width=3)
        return np.asarray(image)

    @staticmethod
    def png(image: np.ndarray) -> bytes:
        """The image as a PNG file."""
        data = io.BytesIO()
        Image.fromarray(image).save(data, "PNG")
        return data.getvalue()

    def add_file(self, name: str, content: bytes) -> Path:
        """A file at this path inside the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def add_kanji(self, codepoint: str, count: int, first_seed: int | None = None) -> None:
        """`count` images of a class, `00.png` and so on; the code point decides the seeds."""
        seed = int(codepoint[2:], 16) * 1000 if first_seed is None else first_seed
        for number in range(count):
            png = self.png(self.draw(seed + number))
            self.add_file(f"kkanji2/{codepoint}/{number:02d}.png", png)

    def add_small(
        self,
        part: str,
        labels: Sequence[int],
        codepoints: Sequence[str] = ("U+3042", "U+304A", "U+309D"),
        first_seed: int = 500_000,
        images: np.ndarray | None = None,
    ) -> np.ndarray:
        """An npz pair of 28x28 images and its class map; returns the images."""
        name = part.partition("-")[0]
        if images is None:
            seeds = range(first_seed, first_seed + len(labels))
            images = np.stack([self.draw(seed, 28) for seed in seeds])
        np.savez(self.folder / f"{part}-imgs.npz", images)
        np.savez(self.folder / f"{part}-labels.npz", np.array(labels, np.uint8))
        lines = [f"{i},{c},{character_of(c)}" for i, c in enumerate(codepoints)]
        text = "\n".join(["index,codepoint,char", *lines]) + "\n"
        self.add_file(f"{name}_classmap.csv", text.encode())
        return images


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An empty folder of CODH's layout."""
    return Source(tmp_path / "source")
