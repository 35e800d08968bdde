"""Small collections in every form that a cluster reads, all of the same glyphs."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw


def draw_png(seed: int) -> bytes:
    """A PNG file of white strokes on black."""
    rng = np.random.default_rng(seed)
    canvas = Image.new("L", (64, 64))
    ImageDraw.Draw(canvas).line([tuple(p) for p in rng.uniform(4, 60, (5, 2))], fill=255, width=4)
    content = io.BytesIO()
    canvas.save(content, "PNG")
    return content.getvalue()


def fill_folder(folder: Path, num_images: int) -> None:
    """Glyphs in a folder and one below it, a damaged one, and what is no image."""
    (folder / "inner").mkdir(parents=True)
    for number in range(num_images):
        place = folder / "inner" if number % 3 == 0 else folder
        (place / f"{number:04d}.png").write_bytes(draw_png(number))
    (folder / "0005 damaged.png").write_text("no image")
    (folder / "notes.txt").write_text("not meant as one")
    (folder / ".hidden.png").write_text("not looked at")


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 glyphs and what else lies in folders."""
    folder = tmp_path_factory.mktemp("collection") / "crops"
    fill_folder(folder, 300)
    return folder


def write_tar(path: Path, names: Iterable[tuple[str, bytes]]) -> None:
    """A tar of files in this order."""
    with tarfile.open(path, "w") as tar:
        for name, content in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def rows_in(out: Path) -> list[dict[str, Any]]:
    """The rows of a dataset, in the order of its files."""
    from pyarrow import dataset

    return dataset.dataset(out, format="parquet").to_table().to_pylist()


def rows_of_predict(*arguments: object, out: Path) -> list[dict[str, Any]]:
    """What one process says of the same, with the model in the package."""
    from kkanji_jax import predict

    where = ["--backend", "onnx", "--format", "jsonl", "--out", str(out)]
    assert predict.main([*map(str, arguments), *where]) in (0, 1)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
