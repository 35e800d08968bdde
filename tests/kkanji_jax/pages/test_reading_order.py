"""The order of reading: layouts whose order is known, drawn and found again."""

import csv
import itertools
import math
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.pages.reading_order import columns_of

Place = tuple[int, int, int, int]
SCANS = (
    Path(os.environ["KKANJI_CROPS"]).parent / "page_scans" if "KKANJI_CROPS" in os.environ else None
)


def _column(
    x: float, top: float, count: int, rng: np.random.Generator, size: int = 80
) -> list[Place]:
    """Characters of uneven size and distance, from top to bottom; x is their middle."""
    places = []
    y = top
    for _ in range(count):
        width, height = (int(size * rng.uniform(0.55, 1)) for _ in range(2))
        middle = x + rng.uniform(-0.1, 0.1) * size
        places.append((round(middle - width / 2), round(y), width, height))
        y += height + size * rng.uniform(0, 0.4)
    return places


def _page(
    x: float, num_columns: int, rng: np.random.Generator, top: float = 100
) -> list[list[Place]]:
    """Columns from right to left, the rightmost at x; of 8 to 12 characters."""
    return [
        _column(x - 120 * number, top, int(rng.integers(8, 13)), rng)
        for number in range(num_columns)
    ]


def _found(columns: list[list[Place]], rng: np.random.Generator) -> list[list[int]]:
    """The columns that are found in shuffled boxes, told by the numbers of the true order."""
    places = list(itertools.chain(*columns))
    shuffle = rng.permutation(len(places))
    found = columns_of([places[number] for number in shuffle])
    return [[int(shuffle[number]) for number in column] for column in found]


def _true(columns: list[list[Place]]) -> list[list[int]]:
    numbers = iter(range(sum(map(len, columns))))
    return [list(itertools.islice(numbers, len(column))) for column in columns]


def test_columns_are_read_from_right_to_left_and_each_from_top_to_bottom(rng: np.random.Generator):
    columns = _page(1500, 10, rng)
    assert _found(columns, rng) == _true(columns)


@pytest.mark.parametrize("degrees", [-6, -3, 3, 6])
def test_a_page_may_lean(degrees: float, rng: np.random.Generator):
    columns = _page(1500, 10, rng)
    turn = math.radians(degrees)
    leaning = [
        [
            (round(x + y * math.sin(turn)), round(y - x * math.sin(turn)), width, height)
            for x, y, width, height in column
        ]
        for column in columns
    ]
    assert _found(leaning, rng) == _true(columns)


@pytest.mark.parametrize("degrees", [-13, -10, 10, 13])
def test_short_columns_between_long_ones_keep_their_place_on_a_leaning_page(
    degrees: float, rng: np.random.Generator
):
    """The middle of a short column is then beside the middle of the next but one."""
    columns = [_column(1500 - 95 * k, 100, (3, 16)[k % 2], rng) for k in range(8)]
    lean = math.tan(math.radians(degrees))
    leaning = [
        [(round(x + y * lean), y, width, height) for x, y, width, height in column]
        for column in columns
    ]
    assert _found(leaning, rng) == _true(columns)


def test_many_small_characters_do_not_make_the_others_columns_of_one_each(
    rng: np.random.Generator,
):
    """Four of five boxes are reading aids; the characters beside them zigzag."""
    columns: list[list[Place]] = []
    for x in (1500, 1310, 1120, 930):
        columns.append([(x + 62, 100 + 34 * k, 22, 26) for k in range(30)])
        columns.append([(x - 38 + (20, -20)[k % 2], 100 + 150 * k, 76, 76) for k in range(8)])
    assert _found(columns, rng) == _true(columns)


def test_columns_may_bend_and_begin_at_different_heights(rng: np.random.Generator):
    columns = [
        _column(1500 - 120 * number, 100 + 90 * (number % 4), 10, rng) for number in range(8)
    ]
    bent = [
        [(round(x + 40 * math.sin(y / 500)), y, width, height) for x, y, width, height in column]
        for column in columns
    ]
    assert _found(bent, rng) == _true(columns)


def test_a_gap_inside_a_column_does_not_end_it(rng: np.random.Generator):
    columns = _page(1500, 6, rng)
    gone = columns[2][:3] + columns[2][8:]
    columns[2] = gone
    assert _found(columns, rng) == _true(columns)


def test_of_two_pages_the_right_one_is_read_first_with_all_its_registers(rng: np.random.Generator):
    def spread(x: float) -> list[list[Place]]:
        upper = [_column(x - 120 * number, 100, 6, rng) for number in range(5)]
        return upper + [_column(x - 120 * number, 1000, 6, rng) for number in range(5)]

    columns = spread(2600) + spread(1300)
    assert _found(columns, rng) == _true(columns)


def test_columns_that_stand_apart_are_no_pages_of_their_own(rng: np.random.Generator):
    columns = [_column(1500 - 190 * x, top, 6, rng) for top in (100, 1000) for x in range(4)]
    assert _found(columns, rng) == _true(columns)


def test_a_blank_across_a_few_columns_is_no_border_of_registers(rng: np.random.Generator):
    columns = [
        _column(1500, 100, 4, rng) + _column(1500, 1000, 4, rng),
        _column(1380, 100, 4, rng) + _column(1380, 1000, 4, rng),
    ]
    assert _found(columns, rng) == _true(columns)


def test_notes_in_two_narrow_columns_are_read_right_half_first(rng: np.random.Generator):
    columns = _page(1500, 5, rng)
    above = _column(1020, 100, 4, rng)
    top = above[-1][1] + above[-1][3] + 20
    right = [(1025, top + 45 * number, 34, 40) for number in range(4)]
    left = [(980, top + 4 + 45 * number, 34, 40) for number in range(3)]
    below = _column(1020, top + 200, 4, rng)
    columns[4] = above + right + left + below
    assert _found(columns, rng) == _true(columns)


def test_small_characters_at_the_right_are_a_line_of_their_own(rng: np.random.Generator):
    columns = _page(1500, 4, rng)
    aids = [(1312, 140 + 40 * number, 26, 32) for number in range(5)]
    columns.insert(2, aids)  # between the second column, at 1380, and the third, at 1260
    assert _found(columns, rng) == _true(columns)


@pytest.mark.parametrize("count", [0, 1, 2, 150])
def test_every_box_comes_exactly_once_wherever_it_lies(count: int, rng: np.random.Generator):
    places = [tuple(map(int, each)) for each in rng.integers(0, 1000, (count, 4))]
    places += places[: count // 2]
    found = list(itertools.chain(*columns_of(places)))  # pyright: ignore[reportArgumentType]
    assert sorted(found) == list(range(len(places)))


def test_scattered_boxes_do_not_take_long(rng: np.random.Generator):
    import time

    places = [(int(x), int(y), 3, 3) for x, y in rng.integers(0, 40_000, (300, 2))]
    began_s = time.process_time()
    columns_of(places)
    assert time.process_time() - began_s < 30  # some 1 s


@pytest.mark.skipif(SCANS is None or not SCANS.is_dir(), reason="no KKANJI_CROPS with page_scans")
def test_the_order_of_real_pages_is_found():
    assert SCANS is not None
    pages: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (SCANS / "boxes.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            pages[row["page"]].append(row)
    kept = total = 0
    for rows in pages.values():
        places = [(int(row["x"]), int(row["y"]), int(row["w"]), int(row["h"])) for row in rows]
        found = itertools.chain(*columns_of(places))
        orders = [int(rows[number]["order"]) for number in found if rows[number]["order"]]
        wanted = sorted(orders)
        after = dict(itertools.pairwise(orders))
        kept += sum(after.get(first) == second for first, second in itertools.pairwise(wanted))
        total += max(len(wanted) - 1, 0)
    assert total == 1635
    assert kept / total >= 0.99  # 1,632
