"""Bytes of CODH's formats, sound and hostile."""

import gzip
import io
import resource
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_tools import readers


def to_png(image: Image.Image, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", **options)
    return data.getvalue()


def gray_png(image: np.ndarray) -> bytes:
    return to_png(Image.fromarray(image))


@pytest.fixture
def glyph(source: Any) -> np.ndarray:
    return source.draw(7)


def test_an_8_bit_gray_png_gives_its_own_pixels(glyph: np.ndarray):
    assert readers.decode_png(gray_png(glyph)) == (glyph.tobytes(), None)


def test_every_other_mode_becomes_gray_by_the_stated_rule():
    wide = np.zeros((64, 64), np.uint16)
    wide[0, :4] = [0x1234, 0xFFFF, 0x00FF, 0x0100]
    pixels, mode = readers.decode_png(to_png(Image.fromarray(wide)))
    assert (pixels[:4], mode) == (bytes([0x12, 0xFF, 0x00, 0x01]), "I;16")

    colour = Image.new("RGB", (64, 64))
    colour.putpixel((0, 0), (255, 0, 0))
    colour.putpixel((1, 0), (0, 255, 0))
    colour.putpixel((2, 0), (0, 0, 255))
    colour.putpixel((3, 0), (9, 9, 9))
    luma = bytes([76, 150, 29, 9])  # .299 R + .587 G + .114 B
    assert readers.decode_png(to_png(colour))[0][:4] == luma
    assert readers.decode_png(to_png(colour.quantize(16)))[0][:4] == luma

    one_bit = Image.new("1", (64, 64))
    one_bit.putpixel((1, 0), 1)
    assert readers.decode_png(to_png(one_bit))[0][:3] == bytes([0, 255, 0])

    clear = Image.new("LA", (64, 64), (255, 0))  # white, but wholly transparent: paper
    clear.putpixel((1, 0), (200, 255))
    clear.putpixel((2, 0), (200, 128))
    assert readers.decode_png(to_png(clear))[0][:3] == bytes([0, 200, 100])
    assert readers.decode_png(to_png(clear.convert("RGBA")))[0][:3] == bytes([0, 200, 100])

    keyed = Image.new("L", (64, 64), 40)
    keyed.putpixel((1, 0), 90)
    pixels, mode = readers.decode_png(to_png(keyed, transparency=40))
    assert (pixels[:3], mode) == (bytes([0, 90, 0]), "L")


def test_no_flipped_bit_gives_other_pixels(glyph: np.ndarray):
    whole = gray_png(glyph)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(ValueError):
            readers.decode_png(bytes(damaged))


def test_every_cut_png_is_refused(glyph: np.ndarray):
    whole = gray_png(glyph)
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="is empty|no PNG|cut short"):
            readers.decode_png(whole[:length])


@pytest.mark.parametrize("size", [(32, 64), (64, 63), (1, 1), (128, 128)])
def test_another_size_is_told_apart_from_damage(size: tuple[int, int]):
    with pytest.raises(readers.WrongSizeError, match=f"is {size[0]}x{size[1]}, not 64x64"):
        readers.decode_png(to_png(Image.new("L", size)))


def test_a_decompression_bomb_is_refused_before_its_pixels_take_memory():
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(readers.WrongSizeError, match="30000x30000"):
        readers.decode_png(to_png(Image.new("L", (4, 4)))[:8] + chunk(b"IHDR", header) + END)
    bomb = to_png(Image.new("L", (10000, 10000)))
    with pytest.raises(readers.WrongSizeError):
        readers.decode_png(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # 100 MB to make


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


END = chunk(b"IEND", b"")


def test_what_is_no_sound_png_is_refused_with_the_reason(glyph: np.ndarray):
    jpeg = io.BytesIO()
    Image.fromarray(glyph).save(jpeg, "JPEG")
    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n"
    for data, reason in (
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is no PNG: it starts with b'<!DOCTYP'"),
        (jpeg.getvalue(), "is no PNG"),
        (start + END, "has no header"),
        (start + chunk(b"IHDR", header) + END, "cannot be decoded"),
        (start + chunk(b"IHDR", header) + chunk(b"IDAT", b"no zlib") + END, "cannot be decoded"),
        (start + chunk(b"IHDR", header) + chunk(b"acTL", bytes(8)) + END, "is an animation"),
    ):
        with pytest.raises(ValueError, match=reason):
            readers.decode_png(data)


# npz


def save_npz(path: Path, array: np.ndarray, name: str = "arr_0") -> Path:
    arrays: Any = {name: array}
    np.savez_compressed(path, **arrays)
    return path


def test_images_and_labels_of_an_npz_are_read(tmp_path: Path, rng: np.random.Generator):
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    path = save_npz(tmp_path / "a.npz", images)
    np.testing.assert_array_equal(readers.read_images(path), images)
    for dtype in (np.uint8, np.int64):
        labels = save_npz(tmp_path / "b.npz", np.array([0, 2, 1], dtype))
        assert readers.read_labels(labels, 3, tmp_path / "m.csv") == [0, 2, 1]


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickled_npz_is_refused_and_runs_no_code(tmp_path: Path):
    canary = tmp_path / "canary"
    path = save_npz(tmp_path / "a.npz", np.array([Canary(canary)], dtype=object))
    with pytest.raises(ValueError, match="a.npz: arr_0 holds pickled Python objects"):
        readers.read_images(path)
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
        readers.read_images(path)
    path = write_npy_in_zip(tmp_path / "b.npz", (2, 28, 28), b"x" * 783)
    with pytest.raises(ValueError, match=r"b.npz: arr_0 states shape \(2, 28, 28\)"):
        readers.read_images(path)


def test_an_npz_bomb_is_refused_by_what_it_states(tmp_path: Path):
    path = write_npy_in_zip(tmp_path / "a.npz", (1, 28, 28), bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="which its bytes are not"):
        readers.read_images(path)


def test_an_npz_of_another_kind_is_refused_with_what_was_wanted(tmp_path: Path):
    classmap = tmp_path / "k49_classmap.csv"
    for array, wanted in (
        (np.zeros((2, 32, 32), np.uint8), r"images uint8 \[n, 28, 28\], got uint8 \[2, 32, 32\]"),
        (np.zeros((2, 28, 28), np.float32), "got float32"),
        (np.zeros(784, np.uint8), r"got uint8 \[784\]"),
    ):
        with pytest.raises(ValueError, match=wanted):
            readers.read_images(save_npz(tmp_path / "a.npz", array))
    for array, wanted in (
        (np.array([0, 3]), "labels 0 to 3, but k49_classmap.csv lists 3 classes"),
        (np.array([-1, 0]), "labels -1 to 0"),
        (np.array([0.5]), "wants integers"),
        (np.array([[1]]), "wants integers"),
    ):
        with pytest.raises(ValueError, match=wanted):
            readers.read_labels(save_npz(tmp_path / "a.npz", array), 3, classmap)
    with pytest.raises(ValueError, match="wanted the array arr_0, got images.npy"):
        readers.read_npz(save_npz(tmp_path / "a.npz", np.zeros(1), "images"))


def test_a_damaged_npz_is_refused_by_name(tmp_path: Path, rng: np.random.Generator):
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    path = save_npz(tmp_path / "a.npz", images)
    whole = path.read_bytes()
    (tmp_path / "html.npz").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ValueError, match="html.npz is no npz file.*<!DOCTYPE html>.*again"):
        readers.read_npz(tmp_path / "html.npz")
    for damaged in (whole[:-30], whole[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="a.npz"):
            readers.read_npz(path)
    flips = 0
    for at in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        try:
            array = readers.read_npz(path)
        except ValueError as err:
            assert "a.npz" in str(err)
            flips += 1
        else:
            np.testing.assert_array_equal(array, images)
    assert flips > 300


# idx


def to_idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_images_and_labels_of_an_idx_file_are_read(tmp_path: Path, rng: np.random.Generator):
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    (tmp_path / "i.gz").write_bytes(gzip.compress(to_idx(images)))
    (tmp_path / "l.gz").write_bytes(gzip.compress(to_idx(np.array([1, 0], np.uint8))))
    np.testing.assert_array_equal(readers.read_images(tmp_path / "i.gz"), images)
    assert readers.read_labels(tmp_path / "l.gz", 2, tmp_path / "m.csv") == [1, 0]


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
            readers.read_images(path)


# class maps


def test_a_class_map_gives_the_code_point_of_each_label(tmp_path: Path):
    path = tmp_path / "map.csv"
    path.write_text("index,codepoint,char\n0,U+3042,あ\n1,U+309D,ゝ\n", "utf-8")
    assert readers.read_classmap(path) == ["U+3042", "U+309D"]
    path.write_text("\ufeffindex,codepoint\r\n0,U+3042\r\n", "utf-8")
    assert readers.read_classmap(path) == ["U+3042"]


@pytest.mark.parametrize(
    "rows",
    ["", "1,U+3042,あ", "0,u+3042,あ", "0,U+3042,い", "0,U+3042,あ\n1,U+3042,あ", "0", "\xff"],
)
def test_a_wrong_class_map_is_refused_by_name(tmp_path: Path, rows: str):
    path = tmp_path / "map.csv"
    encoding = "latin-1" if rows == "\xff" else "utf-8"
    path.write_bytes(f"index,codepoint,char\n{rows}\n".encode(encoding))
    with pytest.raises(ValueError, match="map.csv"):
        readers.read_classmap(path)
