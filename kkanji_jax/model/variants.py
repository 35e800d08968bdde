"""The tables of EfficientNet (arXiv:1905.11946): the baseline's stages and the family's scales."""

import difflib
import math
from typing import NamedTuple

CHANNEL_DIVISOR = 8
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class Stage(NamedTuple):
    """One row of Table 1: `num_blocks` MBConv blocks, of which the first is strided."""

    kernel_px: int
    stride: int
    expand_ratio: int
    out_channels: int
    num_blocks: int


class Variant(NamedTuple):
    """Width and depth multiply the baseline; `image_px` is the paper's resolution."""

    width: float
    depth: float
    image_px: int
    dropout: float


# Table 1, stages 2 to 8: EfficientNet-B0.
STAGES: tuple[Stage, ...] = (
    Stage(kernel_px=3, stride=1, expand_ratio=1, out_channels=16, num_blocks=1),
    Stage(kernel_px=3, stride=2, expand_ratio=6, out_channels=24, num_blocks=2),
    Stage(kernel_px=5, stride=2, expand_ratio=6, out_channels=40, num_blocks=2),
    Stage(kernel_px=3, stride=2, expand_ratio=6, out_channels=80, num_blocks=3),
    Stage(kernel_px=5, stride=1, expand_ratio=6, out_channels=112, num_blocks=3),
    Stage(kernel_px=5, stride=2, expand_ratio=6, out_channels=192, num_blocks=4),
    Stage(kernel_px=3, stride=1, expand_ratio=6, out_channels=320, num_blocks=1),
)

# Section 4 and the authors' code (tensorflow/tpu, efficientnet_builder.py). `nano` is not the
# paper's: one narrow block a stage, for tests and smoke runs.
VARIANTS: dict[str, Variant] = {
    "b0": Variant(width=1.0, depth=1.0, image_px=224, dropout=0.2),
    "b1": Variant(width=1.0, depth=1.1, image_px=240, dropout=0.2),
    "b2": Variant(width=1.1, depth=1.2, image_px=260, dropout=0.3),
    "b3": Variant(width=1.2, depth=1.4, image_px=300, dropout=0.3),
    "b4": Variant(width=1.4, depth=1.8, image_px=380, dropout=0.4),
    "b5": Variant(width=1.6, depth=2.2, image_px=456, dropout=0.4),
    "b6": Variant(width=1.8, depth=2.6, image_px=528, dropout=0.5),
    "b7": Variant(width=2.0, depth=3.1, image_px=600, dropout=0.5),
    "nano": Variant(width=0.25, depth=0.25, image_px=64, dropout=0.2),
}


def round_filters(channels: int, width: float) -> int:
    """`channels * width` rounded to a multiple of 8, and never below 90 % of the product."""
    scaled = channels * width
    nearest = int(scaled + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR
    rounded = max(CHANNEL_DIVISOR, nearest)
    return rounded + CHANNEL_DIVISOR if rounded < 0.9 * scaled else rounded


def round_repeats(num_blocks: int, depth: float) -> int:
    return math.ceil(num_blocks * depth)


class Block(NamedTuple):
    """One MBConv block of a network."""

    kernel_px: int
    stride: int
    expand_ratio: int
    out_channels: int


def blocks_of(variant: Variant, last_stride: int = 2) -> list[Block]:
    """The blocks of a network, in their order, `width` and `depth` applied.

    `last_stride` is that of the last stage that has one, so that with 1 the last two stages keep
    their maps twice as high and wide (arXiv:1903.07071, section 3.4, of a ResNet).
    """
    last = max(number for number, stage in enumerate(STAGES) if stage.stride > 1)
    blocks = []
    for number, stage in enumerate(STAGES):
        first_stride = last_stride if number == last else stage.stride
        out_channels = round_filters(stage.out_channels, variant.width)
        for repeat in range(round_repeats(stage.num_blocks, variant.depth)):
            stride = 1 if repeat else first_stride
            blocks.append(Block(stage.kernel_px, stride, stage.expand_ratio, out_channels))
    return blocks


def get_variant(name: str) -> Variant:
    """The variant called `name`; ValueError lists the names."""
    if name in VARIANTS:
        return VARIANTS[name]
    close = difflib.get_close_matches(str(name).lower(), VARIANTS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {name!r}{hint}")


def input_size(name: str) -> int:
    """The side in pixels of the images the paper trains variant `name` on."""
    return get_variant(name).image_px
