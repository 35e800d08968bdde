"""Bytes of CODH's formats, sound and hostile."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_tools.read import formats
from kkanji_jax.glyphs.glyph_image import glyph_image


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
    assert formats.decode_png(gray_png(glyph)) == (glyph.tobytes(), None)


def test_every_other_mode_becomes_gray_by_the_one_rule_of_glyph_image(glyph: np.ndarray):
    wide = glyph.astype(np.uint16) * 257
    wide[0, :4] = [0x1234, 0xFFFF, 0x0080, 0x0081]
    pixels, mode = formats.decode_png(to_png(Image.fromarray(wide)))
    assert (pixels[:4], mode) == (bytes([0x12, 0xFF, 0, 1]), "I;16")  # to the nearest of 257ths

    grey = Image.fromarray(glyph)
    for mode in ("RGB", "RGBA", "LA", "P"):
        assert formats.decode_png(to_png(grey.convert(mode))) == (glyph.tobytes(), mode)
    bits = np.where(glyph >= 128, 255, 0).astype(np.uint8)
    assert formats.decode_png(to_png(Image.fromarray(bits).convert("1"))) == (bits.tobytes(), "1")

    black_ink = Image.merge("LA", (Image.new("L", grey.size, 0), grey))  # on white paper: turned
    assert formats.decode_png(to_png(black_ink))[0] == glyph.tobytes()

    colour = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.ROTATE_90), grey))
    assert formats.decode_png(to_png(colour)) == (glyph_image(colour).tobytes(), "RGB")


def test_no_flipped_bit_gives_other_pixels(glyph: np.ndarray):
    whole = gray_png(glyph)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(ValueError):
            formats.decode_png(bytes(damaged))


def test_every_cut_png_is_refused(glyph: np.ndarray):
    whole = gray_png(glyph)
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="is empty|no PNG|cut short"):
            formats.decode_png(whole[:length])


@pytest.mark.parametrize("size", [(32, 64), (64, 63), (1, 1), (128, 128)])
def test_another_size_is_told_apart_from_damage(size: tuple[int, int]):
    with pytest.raises(formats.WrongSizeError, match=f"is {size[0]}x{size[1]}, not 64x64"):
        formats.decode_png(to_png(Image.new("L", size)))


# In a process of its own, or the peak of an earlier test would hide this one's.
OPEN_BOMB = """
import pathlib, resource, sys
from data_tools.read import formats
from kkanji_jax.glyphs.glyph_image import glyph_image
def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bomb, small = map(pathlib.Path, sys.argv[1:])
formats.read_glyph(small), formats.decode_png(small.read_bytes())
before_kb = peak_kb()
try:
    formats.decode_png(bomb.read_bytes())
except formats.WrongSizeError as err:
    print(err)
try:
    formats.read_glyph(bomb)
except ValueError as err:
    print(err)
print(peak_kb() - before_kb)
"""


def test_a_decompression_bomb_is_refused_before_its_pixels_take_memory(
    tmp_path: Path, glyph: np.ndarray
):
    bomb, small = tmp_path / "bomb.png", tmp_path / "small.png"
    small.write_bytes(gray_png(glyph))
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    deflate = zlib.compressobj()
    pixels = b"".join([deflate.compress(bytes(10_001)) for _ in range(10_000)] + [deflate.flush()])
    bomb.write_bytes(SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + END)
    assert bomb.stat().st_size < 100_000  # a hundred megabytes of pixels
    command = [sys.executable, "-c", OPEN_BOMB, str(bomb), str(small)]
    result = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60
    )
    kkanji, other, growth_kb = result.stdout.splitlines()
    assert kkanji == "is 10000x10000, not 64x64"
    assert other.startswith("expected at most 16777216 pixels, ") and "bomb.png has 10000" in other
    assert int(growth_kb) < 10_000


def test_a_header_that_states_more_pixels_than_there_are_is_refused(tmp_path: Path):
    path = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    path.write_bytes(SIGNATURE + chunk(b"IHDR", header) + END)
    with pytest.raises(formats.WrongSizeError, match="30000x30000"):
        formats.decode_png(path.read_bytes())
    with pytest.raises(ValueError, match="at most 16777216 pixels, .*a.png"):
        formats.read_glyph(path)


def test_a_photograph_on_its_side_is_turned_upright(tmp_path: Path, glyph: np.ndarray):
    paper = Image.fromarray(255 - np.kron(glyph, np.ones((2, 2), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    paper.save(tmp_path / "upright.png")
    paper.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "side.png", exif=exif)
    upright, is_its_own = formats.read_glyph(tmp_path / "upright.png")
    assert formats.read_glyph(tmp_path / "side.png") == (upright, is_its_own)
    assert not is_its_own and len(upright) == 4096 and max(upright) == 255


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path: Path):
    with open(tmp_path / "a.bmp", "wb") as file:
        file.truncate(formats.MAX_FILE_BYTES + 1)
    with pytest.raises(ValueError, match="a.bmp has 67,108,865 bytes, over 67,108,864"):
        formats.read_glyph(tmp_path / "a.bmp")


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


SIGNATURE, END = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")


def test_what_is_no_sound_png_is_refused_with_the_reason(glyph: np.ndarray):
    jpeg = io.BytesIO()
    Image.fromarray(glyph).save(jpeg, "JPEG")
    start = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    for data, reason in (
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is no PNG: it starts with b'<!DOCTYP'"),
        (jpeg.getvalue(), "is no PNG"),
        (SIGNATURE + END, "has no header"),
        (start + END, "cannot be decoded"),
        (start + chunk(b"IDAT", b"no zlib") + END, "cannot be decoded"),
        (start + chunk(b"acTL", bytes(8)) + END, "is an animation"),
    ):
        with pytest.raises(ValueError, match=reason):
            formats.decode_png(data)


def test_plain_grey_is_decoded_as_opening_the_file_would(
    glyph: np.ndarray, rng: np.random.Generator
):
    def by_opening(data: bytes) -> bytes | None:
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                return image.tobytes()
        except (OSError, SyntaxError, ValueError):
            return None

    def decoded(data: bytes) -> bytes | None:
        try:
            return formats.decode_png(data)[0]
        except ValueError:
            return None

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    raw = b"".join(bytes([0]) + row.tobytes() for row in glyph)
    stream = zlib.compress(raw)
    streams = [stream, zlib.compress(raw + b"more"), zlib.compress(raw[:-1]), stream + b"more"]
    streams += [stream[:length] for length in range(0, len(stream), 5)]
    for at in range(len(stream)):  # damaged before its checksums were made
        streams.append(stream[:at] + bytes([stream[at] ^ 1 << at % 8]) + stream[at + 1 :])
    outcomes = []
    for each in streams:
        cut = int(rng.integers(len(each) + 1))
        bodies = chunk(b"IDAT", each[:cut]) + chunk(b"IDAT", each[cut:])
        for body in (chunk(b"IDAT", each), bodies):
            data = SIGNATURE + header + body + END
            outcomes.append(decoded(data))
            assert outcomes[-1] == by_opening(data)
    assert outcomes[0] == glyph.tobytes()
    assert {None, glyph.tobytes()} < set(outcomes)  # refused, sound, and sound but other pixels


# class maps


def test_a_class_map_gives_the_code_point_of_each_label(tmp_path: Path):
    path = tmp_path / "map.csv"
    path.write_text("index,codepoint,char\n0,U+3042,あ\n1,U+309D,ゝ\n", "utf-8")
    assert formats.read_classmap(path) == ["U+3042", "U+309D"]
    path.write_text("\ufeffindex,codepoint\r\n0,U+3042\r\n", "utf-8")
    assert formats.read_classmap(path) == ["U+3042"]


@pytest.mark.parametrize(
    "rows",
    ["", "1,U+3042,あ", "0,u+3042,あ", "0,U+3042,い", "0,U+3042,あ\n1,U+3042,あ", "0", "\xff"],
)
def test_a_wrong_class_map_is_refused_by_name(tmp_path: Path, rows: str):
    path = tmp_path / "map.csv"
    encoding = "latin-1" if rows == "\xff" else "utf-8"
    path.write_bytes(f"index,codepoint,char\n{rows}\n".encode(encoding))
    with pytest.raises(ValueError, match="map.csv"):
        formats.read_classmap(path)
