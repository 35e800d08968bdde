"""A source larger than memory is built: what a further image costs is less than its pixels."""

import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.read import pixel_store
from data_tools.read.catalogue import read_catalogue

ROOT = Path(__file__).parents[3]
BUILD = """
import resource, sys
from data_tools import build
from data_tools.read import pixel_store
pixel_store._BUFFER_BYTES = 2**20
status = build.main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def write_k49_train(source: Any, num_rows: int) -> None:
    """A k49-train of so many images, none two alike, written and compressed as a stream."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (num_rows, 28, 28)}
    source.add_small("k49-train", [0])  # its class map
    with (
        zipfile.ZipFile(source.folder / "k49-train-imgs.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num_rows, 10_000):
            rows = np.arange(start, min(start + 10_000, num_rows))
            images = np.zeros((len(rows), 28, 28), np.uint8)
            images[:, 12, 2:26] = ((rows[:, None] >> np.arange(24)) & 1) * 155 + 100
            file.write(images.tobytes())
    labels = (np.arange(num_rows) % 3).astype(np.uint8)
    np.savez_compressed(source.folder / "k49-train-labels.npz", labels)


def test_combining_holds_no_pixels(source: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pixel_store, "_BUFFER_BYTES", 2**18)
    monkeypatch.setattr("data_tools.read.archives.ROWS_PER_BLOCK", 200)
    write_k49_train(source, 3_000)
    tracemalloc.start()
    try:
        catalogue = read_catalogue(source.folder)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len({original.pixels for original in catalogue.originals}) == 3_000
    assert peak_bytes < 3_000 * 784


@pytest.mark.slow
def test_a_whole_build_takes_less_for_a_further_image_than_its_pixels(source: Any, tmp_path: Path):
    peaks_kb = []
    for num_rows in (20_000, 60_000):
        write_k49_train(source, num_rows)
        out = tmp_path / f"out-{num_rows}"
        args = ["--source", str(source.folder), "--out", str(out), "--workers", "1"]
        result = subprocess.run(
            [sys.executable, "-c", BUILD, *args], cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        assert (out / "manifest.json").is_file()
        peaks_kb.append(int(result.stdout.splitlines()[-1]))
    assert (peaks_kb[1] - peaks_kb[0]) * 1024 / 40_000 < 784
