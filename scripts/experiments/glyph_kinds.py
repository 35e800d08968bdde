"""How many images stay read right when they get what real images have: frames, seals, shadows ...

    python scripts/experiments/glyph_kinds.py --source KKANJI --crops CROPS --shapes SHAPES
        [--model M] [--n 300] [--seed 0] [--half report] [--out OUT.json] [--before BEFORE.json]

Images that the model reads right are perturbed in each of the ways of KINDS and read again by the
rows of `predict`. They are of three sources, in equal parts: published glyphs put on paper
(KKANJI/kkanji2/U+XXXX/*.png), photographed crops of characters that the model knows (CROPS/
labels.csv), and kanji of other photographed books (SHAPES/crops.csv). Half of them, by the digest
of their names, are for tuning `glyph_image`; --half report is the other half. The same n and seed
give the same images and perturbations, so --before, an earlier run's --out, stands beside this one.

For each kind: the share that stays right, is called blank, is accepted and wrong, has a remark, and
has more than 0 candidates where there should be none. Writes a Markdown table, and JSON with --out.
"""

import argparse
import csv
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from kkanji_jax.answers.rows import RowOptions, predict_rows
from kkanji_jax.data.class_index import codepoint_of
from kkanji_jax.data.scripts import script_of
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.inputs.image_input import ImageInput

PAPER, INK = (226, 208, 172), (52, 44, 40)
VERMILION = (205, 62, 44)
# Kinds whose perturbed image holds no character that could be read right: wrong accepts count.
UNREADABLE = ("half a character", "black band across", "two characters")
EMPTY = ("paper without ink", "a seal alone", "flat grey")
ORIENTED = ", with --orient auto"  # ends the names of kinds that are read so


class Sample(NamedTuple):
    """An image that the model reads right, RGB, and what it shows."""

    name: str
    character: str
    picture: Image.Image


class Score(NamedTuple):
    """Counts of one kind."""

    n: int
    right: int
    blank: int
    unclear: int
    wrong_accepts: int
    remarks: int
    answered: int  # rows with a candidate


# --- samples ------------------------------------------------------------------------------------


def is_for_tuning(name: str) -> bool:
    """Whether an image is of the half that `glyph_image` may be tuned on."""
    return hashlib.sha256(name.encode()).digest()[-1] % 2 == 0


def on_paper(glyph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A published glyph as ink on coloured paper with grain, a little soft, at some size."""
    side = int(rng.integers(80, 220))
    soft = glyph.convert("L").resize((side, side), Image.Resampling.BICUBIC)
    soft = soft.filter(ImageFilter.GaussianBlur(side / 150))
    ink = np.asarray(soft, float)[..., None] / 255
    box = soft.point([0] * 128 + [255] * 128).getbbox() or (0, 0, side, side)
    paper, tone = np.array(PAPER) + rng.integers(-12, 12), np.array(INK) + rng.integers(-10, 20)
    pad = [int(side * share) for share in rng.uniform(0.03, 0.1, 4)]
    left, top, right, bottom = box
    ink = np.pad(ink[top:bottom, left:right], ((pad[0], pad[1]), (pad[2], pad[3]), (0, 0)))
    grain = rng.normal(0, 3, ink.shape)
    return Image.fromarray(np.clip(paper * (1 - ink) + tone * ink + grain, 0, 255).astype(np.uint8))


def published_samples(source: Path, known: set[str], seed: int) -> Iterator[Sample]:
    folders = sorted((source / "kkanji2").iterdir())
    order = np.random.default_rng((seed, 1)).permutation(len(folders))
    for place in order:
        folder = folders[place]
        character = chr(int(folder.name[2:], 16))
        files = sorted(folder.glob("*.png"))
        if character not in known or script_of(folder.name) != "kanji" or len(files) < 5:
            continue
        rng = np.random.default_rng((seed, 2, int(place)))
        file = files[int(rng.integers(len(files)))]
        name = f"published/{folder.name}/{file.stem}"
        yield Sample(name, character, on_paper(Image.open(file), rng))


def photographed_samples(folder: Path, table: str, known: set[str], seed: int) -> Iterator[Sample]:
    with (folder / table).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [rows[i] for i in np.random.default_rng((seed, 3)).permutation(len(rows))]
    for row in rows:
        character = chr(int(row["codepoint"][2:], 16))
        if character not in known or script_of(codepoint_of(character)) != "kanji":
            continue
        path = folder / row["file"]
        if not path.exists():
            path = folder / row["book"] / "characters" / row["codepoint"] / row["file"]
        yield Sample(f"{folder.name}/{row['file']}", character, Image.open(path).convert("RGB"))


def readable(
    recogniser: Recogniser, samples: Iterator[Sample], expected: int, tuning: bool
) -> list[Sample]:
    """The first `expected` samples of a half that are read right as they are."""
    kept: list[Sample] = []
    while len(kept) < expected:
        batch = []
        for sample in samples:
            if is_for_tuning(sample.name) == tuning:
                batch.append(sample)
            if len(batch) == 64:
                break
        if not batch:
            break
        rows = read(recogniser, [sample.picture for sample in batch])
        kept += [s for s, row in zip(batch, rows, strict=True) if row.character == s.character]
    return kept[:expected]


def read(recogniser: Recogniser, sources: Sequence[Any], orient: str = "no") -> list[Any]:
    """The first row of `predict` for each source."""
    found = [ImageInput(str(number), image=source) for number, source in enumerate(sources)]
    return list(predict_rows(recogniser, found, RowOptions(1, orient=orient)))


# --- kinds --------------------------------------------------------------------------------------

Perturb = Callable[[Image.Image, np.random.Generator, Sequence[Image.Image]], Any]
KINDS: dict[str, Perturb] = {}


def kind(name: str) -> Callable[[Perturb], Perturb]:
    def keep(function: Perturb) -> Perturb:
        KINDS[name] = function
        return function

    return keep


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), float)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def _paper_of(image: Image.Image) -> tuple[int, ...]:
    return tuple(int(v) for v in np.percentile(_array(image).reshape(-1, 3), 75, axis=0))


def _jpeg(image: Image.Image, quality: int = 85) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _other(others: Sequence[Image.Image], rng: np.random.Generator) -> Image.Image:
    return others[int(rng.integers(len(others)))]


def _inked(image: Image.Image, tone: tuple[int, ...], darkness: Image.Image) -> Image.Image:
    """`tone` printed over an image: multiplied, as a transparent ink is, where `darkness` is."""
    share = np.asarray(darkness, float)[..., None] / 255
    return _image(_array(image) * (1 - share + share * np.array(tone) / 255))


@kind("as it is" + ORIENTED)
@kind("as it is")
def _as_it_is(image, rng, others):
    return image


@kind("outline of 1-3 px")
def _outline(image, rng, others):
    return ImageOps.expand(image, int(rng.integers(1, 4)), (90, 80, 70))


@kind("mat of 8-30 px")
def _mat(image, rng, others):
    tones = ((255, 255, 255), (250, 250, 250), (0, 0, 0), (128, 128, 128), (90, 60, 40))
    return ImageOps.expand(image, int(rng.integers(8, 31)), tones[int(rng.integers(len(tones)))])


@kind("letterbox")
def _letterbox(image, rng, others):
    tone = (0, 0, 0) if rng.random() < 0.6 else (255, 255, 255)
    width, height = image.size
    pad = int(max(image.size) * rng.uniform(0.1, 0.35))
    border = (0, pad) if rng.random() < 0.5 else (pad, 0)
    return ImageOps.expand(image, border, tone)


@kind("rotated scan, corners filled")
def _rotated(image, rng, others):
    angle = float(rng.uniform(2, 8) * rng.choice([-1, 1]))
    fill = ((0, 0, 0), (0, 0, 0), (255, 255, 255))[int(rng.integers(3))]
    expand = bool(rng.integers(2))
    return image.rotate(angle, Image.Resampling.BICUBIC, expand=expand, fillcolor=fill)


@kind("strip of a dark background")
def _strip(image, rng, others):
    width, height = image.size
    depth = int(rng.integers(3, 3 + max(4, min(image.size) // 8)))
    pixels = _array(image)
    tone = np.array([[[18, 16, 15]], [[70, 62, 55]], [[110, 96, 80]]])[int(rng.integers(3))]
    side = int(rng.integers(4))
    border = [(depth, 0, 0, 0), (0, depth, 0, 0), (0, 0, depth, 0), (0, 0, 0, depth)][side]
    framed = ImageOps.expand(image, border, tuple(int(v) for v in tone.ravel()))
    pixels = _array(framed)
    pixels += rng.normal(0, 4, pixels.shape[:2])[..., None]
    return _jpeg(_image(pixels))


@kind("strip of the next page")
def _next_page(image, rng, others):
    """A gutter's shadow, and behind it paper of another tone."""
    depth = int(max(4, min(image.size) * rng.uniform(0.06, 0.16)))
    pixels = _array(image)
    paper = np.array(_paper_of(image), float)
    strip = np.repeat((paper * rng.uniform(0.75, 0.92))[None, None], pixels.shape[0], axis=0)
    strip = np.repeat(strip, depth, axis=1)
    gutter = np.abs(np.arange(depth) - (depth - 1))[None, :, None]
    strip *= 1 - 0.65 * np.exp(-gutter / max(1.0, depth / 6))
    strip += rng.normal(0, 3, strip.shape)
    joined = np.concatenate([strip, pixels] if rng.random() < 0.5 else [pixels, strip[:, ::-1]], 1)
    return _image(joined)


def _ring(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A seal: a frame, round or square, with strokes in it, over most of the picture."""
    width, height = size
    scale = 3
    sheet = Image.new("L", (width * scale, height * scale), 0)
    pen = ImageDraw.Draw(sheet)
    side = int(min(size) * rng.uniform(0.55, 1.0)) * scale
    left = int(rng.integers(-side // 5, max(1, width * scale - 4 * side // 5)))
    top = int(rng.integers(-side // 5, max(1, height * scale - 4 * side // 5)))
    box = (left, top, left + side, top + side)
    line = max(3, side // int(rng.integers(12, 22)))
    if rng.random() < 0.5:
        pen.ellipse(box, outline=255, width=line)
    else:
        pen.rectangle(box, outline=255, width=line)
    for _ in range(int(rng.integers(4, 9))):
        points = rng.uniform(0.18, 0.82, (3, 2)) * side + (left, top)
        pen.line([tuple(point) for point in points], 255, line)
    return sheet.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.7))


@kind("red seal over it")
def _seal(image, rng, others):
    tone = np.clip(np.array(VERMILION) + rng.integers(-25, 26, 3), 0, 255)
    return _jpeg(_inked(image, tuple(tone), _ring(image.size, rng)), 90)


@kind("opaque red seal over it")
def _opaque_seal(image, rng, others):
    share = 0.75 * np.asarray(_ring(image.size, rng), float)[..., None] / 255
    return _jpeg(_image(_array(image) * (1 - share) + share * np.array(VERMILION)), 90)


@kind("vermilion dots and strokes beside it")
def _vermilion(image, rng, others):
    width, height = image.size
    wide = ImageOps.expand(image, (0, 0, int(0.2 * width), int(0.1 * height)), _paper_of(image))
    mask = Image.new("L", wide.size, 0)
    pen = ImageDraw.Draw(mask)
    radius = max(2, int(0.06 * width))
    x, y = wide.width - radius - 2, int(rng.uniform(0.3, 0.9) * height)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    pen.line((wide.width - 3, 0, wide.width - 4, height), 255, max(1, radius // 2))
    return _jpeg(_inked(wide, VERMILION, mask.filter(ImageFilter.GaussianBlur(0.7))), 90)


@kind("red ruling through it")
def _red_ruling(image, rng, others):
    mask = Image.new("L", image.size, 0)
    pen = ImageDraw.Draw(mask)
    for share in rng.uniform(0.05, 0.95, int(rng.integers(2, 4))):
        x = share * image.width
        pen.line((x, 0, x + rng.uniform(-3, 3), image.height), 255, int(rng.integers(2, 5)))
    return _jpeg(_inked(image, VERMILION, mask.filter(ImageFilter.GaussianBlur(0.6))), 90)


def _ruled(image: Image.Image, sides: Sequence[str], rng: np.random.Generator) -> Image.Image:
    gap, line = int(rng.integers(2, 12)), int(rng.integers(1, 5))
    pads = [gap + line + int(rng.integers(0, 8)) if s in sides else 0 for s in "ltrb"]
    wide = ImageOps.expand(image, (pads[0], pads[1], pads[2], pads[3]), _paper_of(image))
    pixels = _array(wide) + rng.normal(0, 3, (wide.height, wide.width, 1))
    mask = Image.new("L", wide.size, 0)
    pen = ImageDraw.Draw(mask)
    slant = rng.uniform(-1.5, 1.5)
    left, right = pads[0] - gap - line / 2, wide.width - pads[2] + gap + line / 2
    top, bottom = pads[1] - gap - line / 2, wide.height - pads[3] + gap + line / 2
    if "l" in sides:
        pen.line((left, 0, left + slant, wide.height), 255, line)
    if "r" in sides:
        pen.line((right, 0, right + slant, wide.height), 255, line)
    if "t" in sides:
        pen.line((0, top, wide.width, top + slant), 255, line)
    if "b" in sides:
        pen.line((0, bottom, wide.width, bottom + slant), 255, line)
    share = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.5)), float)[..., None] / 255
    tone = np.array(INK) + rng.integers(0, 40)
    return _image(pixels * (1 - share) + tone * share)


@kind("ruled line at one side")
def _one_rule(image, rng, others):
    return _ruled(image, "ltrb"[int(rng.integers(4))], rng)


@kind("column rules at both sides")
def _two_rules(image, rng, others):
    return _ruled(image, "lr", rng)


@kind("table cell: rules all round")
def _cell(image, rng, others):
    return _ruled(image, "ltrb", rng)


@kind("closed frame inside the picture")
def _frame(image, rng, others):
    inner, line, outer = (int(v) for v in rng.integers((3, 1, 3), (10, 5, 12)))
    paper = _paper_of(image)
    framed = ImageOps.expand(ImageOps.expand(image, inner, paper), line, (60, 52, 46))
    return ImageOps.expand(framed, outer, paper)


@kind("ruled line through it")
def _through(image, rng, others):
    pixels = image.copy()
    pen = ImageDraw.Draw(pixels)
    line = max(1, int(min(image.size) * rng.uniform(0.012, 0.03)))
    x = image.width * rng.uniform(0.2, 0.8)
    pen.line((x, 0, x + rng.uniform(-2, 2), image.height), (64, 54, 48), line)
    return pixels


@kind("furigana at the right")
def _furigana(image, rng, others):
    width, height = image.size
    small = max(8, int(height * rng.uniform(0.25, 0.36)))
    count = int(rng.integers(2, 4))
    gap = int(width * rng.uniform(0.02, 0.08))
    wide = ImageOps.expand(image, (0, 0, small + gap, 0), _paper_of(image))
    for number in range(count):
        other = _other(others, rng)
        scale = small / max(other.size)
        size = (max(4, int(other.width * scale)), max(4, int(other.height * scale)))
        top = int(height * number / count)
        pasted = other.resize(size, Image.Resampling.LANCZOS)
        wide.paste(_toned(pasted, _paper_of(image)), (width + gap, top))
    return wide


def _toned(image: Image.Image, paper: tuple[int, ...]) -> Image.Image:
    return _image(_array(image) * np.array(paper) / np.maximum(np.array(_paper_of(image)), 1))


@kind("part of a neighbour at a side")
def _neighbour(image, rng, others):
    width, height = image.size
    other = _toned(_other(others, rng), _paper_of(image))
    side = int(rng.integers(4))
    share = rng.uniform(0.12, 0.35)
    gap = int(min(image.size) * rng.uniform(0.02, 0.08))
    if side < 2:
        other = other.resize((width, max(4, int(other.height * width / other.width))))
        depth = max(3, int(share * min(other.height, height)))
        wide = Image.new("RGB", (width, height + gap + depth), _paper_of(image))
        if side == 0:
            wide.paste(other.crop((0, other.height - depth, width, other.height)), (0, 0))
            wide.paste(image, (0, depth + gap))
        else:
            wide.paste(image, (0, 0))
            wide.paste(other.crop((0, 0, width, depth)), (0, height + gap))
        return wide
    other = other.resize((max(4, int(other.width * height / other.height)), height))
    depth = max(3, int(share * min(other.width, width)))
    wide = Image.new("RGB", (width + gap + depth, height), _paper_of(image))
    if side == 2:
        wide.paste(other.crop((other.width - depth, 0, other.width, height)), (0, 0))
        wide.paste(image, (depth + gap, 0))
    else:
        wide.paste(image, (0, 0))
        wide.paste(other.crop((0, 0, depth, height)), (width + gap, 0))
    return wide


def _ink_share(image: Image.Image) -> Image.Image:
    """White ink on black, of 0..255, as a clean reproduction would have it."""
    grey = np.asarray(image.convert("L"), float)
    low, high = np.percentile(grey, [2, 80])
    return _image(255 * np.clip((high - grey) / max(high - low, 1), 0, 1) ** 1.5)


def _in_frame(image: Image.Image, side: int, share: float) -> Image.Image:
    small = _ink_share(image)
    longest = round(side * share)
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    sheet = Image.new("L", (side, side), 0)
    sheet.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return sheet


@kind("half size in a 64 px frame")
def _half_size(image, rng, others):
    sheet = _in_frame(image, 64, rng.uniform(0.42, 0.62))
    return ImageOps.invert(sheet) if rng.random() < 0.5 else sheet


@kind("half size in a 65 px frame")
def _half_size_65(image, rng, others):
    sheet = _in_frame(image, 65, rng.uniform(0.42, 0.62))
    return ImageOps.invert(sheet) if rng.random() < 0.5 else sheet


@kind("photograph of 64 x 64")
def _photo_64(image, rng, others):
    return ImageOps.pad(image, (64, 64), Image.Resampling.LANCZOS, _paper_of(image))


@kind("photograph of 28 x 28")
def _photo_28(image, rng, others):
    return ImageOps.pad(image, (28, 28), Image.Resampling.LANCZOS, _paper_of(image))


@kind("ink of 120 on 0, 64 px")
def _grey_ink(image, rng, others):
    return _in_frame(image, 64, 0.95).point([value * 120 // 255 for value in range(256)])


@kind("ink of 120 on 0, 300 px")
def _grey_ink_300(image, rng, others):
    sheet = _in_frame(image, 64, 0.95).resize((300, 300), Image.Resampling.BICUBIC)
    return sheet.point([value * 120 // 255 for value in range(256)])


@kind("10 or 12 bits in 16")
def _deep(image, rng, others):
    grey = np.asarray(image.convert("L")).astype(np.uint16)
    return grey * 4 if rng.random() < 0.5 else grey * 16


@kind("I or uint16 holding 0-255")
def _shallow(image, rng, others):
    grey = np.asarray(image.convert("L"))
    if rng.random() < 0.5:
        return grey.astype(np.uint16)
    return Image.fromarray(grey.astype(np.int32))


@kind("off-white ink on transparency")
def _off_white(image, rng, others):
    ink = _ink_share(image)
    tone = int(rng.integers(235, 256))
    return Image.merge("LA", (Image.new("L", ink.size, tone), ink))


@kind("shadow of a hand, -45 %")
def _shadow(image, rng, others):
    width, height = image.size
    mask = Image.new("L", image.size, 0)
    pen = ImageDraw.Draw(mask)
    angle = rng.uniform(0, 2 * np.pi)
    reach = 2 * max(image.size)
    x, y = (float(v) for v in rng.uniform(0.3, 0.7, 2) * image.size)
    along, across = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    corners = [
        np.array([x, y]) + reach * v for v in (along, along + across, across - along, -along)
    ]
    pen.polygon([tuple(corner) for corner in corners], fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(float(min(image.size) * rng.uniform(0.01, 0.08))))
    light = 1 - 0.45 * np.asarray(mask, float)[..., None] / 255
    return _jpeg(_image(_array(image) * light))


@kind("gradient over the page")
def _gradient(image, rng, others):
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.75)
    ys, xs = np.mgrid[0 : image.height, 0 : image.width]
    ramp = np.cos(angle) * xs / image.width + np.sin(angle) * ys / image.height
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    return _jpeg(_image(_array(image) * (1 - depth * ramp[..., None])))


@kind("blur of 3 px")
def _blur(image, rng, others):
    return image.filter(ImageFilter.GaussianBlur(3))


@kind("noise of 25 levels")
def _noise(image, rng, others):
    return _image(_array(image) + rng.normal(0, 25, (image.height, image.width, 1)))


@kind("black-and-white dither")
def _dither(image, rng, others):
    return image.convert("1")


@kind("contrast of 25 %")
def _faint(image, rng, others):
    return _image(150 + 0.25 * (_array(image) - 128))


@kind("file of 8-11 px")
def _tiny(image, rng, others):
    small = image.copy()
    small.thumbnail((int(rng.integers(8, 12)),) * 2, Image.Resampling.LANCZOS)
    return small


@kind("file of 12-16 px")
def _small(image, rng, others):
    small = image.copy()
    small.thumbnail((int(rng.integers(12, 17)),) * 2, Image.Resampling.LANCZOS)
    return small


@kind("turned by 90" + ORIENTED)
@kind("turned by 90")
def _turned_90(image, rng, others):
    return image.transpose(
        Image.Transpose.ROTATE_90 if rng.random() < 0.5 else Image.Transpose.ROTATE_270
    )


@kind("turned by 180" + ORIENTED)
@kind("turned by 180")
def _turned_180(image, rng, others):
    return image.transpose(Image.Transpose.ROTATE_180)


@kind("half a character")
def _half(image, rng, others):
    width, height = image.size
    boxes = (
        (0, 0, width // 2, height),
        (width // 2, 0, width, height),
        (0, 0, width, height // 2),
        (0, height // 2, width, height),
    )
    return image.crop(boxes[int(rng.integers(4))])


@kind("black band across")
def _band(image, rng, others):
    marked = image.copy()
    width, height = image.size
    pen = ImageDraw.Draw(marked)
    share, place = rng.uniform(0.2, 0.45), rng.uniform(0, 1)
    tone = tuple(int(v) for v in rng.integers(0, 40, 3))
    if rng.random() < 0.5:
        top = place * (1 - share) * height
        pen.rectangle((0, top, width, top + share * height), fill=tone)
    else:
        left = place * (1 - share) * width
        pen.rectangle((left, 0, left + share * width, height), fill=tone)
    return marked


@kind("two characters")
def _two(image, rng, others):
    other = _toned(_other(others, rng), _paper_of(image))
    other = other.resize((image.width, max(8, int(other.height * image.width / other.width))))
    gap = max(2, int(0.08 * image.width))
    sheet = Image.new("RGB", (image.width, image.height + gap + other.height), _paper_of(image))
    sheet.paste(image, (0, 0))
    sheet.paste(other, (0, image.height + gap))
    return sheet


@kind("paper without ink")
def _empty(image, rng, others):
    base = rng.normal(0, 6, (image.height // 4 + 2, image.width // 4 + 2))
    coarse = Image.fromarray(base.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    light = 1 - rng.uniform(0, 0.4) * np.linspace(0, 1, image.width)[None, :, None]
    paper = np.array(PAPER) * light + np.asarray(coarse)[..., None]
    return _jpeg(_image(paper + rng.normal(0, 4, paper.shape)))


@kind("a seal alone")
def _seal_alone(image, rng, others):
    return _seal(_empty(image, rng, others), rng, others)


@kind("flat grey")
def _flat(image, rng, others):
    return Image.new("L", image.size, int(rng.integers(256)))


# --- scores -------------------------------------------------------------------------------------


def perturbed(samples: Sequence[Sample], name: str, seed: int) -> list[Any]:
    """The samples in the way `name`; each has a generator of its own."""
    pictures = [sample.picture for sample in samples]
    made = []
    for sample in samples:
        digest = hashlib.sha256(f"{seed}/{name}/{sample.name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        made.append(KINDS[name](sample.picture, rng, pictures))
    return made


def score(rows: Sequence[Any], samples: Sequence[Sample], name: str) -> Score:
    """Counts over the first rows of `predict`, one for each sample."""
    right = [row.character == sample.character for row, sample in zip(rows, samples, strict=True)]
    is_never_right = name in UNREADABLE or name in EMPTY
    wrong = [
        row.verdict == "accept" and (is_never_right or not is_right)
        for row, is_right in zip(rows, right, strict=True)
    ]
    if name in ("half a character",):
        wrong = [
            row.verdict == "accept" and not is_right
            for row, is_right in zip(rows, right, strict=True)
        ]
    return Score(
        len(rows),
        sum(right),
        sum(row.verdict == "blank" for row in rows),
        sum(row.verdict == "unclear" for row in rows),
        sum(wrong),
        sum(bool(row.remark) for row in rows),
        sum(row.rank is not None for row in rows),
    )


def table(scores: dict[str, Score], before: dict[str, Score] | None) -> str:
    """Markdown: a line a kind; with `before`, its shares beside these."""

    def shares(one: Score) -> list[str]:
        named = (one.right, one.blank, one.unclear, one.wrong_accepts, one.remarks)
        return [f"{100 * count / max(one.n, 1):.1f}" for count in named]

    names = ("right", "blank", "unclear", "accepted, wrong", "remark")
    heading = ["kind", "n", *([f"{n}, before" for n in names[:4]] if before else []), *names]
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for name, one in scores.items():
        cells = [name, str(one.n)]
        if before:
            cells += shares(before[name])[:4] if name in before else [""] * 4
        lines.append("| " + " | ".join(cells + shares(one)) + " |")
    return "\n".join(lines) + "\n"


def contact_sheet(
    sources: Sequence[Any], glyphs: Sequence[Any], told: Sequence[str]
) -> Image.Image:
    """Each picture beside its glyph, with what was read under them."""
    from kkanji_jax.answers.annotate import LabelFont
    from kkanji_jax.plots.fonts import font_files

    per_row, cell = 8, 96
    rows = -(-len(sources) // per_row)
    sheet = Image.new("RGB", (per_row * (2 * cell + 12), rows * (cell + 26)), "white")
    pen, font = ImageDraw.Draw(sheet), LabelFont(font_files())
    for number, (source, glyph, text) in enumerate(zip(sources, glyphs, told, strict=True)):
        left, top = number % per_row * (2 * cell + 12), number // per_row * (cell + 26)
        if isinstance(source, np.ndarray):
            source = Image.fromarray((source / max(source.max(), 1) * 255).astype(np.uint8))
        shown = source.convert("RGBA") if "A" in source.getbands() else source.convert("RGB")
        sheet.paste(ImageOps.contain(shown.convert("RGB"), (cell, cell)), (left, top))
        sheet.paste(Image.fromarray(glyph).resize((cell, cell)), (left + cell + 2, top))
        at = left + 2
        for character in text.split(" ")[0]:
            drawn, face = font.label(character, 18)
            pen.text((at, top + cell + 2), drawn, (0, 0, 0), font=face)
            at += 20
        pen.text((at + 4, top + cell + 6), " ".join(text.split(" ")[1:]), (160, 0, 0))
    return sheet


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--source", type=Path, required=True, metavar="KKANJI")
    add("--crops", type=Path, required=True, metavar="CROPS")
    add("--shapes", type=Path, required=True, metavar="SHAPES")
    add("--model", metavar="M", help="a run or a bundle (default: the package's)")
    add("--n", type=int, default=300, help="images (default: 300)")
    add("--seed", type=int, default=0)
    add("--half", choices=("tuning", "report"), default="report")
    add("--kinds", metavar="A,B", help="only kinds whose name contains one of these")
    add("--before", type=Path, metavar="JSON", help="what --out of an earlier run wrote")
    add("--out", type=Path, metavar="JSON")
    add("--sheets", type=Path, metavar="DIR", help="draw each kind's first images and glyphs")
    args = parser.parse_args(argv)
    try:
        recogniser = load(args.model, backend="onnx")
        index = recogniser.class_index
        known = {index.character(number) for number in range(len(index))}
        streams = (
            published_samples(args.source, known, args.seed),
            photographed_samples(args.crops, "labels.csv", known, args.seed),
            photographed_samples(args.shapes, "crops.csv", known, args.seed),
        )
        samples: list[Sample] = []
        for number, stream in enumerate(streams, 1):
            expected = args.n * number // len(streams) - len(samples)
            samples += readable(recogniser, stream, expected, args.half == "tuning")
    except (ValueError, OSError, KeyError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    expected = args.kinds.split(",") if args.kinds else [""]
    names = [name for name in KINDS if any(part in name for part in expected)]
    scores = {}
    for name in names:
        sources = perturbed(samples, name, args.seed)
        rows = read(recogniser, sources, "auto" if name.endswith(ORIENTED) else "no")
        scores[name] = score(rows, samples, name)
        if args.sheets:
            _draw(args.sheets / f"{name.replace(' ', '_')}.png", sources, rows, samples)
    before = None
    if args.before:
        content = json.loads(args.before.read_text(encoding="utf-8"))
        before = {name: Score(**counts) for name, counts in content["kinds"].items()}
    print(table(scores, before), end="")
    if args.out:
        content = {
            "version": 1,
            "n": len(samples),
            "seed": args.seed,
            "half": args.half,
            "step": recogniser.step,
            "weights": recogniser.weights,
            "kinds": {name: one._asdict() for name, one in scores.items()},
        }
        text = json.dumps(content, indent=1, ensure_ascii=False)
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _draw(
    out: Path, sources: Sequence[Any], rows: Sequence[Any], samples: Sequence[Sample]
) -> None:
    from kkanji_jax.glyphs.glyph_image import glyph_image

    shown = [*range(0, len(sources), max(1, len(sources) // 48))][:48]
    glyphs: list[UInt8[np.ndarray, "64 64"]] = [glyph_image(sources[i]) for i in shown]
    told = [f"{samples[i].character}{rows[i].character or ''} {rows[i].verdict}" for i in shown]
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet([sources[i] for i in shown], glyphs, told).save(out)


if __name__ == "__main__":
    sys.exit(main())
