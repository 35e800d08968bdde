"""Renders characters of simulated old books from brush fonts: 64x64, white ink on black.

A book is one writer and one printing: a main font, a slant, a stroke width, an ink. Every random
number is drawn at an address (seed, book, character, copy), so one image never depends on another.
Needs Pillow and OpenCV.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

IMAGE_PX = 64
CANVAS_PX = 144  # the font's em fills GLYPH_PX of it; the rest is room for the warp
GLYPH_PX = 96
PAPER = 0.08  # fainter than this is paper, and clipped to 0
LEVELS = 6  # gray levels of an image: few, so that most files fit in one block of the tar
FONT_FILES = {"sosho": "KouzanBrushFontSousyo.ttf", "gyosho": "kouzan-mouhitsu-gyosho.ttf"}


class Book(NamedTuple):
    """What one simulated book keeps from its first page to its last."""

    number: int
    formality: float  # share of characters written in gyosho (semi-cursive), not in sosho
    slant: float  # shear: horizontal displacement per unit of height
    rotation_deg: float
    aspect: float  # width over height, against the font's
    stroke_px: float  # blur before the threshold, in canvas pixels
    threshold: float  # of the blurred stroke; low is thick
    softness: float  # width of the ink's edge, in units of the blurred stroke
    ink_gain: float
    dryness: float  # share of images with dry-brush streaks
    clutter: float  # share of images with a neighbour's stroke at an edge
    looseness: float  # scale of margins and shifts left by whoever cut the characters out


def random_at(seed: int, *address: str | int) -> np.random.Generator:
    """Returns the generator that belongs to an address; equal addresses, equal numbers."""
    text = "/".join(str(part) for part in (seed, *address))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def make_book(seed: int, number: int) -> Book:
    """Draws the habits of book `number`."""
    rng = random_at(seed, "book", number)
    return Book(
        number=number,
        formality=rng.uniform(0.2, 0.32),
        slant=rng.uniform(-0.12, 0.12),
        rotation_deg=rng.uniform(-4.0, 4.0),
        aspect=rng.uniform(0.82, 1.15),
        stroke_px=rng.uniform(1.3, 2.6),
        threshold=rng.uniform(0.25, 0.52),
        softness=rng.uniform(0.12, 0.3),
        ink_gain=rng.uniform(1.0, 1.25),
        dryness=rng.uniform(0.05, 0.2),
        clutter=rng.uniform(0.05, 0.35),
        looseness=rng.uniform(0.6, 1.4),
    )


def choose_font(seed: int, book: Book, character: str) -> str:
    """Returns the font in which a book writes a character: some stay legible longer than others."""
    ease = random_at(seed, "ease", character).random()
    return "gyosho" if ease < book.formality else "sosho"


class Brush:
    """The fonts, opened; glyphs are drawn once and kept."""

    def __init__(self, folders: list[Path]):
        self._fonts = {}
        self._glyphs: dict[tuple[str, str], np.ndarray] = {}
        for name, file_name in FONT_FILES.items():
            found = sorted(path for folder in folders for path in folder.rglob(file_name))
            if not found:
                raise ValueError(f"expected the font {file_name}, not found below {folders}")
            self._fonts[name] = ImageFont.truetype(str(found[0]), GLYPH_PX)

    def glyph(self, font: str, character: str) -> Float[np.ndarray, "h w"]:
        """Returns the glyph on its canvas, ink 1 on paper 0, centred on the ink."""
        if (font, character) not in self._glyphs:
            image = Image.new("L", (CANVAS_PX, CANVAS_PX))
            left, top, right, bottom = self._fonts[font].getbbox(character)
            where = ((CANVAS_PX - left - right) / 2, (CANVAS_PX - top - bottom) / 2)
            ImageDraw.Draw(image).text(where, character, fill=255, font=self._fonts[font])
            ink = np.asarray(image, np.float32) / 255
            if ink.max() < 0.5:
                raise ValueError(f"the font {FONT_FILES[font]} has no glyph for {character}")
            self._glyphs[font, character] = ink
        return self._glyphs[font, character]


def _noise(rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Returns white noise of unit scale over the canvas."""
    return rng.standard_normal((CANVAS_PX, CANVAS_PX)).astype(np.float32)


def _smooth_field(rng: np.random.Generator, cells: int, depth: int) -> Float[np.ndarray, "h w d"]:
    """Returns noise of unit scale with about `cells` bumps across the canvas."""
    coarse = rng.standard_normal((cells, cells, depth)).astype(np.float32)
    fine = cv2.resize(coarse, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(CANVAS_PX, CANVAS_PX, depth)


def _warp(
    glyph: Float[np.ndarray, "h w"],
    book: Book,
    habit: np.random.Generator,
    rng: np.random.Generator,
) -> Float[np.ndarray, "h w"]:
    """Bends the glyph: the book's slant, the writer's habit for this character, this stroke."""
    angle = np.deg2rad(book.rotation_deg + habit.normal(0, 2.0) + rng.normal(0, 4.5))
    slant = book.slant + rng.normal(0, 0.09)
    aspect = book.aspect * np.exp(habit.normal(0, 0.06) + rng.normal(0, 0.08))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.array([[1 / np.sqrt(aspect), 0], [0, np.sqrt(aspect)]])
    matrix = (inverse @ np.array([[1, slant], [0, 1]]) @ turn).astype(np.float32)
    centre = CANVAS_PX / 2
    rows, columns = np.mgrid[:CANVAS_PX, :CANVAS_PX].astype(np.float32) - centre
    points = np.stack([columns, rows], axis=-1) @ matrix.T + centre
    points += 2.2 * _smooth_field(habit, 5, 2) + 1.4 * _smooth_field(rng, 6, 2)
    across, down = (np.ascontiguousarray(points[..., axis], np.float32) for axis in (0, 1))
    return cv2.remap(glyph, across, down, cv2.INTER_LINEAR)


def _ink(
    glyph: Float[np.ndarray, "h w"], book: Book, rng: np.random.Generator
) -> Float[np.ndarray, "h w"]:
    """Draws the stroke with the width, the pressure and the dry streaks of a brush."""
    blurred = cv2.GaussianBlur(glyph, (0, 0), book.stroke_px)
    blurred /= np.quantile(blurred[glyph > 0.5], 0.75)  # so that thin strokes outlive the threshold
    grain = cv2.GaussianBlur(_noise(rng), (0, 0), 1.2) * 0.25
    pressure = 0.05 * _smooth_field(rng, 6, 1)[..., 0] + rng.normal(0, 0.03)
    level = np.clip(book.threshold + pressure + grain, 0.08, 0.7)
    ink = np.clip((blurred - level) / np.minimum(book.softness, 1.8 * level) + 0.5, 0, 1)
    if rng.random() < book.dryness:
        across, along = rng.uniform(0.5, 0.8), rng.uniform(1.5, 3.5)
        sigmas = (across, along) if rng.random() < 0.7 else (along, across)
        streaks = cv2.GaussianBlur(_noise(rng), (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1])
        where = 1 / (1 + np.exp(-4 * (_smooth_field(rng, 4, 1)[..., 0] - rng.uniform(0.4, 1.2))))
        ink = ink * np.clip(1 - 1.5 * where * np.clip(streaks / streaks.std(), 0, 1), 0, 1)
    return ink.astype(np.float32)


def _crop(
    ink: Float[np.ndarray, "h w"], book: Book, rng: np.random.Generator
) -> Float[np.ndarray, "64 64"]:
    """Cuts the character out, by hand as it were, pads it to a square and scales it to 64."""
    rows, columns = np.flatnonzero(ink.max(1) > 0.3), np.flatnonzero(ink.max(0) > 0.3)
    if rows.size == 0:
        raise ValueError("nothing was drawn: the threshold is above the whole glyph")
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    size = max(height, width, 0.45 * GLYPH_PX) * (1 + book.looseness * rng.uniform(0.0, 0.42))
    slack_y, slack_x = size - height, size - width
    top = rows[0] - slack_y * np.clip(0.5 + book.looseness * rng.uniform(-0.45, 0.45), -0.1, 1.1)
    left = columns[0] - slack_x * np.clip(0.5 + book.looseness * rng.uniform(-0.4, 0.4), -0.1, 1.1)
    scale = IMAGE_PX / size
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]], np.float32)
    soft = cv2.GaussianBlur(ink, (0, 0), max(0.01, 0.4 / scale)) if scale < 1 else ink
    return cv2.warpAffine(soft, matrix, (IMAGE_PX, IMAGE_PX), flags=cv2.INTER_LINEAR)


def _add_clutter(
    image: Float[np.ndarray, "64 64"],
    neighbour: Float[np.ndarray, "64 64"],
    book: Book,
    rng: np.random.Generator,
) -> Float[np.ndarray, "64 64"]:
    """Lets the neighbour's stroke reach over an edge, mostly above or below; adds specks."""
    image = image.copy()
    if rng.random() < book.clutter:
        depth = int(rng.integers(4, 13))
        side = rng.choice(["above", "below", "left", "right"], p=[0.35, 0.35, 0.15, 0.15])
        drift = int(rng.integers(-10, 11))
        if side in ("above", "below"):
            moved = np.roll(neighbour, drift, axis=1)
            if side == "above":
                image[:depth] = np.maximum(image[:depth], moved[-depth:])
            else:
                image[-depth:] = np.maximum(image[-depth:], moved[:depth])
        else:
            moved = np.roll(neighbour, drift, axis=0)
            depth = max(3, depth // 2)
            if side == "left":
                image[:, :depth] = np.maximum(image[:, :depth], moved[:, -depth:])
            else:
                image[:, -depth:] = np.maximum(image[:, -depth:], moved[:, :depth])
    specks = np.zeros_like(image)
    for _ in range(rng.poisson(0.6)):
        y, x = rng.integers(1, IMAGE_PX - 3, size=2)
        height, width = rng.integers(1, 4, size=2)
        specks[y : y + height, x : x + width] = rng.uniform(0.5, 1.3)
    image = np.maximum(image, cv2.GaussianBlur(specks, (0, 0), 0.6))
    return image


def render(
    brush: Brush, seed: int, book: Book, font: str, character: str, copy: int, neighbour: str
) -> UInt8[np.ndarray, "64 64"]:
    """Returns one writing of `character`, beside `neighbour`: a function of its arguments alone."""

    def write(written: str, what: str) -> Float[np.ndarray, "64 64"]:
        habit = random_at(seed, "habit", book.number, font, written)
        rng = random_at(seed, what, book.number, font, character, copy)
        warped = _warp(brush.glyph(font, written), book, habit, rng)
        return _crop(_ink(warped, book, rng), book, rng)

    rng = random_at(seed, "clutter", book.number, font, character, copy)
    image = _add_clutter(write(character, "image"), write(neighbour, "neighbour"), book, rng)
    inked = np.clip(image * book.ink_gain * rng.uniform(0.92, 1.05) - PAPER, 0, 1) / (1 - PAPER)
    return (np.round(np.clip(inked, 0, 1) * (LEVELS - 1)) * (255 // (LEVELS - 1))).astype(np.uint8)
