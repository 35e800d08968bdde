"""The tables of the paper, and what its rounding rules make of them."""

import math
import re
from pathlib import Path

import pytest

from kkanji_jax import create_model
from kkanji_jax.model.variants import (
    STAGES,
    blocks_of,
    get_variant,
    input_size,
    round_filters,
    round_repeats,
)


def test_widths_of_b2_are_those_of_the_authors_code() -> None:
    channels = (32, *(stage.out_channels for stage in STAGES))
    widths = [round_filters(c, get_variant("b2").width) for c in channels]
    assert widths == [32, 16, 24, 48, 88, 120, 208, 352]


def test_rounding_never_loses_more_than_a_tenth() -> None:
    assert round_filters(32, 0.6) == 24  # 19.2: the nearest multiple, 16, is below 17.28
    assert round_filters(80, 0.25) == 24  # 20 rounds up from half
    assert round_filters(16, 0.1) == 8  # never below the divisor


@pytest.mark.parametrize(
    ("name", "repeats"),
    [
        ("b0", [1, 2, 2, 3, 3, 4, 1]),
        ("b1", [2, 3, 3, 4, 4, 5, 2]),
        ("b7", [4, 7, 7, 10, 10, 13, 4]),
    ],
)
def test_repeats_are_rounded_up(name: str, repeats: list[int]) -> None:
    depth = get_variant(name).depth
    assert [round_repeats(stage.num_blocks, depth) for stage in STAGES] == repeats


def test_the_blocks_of_b0_are_those_of_table_1() -> None:
    blocks = blocks_of(get_variant("b0"))
    strides = [block.stride for block in blocks]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    kernels = [block.kernel_px for block in blocks]
    assert kernels == [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    assert [block.expand_ratio for block in blocks] == [1] + 15 * [6]
    assert [block.out_channels for block in blocks][-6:] == [112, 192, 192, 192, 192, 320]


def test_only_the_last_stride_can_be_removed() -> None:
    variant = get_variant("b1")
    paper, wide = blocks_of(variant), blocks_of(variant, last_stride=1)
    (changed,) = [number for number in range(len(paper)) if paper[number] != wide[number]]
    assert paper[changed] == wide[changed]._replace(stride=2)
    assert all(block.stride == 1 for block in paper[changed + 1 :])


def test_input_sizes_are_the_resolutions_of_the_paper() -> None:
    sizes = [input_size(f"b{number}") for number in range(8)]
    assert sizes == [224, 240, 260, 300, 380, 456, 528, 600]


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(ValueError, match=r"one of b0, b1, .*nano, not 'B3'; did you mean 'b3'\?"):
        get_variant("B3")
    with pytest.raises(ValueError, match=r"not 'resnet'$"):
        input_size("resnet")


def multiplications(px: int, stem_stride: int, last_stride: int) -> int:
    """Of an image in B0 with 300 classes: each weight once for each place that it is used at."""
    network = create_model("b0", 300, stem_stride=stem_stride, last_stride=last_stride)
    side = math.ceil(px / stem_stride)
    total = network.stem_kernel.size * side**2
    plan = blocks_of(get_variant("b0"), last_stride)
    for block, planned in zip(network.blocks, plan, strict=True):
        total += block.expand.kernel.size * side**2 if planned.expand_ratio > 1 else 0
        side = math.ceil(side / planned.stride)
        total += (block.depthwise_kernel.size + block.project.kernel.size) * side**2
        total += block.squeeze.kernel.size + block.excite.kernel.size
    return total + network.head.kernel.size * side**2 + network.classifier.kernel.size


def test_the_guide_states_what_strides_and_sizes_cost() -> None:
    guide = Path(__file__).parents[3] / "docs" / "training.md"
    rows = re.findall(
        r"\| (.*) \| [\d.]+ % \| [\d.]+ % \| (\d+) million \|", guide.read_text("utf-8")
    )
    told = {what: int(millions) for what, millions in rows}
    stem, last = "`--config.model.stem_stride=1", "`--config.model.last_stride=1`"
    costs = {
        "as in the paper, 64 px": multiplications(64, 2, 2),
        last: multiplications(64, 2, 1),
        f"{stem} --config.model.image_px=48`, as the released model": multiplications(48, 1, 2),
        f"{stem}`": multiplications(64, 1, 2),
    }
    assert told == {what: round(cost / 1e6) for what, cost in costs.items()}
