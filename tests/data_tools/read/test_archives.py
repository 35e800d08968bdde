"""Arrays in npz and IDX files, sound and hostile."""

import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.read import archives, formats


def read_images(path: Path) -> np.ndarray:
    return np.concatenate([np.empty((0, 28, 28), np.uint8), *formats.iterate_images(path)])


# npz


def save_npz(path: Path, array: np.ndarray, name: str = "arr_0") -> Path:
    arrays: Any = {name: array}
    np.savez_compressed(path, **arrays)
    return path


def test_images_and_labels_of_an_npz_are_read(tmp_path: Path, rng: np.random.Generator):
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    path = save_npz(tmp_path / "a.npz", images)
    np.testing.assert_array_equal(read_images(path), images)
    for dtype in (np.uint8, np.int64):
        labels = save_npz(tmp_path / "b.npz", np.array([0, 2, 1], dtype))
        assert formats.read_labels(labels, 3, tmp_path / "m.csv") == [0, 2, 1]


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickled_npz_is_refused_and_runs_no_code(tmp_path: Path):
    canary = tmp_path / "canary"
    path = save_npz(tmp_path / "a.npz", np.array([Canary(canary)], dtype=object))
    with pytest.raises(ValueError, match="a.npz: arr_0 holds pickled Python objects"):
        read_images(path)
    assert not canary.exists()
    np.load(path, allow_pickle=True)["arr_0"]
    assert canary.exists(), "the canary sings where pickles are loaded"


def write_npy_in_zip(path: Path, shape: tuple[int, ...], data: bytes, dtype: str = "|u1") -> Path:
    header = io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", header.getvalue() + data)
    return path


def test_an_npz_that_states_more_than_it_has_takes_no_memory(tmp_path: Path):
    path = write_npy_in_zip(tmp_path / "a.npz", (2_000_000_000, 28, 28), b"x")
    with pytest.raises(ValueError, match="over the limit"):
        read_images(path)
    path = write_npy_in_zip(tmp_path / "b.npz", (2, 28, 28), b"x" * 783)
    with pytest.raises(ValueError, match=r"b.npz: arr_0 states shape \(2, 28, 28\)"):
        read_images(path)


def test_an_npz_bomb_is_refused_by_what_it_states(tmp_path: Path):
    path = write_npy_in_zip(tmp_path / "a.npz", (1, 28, 28), bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="which its bytes are not"):
        read_images(path)


def test_an_npz_of_another_kind_is_refused_with_what_was_wanted(tmp_path: Path):
    classmap = tmp_path / "k49_classmap.csv"
    for array, expected in (
        (np.zeros((2, 32, 32), np.uint8), r"images uint8 \[n, 28, 28\], not uint8 \[2, 32, 32\]"),
        (np.zeros((2, 28, 28), np.float32), "not float32"),
        (np.zeros(784, np.uint8), r"not uint8 \[784\]"),
    ):
        with pytest.raises(ValueError, match=expected):
            read_images(save_npz(tmp_path / "a.npz", array))
    for array, expected in (
        (np.array([0, 3]), "labels 0 to 3, but k49_classmap.csv lists 3 classes"),
        (np.array([-1, 0]), "labels -1 to 0"),
        (np.array([0.5]), "must hold integers"),
        (np.array([[1]]), "must hold integers"),
    ):
        with pytest.raises(ValueError, match=expected):
            formats.read_labels(save_npz(tmp_path / "a.npz", array), 3, classmap)
    with pytest.raises(ValueError, match="expected one array, arr_0, got images.npy"):
        archives.read_array(save_npz(tmp_path / "a.npz", np.zeros(1), "images"))


def test_a_damaged_npz_is_refused_by_name(tmp_path: Path, rng: np.random.Generator):
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    path = save_npz(tmp_path / "a.npz", images)
    whole = path.read_bytes()
    (tmp_path / "html.npz").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match="html.npz is no npz file.*<!DOCTYPE html>.*again"):
        archives.read_array(tmp_path / "html.npz")
    for damaged in (whole[:-30], whole[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="a.npz"):
            archives.read_array(path)
    flips = 0
    for at in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        try:
            array = archives.read_array(path)
        except ValueError as err:
            assert "a.npz" in str(err)
            flips += 1
        else:
            np.testing.assert_array_equal(array, images)
    assert flips > 300


def test_an_npz_with_two_arrays_of_that_name_or_a_huge_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = save_npz(tmp_path / "a.npz", np.zeros((1, 28, 28), np.uint8))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("arr_0.npy", b"x")
    with pytest.raises(ValueError, match="expected one array, arr_0, got arr_0.npy, arr_0.npy"):
        read_images(path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(300):
            archive.writestr(f"{number}.npy", b"")
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 4_096)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # or it would make an object of each
    with pytest.raises(ValueError, match="a.npz: lists .* bytes of files"):
        archives.peek_array(path)


def test_a_stream_takes_the_memory_of_a_block_however_long_it_is(tmp_path: Path):
    path = write_npy_in_zip(tmp_path / "a.npz", (40_000, 28, 28), bytes(31_360_000))
    (tmp_path / "a.gz").write_bytes(
        gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 40_000, 28, 28) + bytes(31_360_000), 1)
    )
    for file in (path, tmp_path / "a.gz"):
        tracemalloc.start()
        try:
            assert sum(len(block) for block in formats.iterate_images(file)) == 40_000
            assert tracemalloc.get_traced_memory()[1] < 16_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("at", [0.05, 0.5, 0.95])
def test_a_stream_that_is_damaged_anywhere_never_comes_to_its_end(
    tmp_path: Path, rng: np.random.Generator, at: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archives, "ROWS_PER_BLOCK", 200)
    images = rng.integers(0, 256, (405, 28, 28), dtype=np.uint8)
    for name, whole in (
        ("a.npz", save_npz(tmp_path / "a.npz", images).read_bytes()),
        ("a.gz", gzip.compress(to_idx(images), 1)),
    ):
        path = tmp_path / name
        path.write_bytes(whole)
        np.testing.assert_array_equal(read_images(path), images)
        damaged = bytearray(whole)
        damaged[int(len(whole) * at)] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=name):
            read_images(path)


# idx


def to_idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_images_and_labels_of_an_idx_file_are_read(tmp_path: Path, rng: np.random.Generator):
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    (tmp_path / "i.gz").write_bytes(gzip.compress(to_idx(images)))
    (tmp_path / "l.gz").write_bytes(gzip.compress(to_idx(np.array([1, 0], np.uint8))))
    np.testing.assert_array_equal(read_images(tmp_path / "i.gz"), images)
    assert formats.read_labels(tmp_path / "l.gz", 2, tmp_path / "m.csv") == [1, 0]


def test_a_damaged_idx_file_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "i.gz"
    whole = to_idx(np.zeros((3, 28, 28), np.uint8))
    zipped = gzip.compress(whole)
    for content, reason in (
        (b"", "i.gz"),
        (b"<html>", "i.gz"),
        (zipped[:-4], "i.gz"),
        (zipped[:20], "i.gz"),
        (gzip.compress(whole[:-1]), "its bytes are not"),
        (gzip.compress(whole + b"x"), "its bytes are not"),
        (gzip.compress(whole[:7]), "i.gz"),
        (gzip.compress(b"\0\0\x0d\3" + whole[4:]), "IDX file of uint8"),
        (gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2**31, 28, 28)), "over the limit"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            read_images(path)


def test_an_npz_in_columns_is_refused_with_the_way_to_rows(tmp_path: Path):
    images = np.asfortranarray(np.zeros((3, 28, 28), np.uint8))
    np.savez_compressed(tmp_path / "a.npz", images)
    with pytest.raises(ValueError, match="a.npz: .*Fortran order.*ascontiguousarray") as refused:
        archives.peek_array(tmp_path / "a.npz")
    assert "download" not in str(refused.value)
    np.savez_compressed(tmp_path / "a.npz", np.ascontiguousarray(images))
    assert archives.peek_array(tmp_path / "a.npz")[0] == (3, 28, 28)
