"""The page's TIFF decoder gives the pixels that Pillow gives, and says what it does not read."""

import base64
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from kkanji_jax.glyphs.image_files import load_picture

Node = Callable[..., Any]
DECODE = """
import { decodeTiff, isTiff, TiffError } from "./tiff.js";
const files = JSON.parse(fs.readFileSync(folder + "/files.json"));
const answer = [];
for (const file of files) {
  const bytes = new Uint8Array(Buffer.from(file, "base64"));
  if (!isTiff(bytes)) { answer.push({ error: "no TIFF" }); continue; }
  try {
    const { width, height, data } = await decodeTiff(bytes);
    answer.push({ width, height, data: Buffer.from(data.buffer).toString("base64") });
  } catch (error) {
    if (!(error instanceof TiffError)) throw error;
    answer.push({ error: error.message });
  }
}
"""


@pytest.fixture
def decode(node: Node) -> Callable[[list[bytes]], list[Any]]:
    """The pixels uint8 [h w 4] of each file, or why there are none."""

    def run(files: list[bytes]) -> list[Any]:
        listed = json.dumps([base64.b64encode(file).decode() for file in files])
        script = f'fs.writeFileSync(folder + "/files.json", {json.dumps(listed)});\n{DECODE}'
        told = node(script)
        return [
            each["error"]
            if "error" in each
            else np.frombuffer(base64.b64decode(each["data"]), np.uint8).reshape(
                each["height"], each["width"], 4
            )
            for each in told
        ]

    return run


def tiff(image: Image.Image, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, "TIFF", **options)
    return content.getvalue()


def picture(rng: np.random.Generator, mode: str) -> Image.Image:
    """Smooth and rough parts, 75 x 53 pixels: no side is a multiple of anything."""
    base = Image.fromarray(rng.integers(0, 256, (5, 7, 4), np.uint8))
    smooth = base.resize((75, 53), Image.Resampling.BICUBIC)
    pixels = np.array(smooth)
    pixels[20:30] = rng.integers(0, 256, (10, 75, 4))
    image = Image.fromarray(pixels)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (53, 75)).astype(np.uint16))
    if mode == "12 in 16":
        return Image.fromarray(rng.integers(0, 4096, (53, 75)).astype(np.uint16))
    return image.convert(mode)


def expected(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as opened:
        if opened.mode.startswith("I"):
            grey = load_picture(io.BytesIO(content))
            return np.dstack([grey, grey, grey, np.full_like(grey, 255)])
        return np.asarray(ImageOps.exif_transpose(opened).convert("RGBA"))


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"]
)
def test_every_kind_and_compression_has_pillows_pixels(decode, rng, compression: str):
    modes = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "12 in 16"]
    files = [tiff(picture(rng, mode), compression=compression) for mode in modes]
    for mode, content, told in zip(modes, files, decode(files), strict=True):
        np.testing.assert_array_equal(told, expected(content), err_msg=mode)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_differences_rows_and_turns_are_undone(decode, rng, compression: str):
    files = []
    for mode in ("L", "RGB", "RGBA"):
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[TiffImagePlugin.PREDICTOR] = 2
        info[TiffImagePlugin.ROWSPERSTRIP] = 7
        files.append(tiff(picture(rng, mode), compression=compression, tiffinfo=info))
        assert Image.open(io.BytesIO(files[-1])).tag_v2[317] == 2  # pyright: ignore
    for turn in range(1, 9):
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[274] = turn
        files.append(tiff(picture(rng, "RGB"), compression=compression, tiffinfo=info))
    for content, told in zip(files, decode(files), strict=True):
        np.testing.assert_array_equal(told, expected(content))


def test_a_large_page_of_noise_fills_every_width_of_lzws_codes(decode, rng):
    noise = Image.fromarray(rng.integers(0, 256, (400, 300), np.uint8))
    flat = Image.new("L", (900, 700), 200)
    files = [tiff(image, compression="tiff_lzw") for image in (noise, flat)]
    for content, told in zip(files, decode(files), strict=True):
        np.testing.assert_array_equal(told, expected(content))


def written(fields: list[tuple[int, int, list[int]]], blocks: list[bytes], order: str) -> bytes:
    """A TIFF by hand: what Pillow does not write."""
    sizes, codes = {1: 1, 3: 2, 4: 4}, {1: "B", 3: "H", 4: "I"}
    at, places = 8, []
    for block in blocks:
        places.append(at)
        at += len(block)
    named = [
        (tag, kind, places if values == ["places"] else values) for tag, kind, values in fields
    ]
    named = [
        (t, k, [len(b) for b in blocks] if v == ["lengths"] else v)
        for t, k, v in sorted(named)  # pyright: ignore
    ]
    directory = at + at % 2
    more = directory + 2 + 12 * len(named) + 4
    entries, tail = b"", b""
    for tag, kind, values in named:
        packed = struct.pack(f"{order}{len(values)}{codes[kind]}", *values)
        if sizes[kind] * len(values) <= 4:
            place = packed.ljust(4, b"\0")
        else:
            place = struct.pack(f"{order}I", more + len(tail))
            tail += packed + b"\0" * (len(packed) % 2)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, directory)
    body = head + b"".join(blocks) + b"\0" * (at % 2)
    return body + struct.pack(f"{order}H", len(named)) + entries + bytes(4) + tail


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiles_planes_and_both_orders_of_bytes(decode, rng, order: str):
    pixels = rng.integers(0, 256, (20, 40, 3), np.uint8)
    tiles = []
    padded = np.zeros((32, 48, 3), np.uint8)
    padded[:20, :40] = pixels
    for top in (0, 16):
        tiles += [padded[top : top + 16, left : left + 16].tobytes() for left in (0, 16, 32)]
    common = [(256, 3, [40]), (257, 3, [20]), (259, 3, [1])]
    tiled = [
        *common,
        (258, 3, [8, 8, 8]),
        (262, 3, [2]),
        (277, 3, [3]),
        (322, 3, [16]),
        (323, 3, [16]),
        (324, 4, ["places"]),
        (325, 4, ["lengths"]),
    ]
    planar = [
        *common,
        (258, 3, [8, 8, 8]),
        (262, 3, [2]),
        (277, 3, [3]),
        (278, 3, [20]),
        (284, 3, [2]),
        (273, 4, ["places"]),
        (279, 4, ["lengths"]),
    ]
    planes = [pixels[..., c].tobytes() for c in range(3)]
    deep = rng.integers(0, 65536, (20, 40)).astype(f"{order}u2")
    grey = [
        *common,
        (258, 3, [16]),
        (262, 3, [1]),
        (277, 3, [1]),
        (278, 3, [20]),
        (273, 4, ["places"]),
        (279, 4, ["lengths"]),
    ]
    colour = np.dstack([pixels, np.full((20, 40), 255, np.uint8)])
    files = [
        written(tiled, tiles, order),  # pyright: ignore
        written(planar, planes, order),  # pyright: ignore
        written(grey, [deep.tobytes()], order),  # pyright: ignore
    ]
    told = decode(files)
    np.testing.assert_array_equal(told[0], colour)
    np.testing.assert_array_equal(told[1], colour)
    np.testing.assert_array_equal(told[2], expected(files[2]))


def test_what_is_not_read_is_named(decode, rng):
    def changed(content: bytes, tag: int, value: int) -> bytes:
        at = struct.unpack_from("<I", content, 4)[0]
        for entry in range(struct.unpack_from("<H", content, at)[0]):
            place = at + 2 + 12 * entry
            if struct.unpack_from("<H", content, place)[0] == tag:
                return content[: place + 8] + struct.pack("<I", value) + content[place + 12 :]
        raise AssertionError(tag)

    plain = tiff(picture(rng, "L"))
    lzw = tiff(picture(rng, "L"), compression="tiff_lzw")
    frames = [picture(rng, "L"), picture(rng, "L")]
    start = struct.unpack_from("<I", lzw, 4)[0]
    files = {
        "compression JPEG": tiff(picture(rng, "RGB"), compression="jpeg"),
        "compression CCITT G4": tiff(picture(rng, "1"), compression="group4"),
        "CMYK": tiff(picture(rng, "CMYK")),
        "several pages": tiff(frames[0], save_all=True, append_images=frames[1:]),
        "compression 4711": changed(plain, 259, 4711),
        "damaged": lzw[: start - 900] + lzw[start:],
        "samples that are no unsigned integers": tiff(picture(rng, "L").convert("F")),
        "BigTIFF": b"II\x2b\0" + plain[4:],
        "40000 × 40000 pixels": changed(changed(plain, 256, 40000), 257, 40000),
        "no TIFF": b"II is how it begins",
    }
    told = decode([*files.values(), plain[:60], plain[:-200], b"II*\0\xff\xff\xff\xff"])
    assert told[: len(files)] == [*files]
    assert told[len(files) :] == ["damaged"] * 3
