"""Paper and ink told apart: which is the brighter, how light the paper is, where ink lies on it.

A picture is looked at in grey, and at the size `coarse_of` gives it where only the paper counts.
"""

import functools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from kkanji_jax.array_types import Bool, Float, Int, Shaped, UInt8
from kkanji_jax.glyphs.ink_parts import stroke_width

PAPER_PX, PAPER_REACH_PX = 48, 6  # where the paper is estimated; strokes are narrower than twice
NUM_RINGS = 6  # of the same size: how far in from the border paper is looked for
MIN_PAPER = 32  # grey: darker paper is not divided by
# Shares of the paper's light; within-class deviations. Noise splits at 3.3, and few pixels blur.
MIN_CONTRAST, MIN_SEPARATION = 0.06, 4.0
# Less separation will do for strokes that are soft, not for noise, whose grains are a pixel wide.
MIN_SOFT_CONTRAST, MIN_SOFT_SEPARATION = 0.2, 2.4
MAX_STROKE_PX = 60  # of a picture of 192: what is broader is no stroke, but light

BLANK, UNCLEAR = "blank", "unclear"  # no ink; ink and paper cannot be told apart


class Inked(NamedTuple):
    """Ink strength in 0..255, paper 0, and the mean strengths of paper and ink by Otsu's split."""

    ink: UInt8[np.ndarray, "h w"]
    paper_mean: float
    ink_mean: float


def coarse_of(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "y x"]:
    """The picture at the size at which its paper is looked for."""
    return resized(grey, PAPER_PX, Image.Resampling.BOX)


def as_image(grey: UInt8[np.ndarray, "h w"]) -> Image.Image:
    """The same pixels as Pillow has them, not copied where that can be."""
    height, width = grey.shape
    pixels = np.ascontiguousarray(grey)
    return Image.frombuffer("L", (width, height), pixels, "raw", "L", 0, 1)


def resized(
    grey: UInt8[np.ndarray, "h w"], long_px: int, resampling: Image.Resampling
) -> UInt8[np.ndarray, "y x"]:
    """The picture with a long side of `long_px`."""
    scale = long_px / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return np.asarray(as_image(grey).resize((width, height), resampling))


def is_paper_dark(coarse: UInt8[np.ndarray, "y x"]) -> bool:
    """Whether paper, which most of the border is, is darker than what is near it.

    Near it, lest a shadow over most of the border be ink; within the border too, lest a ruled line
    be paper. What is flat, and what lies on a frame, is compared with all of the picture.
    """
    height, width = coarse.shape
    # Sums of whole numbers, exact in float64.
    around = _near(height) @ coarse.astype(np.float64) @ _near(width).T
    higher = coarse - around / (2 * (PAPER_PX // 4) + 1) ** 2
    values = higher.ravel()
    rings = [median_of(values[places]) for places in _rings(height, width)]
    mean = float(coarse.mean())
    of_all = median_of(coarse.ravel()[_rings(height, width)[0]].astype(np.float64)) - mean
    skew = median_of(values) - float(higher.mean())
    return sum(rings) + 2 * max(rings[0], 0.0) + 0.3 * of_all + 3 * skew < 0


@functools.cache
def _near(length: int) -> Float[np.ndarray, "h h"]:
    """How often each place counts in the square round each, where the picture is mirrored."""
    reach = PAPER_PX // 4
    near = np.zeros((length, length))
    for place in range(length):
        for at in range(place - reach, place + reach + 1):
            turn = at % (2 * length)
            near[place, turn if turn < length else 2 * length - 1 - turn] += 1
    return near


@functools.cache
def _rings(height: int, width: int) -> list[Int[np.ndarray, " n"]]:
    """Places of the border and of the borders of what is inside it; each corner twice."""
    places = np.arange(height * width).reshape(height, width)
    return [
        border_of(places[inset : height - inset, inset : width - inset])
        for inset in range(NUM_RINGS)
        if 2 * inset < min(height, width) - 1 or inset == 0
    ]


def border_of(grey: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, " n"]:
    """The values along all four sides; each corner twice."""
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def median_of(values: Shaped[np.ndarray, " n"]) -> float:
    """`np.median` without its checks, which cost more than the sorting."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    below, above = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1].tolist()
    return (below + above) / 2


def find_ink(
    grey: UInt8[np.ndarray, "h w"],
    coarse: UInt8[np.ndarray, "y x"],
    edges: Bool[np.ndarray, "h w"] | None,
    grain_px: float,
) -> Inked | str:
    """Otsu's two classes on the light that the paper's share lacks; or BLANK, or UNCLEAR.

    Strokes that are wider than `grain_px` may be soft; at 0, with few pixels, faint as well.
    """
    ink = _ink_strength(grey, np.maximum(_paper_of(coarse, grey.shape), MIN_PAPER))
    counted = ink
    if edges is not None:
        ink[edges] = 0
        counted = ink[~edges]
    share = np.bincount(counted.ravel(), minlength=256) / counted.size
    levels = np.arange(256.0)
    below, mass = np.cumsum(share), np.cumsum(share * levels)
    splits = np.flatnonzero((below > 0) & (below < 1 - 1e-12))
    if not splits.size:
        return BLANK
    below, mass_below, mass_all = below[splits], mass[splits], mass[-1]
    between = (mass_all * below - mass_below) ** 2 / (below * (1 - below))
    best = int(np.argmax(between))
    paper_mean = float(mass_below[best] / below[best])
    ink_mean = float((mass_all - mass_below[best]) / (1 - below[best]))
    variance = float(np.sum(share * (levels - mass_all) ** 2))
    within = max(variance - float(between[best]), 1e-9) ** 0.5
    contrast = ink_mean - paper_mean
    if contrast < 255 * MIN_CONTRAST:
        return BLANK
    is_soft = contrast / within < MIN_SEPARATION
    if is_soft and grain_px and contrast < 255 * MIN_SOFT_CONTRAST:
        return BLANK
    stroke_px = stroke_width(ink > int((paper_mean + ink_mean) / 2))
    if stroke_px > MAX_STROKE_PX:
        return UNCLEAR
    if is_soft and (contrast / within < MIN_SOFT_SEPARATION or stroke_px < grain_px):
        return UNCLEAR
    return Inked(ink, paper_mean, ink_mean)


def _paper_of(coarse: UInt8[np.ndarray, "y x"], shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    """The paper's brightness: what is darker and narrower than strokes may be is filled up.

    A closing by a square, which keeps the edges of shadows where they are.
    """
    closed = 255 - _highest_near(255 - _highest_near(coarse))
    paper = as_image(closed).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(paper.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _highest_near(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The highest value within PAPER_REACH_PX rows and columns."""
    size = 2 * PAPER_REACH_PX + 1
    for _ in range(2):
        highest = np.zeros((len(grey) + size - 1, grey.shape[1]), np.uint8)
        highest[PAPER_REACH_PX : PAPER_REACH_PX + len(grey)] = grey
        # Each value is the highest of `reached` rows; twice as many, and then `size`.
        reached = 1
        while reached < size:
            step = min(reached, size - reached)
            highest = np.maximum(highest[:-step], highest[step:])
            reached += step
        grey = highest.T
    return np.ascontiguousarray(grey)


def _ink_strength(
    grey: UInt8[np.ndarray, "h w"], paper: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w"]:
    """255 times the share of the paper's light that is missing, rounded; none is 0.

    A quotient of whole numbers so small is never rounded up to the next one in float32.
    """
    strength = paper.astype(np.float32)
    missing = strength - grey
    missing *= 255
    missing += paper >> 1
    np.maximum(missing, 0, out=missing)
    missing /= strength
    return missing.astype(np.uint8)


def stretched(inked: Inked) -> UInt8[np.ndarray, "h w"]:
    """0 at the paper's mean and 255 at the ink's, straight between: edges stay soft."""
    share = (np.arange(256.0) - inked.paper_mean) / (inked.ink_mean - inked.paper_mean)
    table = np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)
    strokes = inked.ink.tobytes().translate(table.tobytes())
    return np.frombuffer(strokes, np.uint8).reshape(inked.ink.shape)
