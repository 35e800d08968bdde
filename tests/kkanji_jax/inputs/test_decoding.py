"""Worker processes decode the same images in the same order, and only where there are many."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.inputs import decoding
from kkanji_jax.inputs.decoding import CHUNK_SIZE, DecodedImage, Decoder, decode_image
from kkanji_jax.inputs.heif_and_pdf import open_heif
from kkanji_jax.inputs.image_input import ImageInput


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "WORKERS_AFTER_S", 0.0)


def draw(path: Path, number: int) -> np.ndarray:
    """A square of ink, smaller with every number, on paper."""
    picture = np.full((80, 100), 230, np.uint8)
    picture[20:60, 20 + number % 40 : 80] = 30
    Image.fromarray(picture).save(path)
    return picture


def processes_of_this_one() -> set[str]:
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    if not children.exists():
        pytest.skip("this system does not list the children of a process")
    return set(children.read_text().split())


def compared(decoded: DecodedImage) -> tuple[Any, ...]:
    glyph = None if decoded.glyph is None else decoded.glyph.tobytes()
    return decoded.found, glyph, decoded.ink, decoded.note, decoded.error


def test_workers_decode_what_one_process_does_in_order(tmp_path: Path, at_once: None):
    pillow_heif = pytest.importorskip("pillow_heif")
    found, heic = [], str(tmp_path / "a.heic")
    pillow_heif.from_pillow(Image.fromarray(draw(tmp_path / "a.png", 0))).save(heic)
    for number in range(3 * CHUNK_SIZE + 5):
        path = tmp_path / f"{number}.png"
        picture = draw(path, number)
        found.append(
            (
                ImageInput(str(path)),
                ImageInput("a crop", image=picture, box=(0, 0, 100, 80)),
                # As of a PDF file: what no other process can be given.
                ImageInput("a page", image=partial(lambda picture: picture, picture)),
                ImageInput(heic, image=partial(open_heif, heic)),
                ImageInput(str(tmp_path / "gone.png")),
                ImageInput("listed", "it cannot be had"),
            )[number % 6]
        )
    (alone, others) = (Decoder(iter(found), decode_image, count) for count in (1, 2))
    try:
        expected = alone.take(len(found) + 1)
        made = [others.take(50), others.take(50), others.take(50)]
        assert [len(part) for part in made] == [50, 50, len(found) - 100]
        assert len(multiprocessing.active_children()) == 2
        assert list(map(compared, itertools.chain(*made))) == list(map(compared, expected))
        assert [bool(image.error) for image in expected] == [n % 6 > 3 for n in range(len(found))]
    finally:
        others.close()
    assert not multiprocessing.active_children()


def test_few_images_start_no_worker(tmp_path: Path):
    path = tmp_path / "a.png"
    draw(path, 1)
    before = processes_of_this_one()
    decoder = Decoder([ImageInput(str(path))] * 20, decode_image, 2)
    assert len(decoder.take(30)) == 20
    assert processes_of_this_one() == before
    decoder.close()


def test_workers_are_few_images_ahead(tmp_path: Path, at_once: None):
    path, num_taken = tmp_path / "a.png", 0
    draw(path, 1)

    def found() -> Iterator[ImageInput]:
        nonlocal num_taken
        while True:
            num_taken += 1
            yield ImageInput(str(path))

    decoder = Decoder(found(), decode_image, 2)
    decoder.take(1)
    assert num_taken <= 4 * CHUNK_SIZE
    decoder.close()


def test_a_killed_worker_is_an_error_that_says_so(tmp_path: Path, at_once: None):
    path = tmp_path / "a.png"
    draw(path, 1)
    decoder = Decoder(itertools.repeat(ImageInput(str(path))), decode_image, 2)
    decoder.take(1)
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(OSError, match="a worker was killed.*--workers 1"):
        decoder.take(100 * CHUNK_SIZE)
    decoder.close()


def test_a_system_without_worker_processes_is_told_what_to_do(
    tmp_path: Path, at_once: None, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **settings: object) -> None:
        raise NotImplementedError("no semaphores here")

    monkeypatch.setattr("kkanji_jax.workers.ProcessPoolExecutor", refuse)
    decoder = Decoder([ImageInput(str(tmp_path / "a.png"))], decode_image, 2)
    with pytest.raises(OSError, match="no worker processes .no semaphores here.: --workers 1"):
        decoder.take(1)
    decoder.close()
