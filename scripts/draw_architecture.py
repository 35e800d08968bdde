"""Draws EfficientNet-B0 as this project uses it, from the tables of `kkanji_jax.model.variants`.

python scripts/draw_architecture.py [--out docs]      writes architecture.svg and architecture.png
"""

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from kkanji_jax.model import variants
from kkanji_jax.model.variants import STAGES, VARIANTS, Variant, round_filters, round_repeats

IMAGE_PX, STEM_STRIDE = 64, 2
WIDTH_PX, HEIGHT_PX, DPI = 1600, 1010, 100
TITLE_PX, HEADING_PX, BODY_PX, NOTE_PX = 34, 22, 18, 16
INK, FAINT, RULE, PAPER, PANEL = "#222222", "#666259", "#d9d5ca", "#fdfcf9", "#f6f3ec"
# (light, full) by kernel; None stands for a layer without one.
COLOURS = {
    1: ("#e2e8d5", "#6b7c4d"), 3: ("#d5e1ee", "#24496e"),
    5: ("#f6dcd0", "#b8492a"), None: ("#ebe7dd", "#6f6a5e"),
}  # fmt: skip
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "kkanji_jax"}
STYLE |= {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"]}
# The centre line of a brushed の, y downwards, with the brush's radius: percent of the image.
BRUSH = (
    (52, 24, 3.0), (50, 42, 4.8), (41, 61, 5.5), (29, 74, 5.2), (19, 66, 3.6), (19, 47, 3.4),
    (32, 29, 3.6), (54, 21, 4.2), (74, 30, 5.6), (83, 50, 6.4), (76, 69, 5.4), (58, 83, 2.2),
)  # fmt: skip
BLOCK_STEPS = (
    (1, "expand", "1×1", "c → 6c"),
    (3, "depthwise", "k×k, stride s", "6c"),
    (1, "squeeze-excite", "scales each", "channel"),
    (1, "project", "1×1", "6c → c′"),
)
RESIDUAL = "residual: only where s = 1 and c′ = c"
EXCITE_STEPS = ("mean", "1×1, c/4", "SiLU", "1×1, 6c", "sigmoid", "× input")
BLOCK_NOTES = (
    "Batch norm follows every convolution but the two of squeeze-excite; SiLU follows expand and",
    "depthwise. MBConv1 has no expand. Only the first block of a stage strides, by s.",
    "Drop-path acts in training, at a rate that rises from block to block.",
)
FAMILY_HEADS = ("width", "depth", "input px", "dropout", "params")
FAMILY_NOTES = (
    "Width multiplies channels; depth multiplies blocks. Input px",
    "is the paper's; params are at 1,000 classes and RGB.",
)
TITLE = f"EfficientNet-B0 on {IMAGE_PX}×{IMAGE_PX} glyphs"
SUBTITLE = "Each slab is a layer's output: cells count positions, depth grows with the channels."


class Layer(NamedTuple):
    """One column of the diagram: the layer, and the map that comes out of it."""

    name: str
    detail: str
    kernel_px: int | None
    stride: int | None
    channels: int | None  # None: one per class
    num_blocks: int | None
    map_px: int


def layers(variant: Variant) -> list[Layer]:
    """Every layer in order, with its output's size for an image of `IMAGE_PX`."""
    px = math.ceil(IMAGE_PX / STEM_STRIDE)
    stem, head = (
        round_filters(c, variant.width) for c in (variants.STEM_CHANNELS, variants.HEAD_CHANNELS)
    )
    found = [Layer("stem", "conv 3×3", 3, STEM_STRIDE, stem, None, px)]
    for stage in STAGES:
        px, k = math.ceil(px / stage.stride), stage.kernel_px
        channels = round_filters(stage.out_channels, variant.width)
        num_blocks = round_repeats(stage.num_blocks, variant.depth)
        name = f"MBConv{stage.expand_ratio}"
        found.append(Layer(name, f"{k}×{k}", k, stage.stride, channels, num_blocks, px))
    found.append(Layer("head", "conv 1×1", 1, 1, head, None, px))
    return [
        *found,
        Layer("global", "average", None, None, head, None, 1),
        Layer("dropout", f"{variant.dropout}", None, None, head, None, 1),
        Layer("linear", "logits", None, None, None, None, 1),
    ]


def count_parameters(variant: Variant, num_classes: int, in_channels: int) -> int:
    """The trained numbers of the whole network; batch statistics are not among them."""
    channels = round_filters(variants.STEM_CHANNELS, variant.width)
    total = 9 * in_channels * channels + 2 * channels
    for stage in STAGES:
        out = round_filters(stage.out_channels, variant.width)
        for _ in range(round_repeats(stage.num_blocks, variant.depth)):
            wide, squeezed = channels * stage.expand_ratio, max(1, channels // 4)
            total += (channels + 2) * wide if stage.expand_ratio != 1 else 0
            total += (stage.kernel_px**2 + 2) * wide + (wide + 2) * out
            total += (wide + 1) * squeezed + (squeezed + 1) * wide
            channels = out
    head = round_filters(variants.HEAD_CHANNELS, variant.width)
    return total + (channels + 2) * head + (head + 1) * num_classes


def brushed_glyph() -> np.ndarray:
    """A white の on black, float [IMAGE_PX, IMAGE_PX] in 0..1."""
    points = np.array([BRUSH[0], *BRUSH, BRUSH[-1]]) * IMAGE_PX / 100
    t = np.linspace(0, 1, 24, endpoint=False)[:, None, None]
    a, b, c, d = (points[i : len(points) - 3 + i] for i in range(4))  # Catmull-Rom
    curve = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
    curve = (curve + (3 * b - a - 3 * c + d) * t**3) / 2
    x, y, radius = curve.reshape(-1, 3).T
    centre = np.arange(IMAGE_PX) + 0.5
    away = np.hypot(centre[None, :, None] - x, centre[:, None, None] - y) - radius
    return np.clip(0.5 - away.min(axis=-1), 0, 1)


def write(axes: Axes, x, y, text, px=BODY_PX, colour=INK, weight="normal", ha="center") -> None:
    """Text with its middle at height `y`; sizes are pixels of the PNG."""
    style = {"fontsize": px * 72 / DPI, "color": colour, "weight": weight}
    axes.text(x, y, text, ha=ha, va="center_baseline", **style)


def box(axes: Axes, x, y, width, height, face, edge, radius=8, line="-") -> FancyBboxPatch:
    shape = f"round,pad=0,rounding_size={radius}"
    patch = FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=face, ec=edge, lw=1.1, ls=line)
    axes.add_patch(patch)
    return patch


def panel(axes: Axes, x, y, width, height, title, notes) -> None:
    box(axes, x, y, width, height, PANEL, RULE, radius=12)
    write(axes, x + 24, y + 32, title, HEADING_PX, INK, "bold", "left")
    for i, note in enumerate(reversed(notes)):
        write(axes, x + 24, y + height - 24 - 26 * i, note, NOTE_PX, FAINT, ha="left")


def arrow(axes: Axes, *points: tuple[float, float]) -> None:
    """A line through the points, with the head drawn apart so that corners stay square."""
    axes.plot(*zip(*points, strict=True), color=FAINT, lw=1.3, solid_capstyle="butt")
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (x - x0) / math.hypot(x - x0, y - y0), (y - y0) / math.hypot(x - x0, y - y0)
    wings = [(x - 9 * dx - s * 4.5 * dy, y - 9 * dy + s * 4.5 * dx) for s in (1, -1)]
    axes.add_patch(Polygon([(x, y), *wings], closed=True, fc=FAINT, ec="none"))


def draw_map(axes: Axes, x: float, y: float, layer: Layer) -> tuple[float, float]:
    """The layer's output as a slab around (x, y); returns where its left and right sides are."""
    light, full = COLOURS[layer.kernel_px]
    side = 14 + 14.2 * math.log2(layer.map_px)
    dx = 5.0 * (math.log2(layer.channels) - 3.2) if layer.channels else 0
    left, top = x - (side + dx) / 2, y - side / 2 + dx / 4
    right, bottom, dy = left + side, top + side, -dx / 2
    over = [(left, top), (left + dx, top + dy), (right + dx, top + dy), (right, top)]
    beside = [(right, top), (right + dx, top + dy), (right + dx, bottom + dy), (right, bottom)]
    face = [(left, top), (right, top), (right, bottom), (left, bottom)]
    for corners, colour, alpha in ((over, full, 0.55), (beside, full, 0.8), (face, light, 1)):
        axes.add_patch(Polygon(corners, closed=True, fc=PAPER, ec="none"))
        axes.add_patch(Polygon(corners, closed=True, fc=colour, ec="none", alpha=alpha))
    ticks = [side * i / layer.map_px for i in range(1, layer.map_px)]
    lines = [((left + at, top), (left + at, bottom)) for at in ticks]
    lines += [((left, top + at), (right, top + at)) for at in ticks]
    grid = LineCollection(lines, colors=full, lw=0.9 if layer.map_px < 16 else 0.35, alpha=0.7)
    axes.add_collection(grid)
    axes.add_patch(Polygon(face, closed=True, fc="none", ec=full, lw=1.2, joinstyle="miter"))
    return left, right + dx


def draw_network(axes: Axes) -> None:
    columns = layers(VARIANTS["b0"])
    middle, chip_y, right = 206, 306, 166.0
    extent = (40, 166, middle + 63, middle - 63)
    axes.imshow(brushed_glyph(), cmap="gray", extent=extent, interpolation="none", zorder=2)
    write(axes, 103, chip_y + 16, "input", BODY_PX, INK, "bold")
    write(axes, 103, chip_y + 42, f"{IMAGE_PX}×{IMAGE_PX}×1", BODY_PX)
    rows = {"stride": 392, "blocks": 426, "channels": 460, "map": 494}
    for name, y in rows.items():
        write(axes, 40, y, name, BODY_PX, FAINT, ha="left")
        axes.plot([40, 1560], [y - 17] * 2, color=RULE, lw=0.8)
    for x, layer in zip(np.linspace(250, 1507, len(columns)), columns, strict=True):
        came_from, (left, right) = right, draw_map(axes, x, middle, layer)
        arrow(axes, (came_from + 5, middle), (left - 4, middle))
        light, full = COLOURS[layer.kernel_px]
        box(axes, x - 53, chip_y, 106, 60, light, full)
        write(axes, x, chip_y + 18, layer.name, NOTE_PX, full, "bold")
        write(axes, x, chip_y + 43, layer.detail, BODY_PX, INK)
        write(axes, x, rows["stride"], layer.stride or "–")
        write(axes, x, rows["blocks"], f"×{layer.num_blocks}" if layer.num_blocks else "–")
        write(axes, x, rows["channels"], layer.channels or "classes")
        write(axes, x, rows["map"], f"{layer.map_px}×{layer.map_px}")


def draw_legend(axes: Axes, y: float) -> None:
    write(axes, 1168, y, "kernel", BODY_PX, FAINT, ha="right")
    for i, (kernel, label) in enumerate({1: "1×1", 3: "3×3", 5: "5×5", None: "none"}.items()):
        box(axes, 1192 + i * 94, y - 11, 22, 22, *COLOURS[kernel], radius=4)
        write(axes, 1223 + i * 94, y, label, BODY_PX, ha="left")


def draw_block(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    """What one MBConv block does."""
    panel(axes, x, y, width, height, "Inside an MBConv block", BLOCK_NOTES)
    middle, tall, wide, gap = y + 188, 104, 157, 20
    starts = [x + 62 + i * (wide + gap) for i in range(len(BLOCK_STEPS))]
    ends = [start + wide for start in starts]
    for start, (kernel, name, *lines) in zip(starts, BLOCK_STEPS, strict=True):
        light, full = COLOURS[kernel]
        box(axes, start, middle - tall / 2, wide, tall, light, full)
        if name == "depthwise":  # 3×3 in some stages, 5×5 in others: half of each
            half = box(axes, start, middle - tall / 2, wide, tall, *COLOURS[5])
            corner = (start + wide / 2, middle - tall)
            half.set_clip_path(Rectangle(corner, wide, 2 * tall, transform=axes.transData))
            full = INK
        for i, line in enumerate(lines):
            write(axes, start + wide / 2, middle + 3 + 27 * i, line)
        write(axes, start + wide / 2, middle - 28, name, NOTE_PX, full, "bold")
    drop, plus = ends[-1] + gap, ends[-1] + gap + 108
    for end, start in zip([x + 18, *ends], [*starts, drop], strict=True):
        arrow(axes, (end + 1, middle), (start - 2, middle))
    box(axes, drop, middle - 33, 74, 66, *COLOURS[None], line="--")
    for dy, word in ((-12, "drop-"), (14, "path")):
        write(axes, drop + 37, middle + dy, word, NOTE_PX, COLOURS[None][1], "bold")
    arrow(axes, (drop + 75, middle), (plus - 16, middle))
    arrow(axes, (plus + 14, middle), (x + width - 12, middle))
    over, fork = middle - tall / 2 - 32, x + 40
    arrow(axes, (fork, middle), (fork, over), (plus, over), (plus, middle - 16))
    axes.add_patch(Circle((fork, middle), 4.5, fc=FAINT, ec="none"))
    axes.add_patch(Circle((plus, middle), 14, fc=PAPER, ec=FAINT, lw=1.3))
    for dx, dy in ((7, 0), (0, 7)):
        axes.plot([plus - dx, plus + dx], [middle - dy, middle + dy], color=INK, lw=1.6)
    write(axes, (fork + plus) / 2, over - 17, RESIDUAL, BODY_PX, FAINT)
    under, pace, full = middle + tall / 2 + 64, 124, COLOURS[1][1]
    begin, spot = x + 150, starts[2] + wide / 2
    for i, name in enumerate(EXCITE_STEPS):
        left = begin + i * pace
        box(axes, left - 51, under - 19, 102, 38, PAPER, full, radius=19)
        write(axes, left, under, name)
        if i:
            arrow(axes, (left - pace + 52, under), (left - 53, under))
    for edge in (begin - 51, begin + 5 * pace + 51):
        line = (spot, middle + tall / 2 + 1), (spot, under - 42), (edge, under - 42)
        axes.plot(*zip(*line, (edge, under - 30), strict=True), color=full, lw=1.1)


def draw_family(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    """The table of B0 to B7."""
    panel(axes, x, y, width, height, "The family", FAMILY_NOTES)
    stops = [x + width * share for share in (0.285, 0.42, 0.61, 0.785, 0.95)]
    box(axes, x + 12, y + 94, width - 24, 34, COLOURS[3][0], "none", radius=6)
    for stop, head in zip(stops, FAMILY_HEADS, strict=True):
        write(axes, stop, y + 74, head, BODY_PX, FAINT, ha="right")
    for i, name in enumerate(name for name in VARIANTS if name.startswith("b")):
        variant, middle = VARIANTS[name], y + 111 + 33.5 * i
        millions = count_parameters(variant, num_classes=1000, in_channels=3) / 1e6
        cells = [f"{variant.width:.1f}", f"{variant.depth:.1f}", variant.image_px]
        cells += [f"{variant.dropout:.1f}", f"{millions:.1f} M"]
        write(axes, x + 28, middle, name.upper(), BODY_PX, COLOURS[3][1], "bold", "left")
        for stop, cell in zip(stops, cells, strict=True):
            write(axes, stop, middle, cell, ha="right")
        if i > 1:
            axes.plot([x + 24, x + width - 24], [middle - 17] * 2, color=RULE, lw=0.8)


def draw() -> Figure:
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    box(axes, 3, 3, WIDTH_PX - 6, HEIGHT_PX - 6, PAPER, RULE, radius=16)
    write(axes, 40, 50, TITLE, TITLE_PX, INK, "bold", "left")
    write(axes, 40, 92, SUBTITLE, BODY_PX, FAINT, ha="left")
    draw_legend(axes, 50)
    draw_network(axes)
    draw_block(axes, 40, 540, 920, 434)
    draw_family(axes, 984, 540, 576, 434)
    axes.set(xlim=(0, WIDTH_PX), ylim=(HEIGHT_PX, 0), aspect="auto")
    axes.axis("off")
    return figure


def save(folder: Path) -> None:
    """Writes both files, the same bytes at every run under one version of matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure = draw()
        for name, unsaid in (("svg", ("Date", "Creator")), ("png", ("Software",))):
            path = folder / f"architecture.{name}"
            figure.savefig(path, metadata=dict.fromkeys(unsaid), facecolor="none")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the network's architecture.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    save(parser.parse_args().out)


if __name__ == "__main__":
    main()
