"""Pixels put down in a scratch file come back, and leave nothing behind."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.read import pixel_store
from data_tools.read.pixel_store import LARGE, SMALL, PixelStore


@pytest.fixture(params=[2**26, 10_000, 1])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> PixelStore:
    """A store that keeps all of it in memory, writes now and then, or after every image."""
    monkeypatch.setattr(pixel_store, "_BUFFER_BYTES", request.param)
    return PixelStore(tmp_path)


def test_images_come_back_in_any_order_between_writes(store: PixelStore, rng: np.random.Generator):
    images = [rng.bytes(LARGE if n % 3 else SMALL) for n in range(40)]
    held = []
    for number, image in enumerate(images):
        held.append(store.put(image))
        assert held[number // 2].read() == images[number // 2]
    for number in rng.permutation(40):
        assert held[number].read() == images[number]
    assert held[0] == store.put(images[0]) != held[1]


def test_nothing_has_a_name_on_disk_and_the_file_goes_with_its_store(tmp_path: Path):
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    store = PixelStore(tmp_path)
    store.put(bytes(LARGE))
    assert len(os.listdir("/dev/fd")) == before + 1
    assert list(tmp_path.iterdir()) == []
    del store
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before


def test_a_full_disk_is_told_with_its_folder_and_the_remedy(tmp_path: Path):
    code = (
        "import pathlib, resource, sys\nfrom data_tools.read import pixel_store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))\n"
        "pixel_store._BUFFER_BYTES = 4096\n"
        "store = pixel_store.PixelStore(pathlib.Path(sys.argv[1]))\n"
        "for n in range(100): store.put(bytes(4096))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60
    )
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"OSError: cannot keep pixels in a scratch file in {tmp_path}: ")
    assert last.endswith("make room there, or build elsewhere")


def test_only_images_of_the_two_sizes_are_taken(store: PixelStore):
    with pytest.raises(ValueError, match="expected 4096 or 784 bytes of pixels, got 5"):
        store.put(b"other")
