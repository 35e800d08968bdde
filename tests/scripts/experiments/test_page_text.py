"""The text of pages: edits, neighbours and shares, on cases that can be counted by hand."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/page_text")


def _score(script: ModuleType, **changes: Any) -> Any:
    whole = {
        "page": "b1_1",
        "codepoints": ["U+3042", "U+6625", "U+6625", "U+3044"],
        "best": ["U+3042", "U+6625", "U+590F", "U+3042"],
        "is_accepted": [True, True, False, True],
        "found_orders": [0, 1, 3, 2],
        "text": "あ春\n〓あ\n",
        "best_text": "あ春夏あ",
        "truth": "あ春春い",
    }
    return script.PageScore(**{**whole, **changes})


@pytest.mark.parametrize(
    ("read", "truth", "edits"),
    [
        ("", "", 0),
        ("あい", "", 2),
        ("", "あい", 2),
        ("あいう", "あいう", 0),
        ("あう", "あいう", 1),
        ("あいいう", "あいう", 1),
        ("かいう", "あいえ", 2),
        ("いうえ", "あいう", 2),
        ("kitten", "sitting", 3),
    ],
)
def test_edits_are_counted_as_levenshtein_does(
    read: str, truth: str, edits: int, script: ModuleType
):
    assert script.distance(read, truth) == edits


def test_characters_that_stand_in_the_text_are_told_from_best_candidates(script: ModuleType):
    kana, kanji = script.characters_of([_score(script)], None)
    assert (kana["script"], kana["n"], kana["best"]["value"]) == ("kana", 2, 0.5)
    assert (kana["accepted"]["value"], kana["accepted_right"]["value"]) == (1.0, 0.5)
    assert (kanji["n"], kanji["best"]["value"], kanji["accepted"]["value"]) == (2, 0.5, 0.5)
    assert (kanji["accepted_right"]["n"], kanji["in_text"]["value"]) == (1, 0.5)


def test_neighbours_are_counted_over_the_pages_that_know_their_order(script: ModuleType):
    scores = [
        _score(script),
        _score(script, found_orders=[5, 8, 9]),
        _score(script, found_orders=[]),
    ]
    found = script.order_of(scores)
    assert found["pages"] == 2
    # 0-1 of 0-1, 1-2, 2-3 (the last two came the other way round), and 5-8, 8-9
    assert (found["pairs_kept"]["n"], found["pairs_kept"]["value"]) == (5, 0.6)
    assert found["min_tau"] == pytest.approx(2 / 3) and found["mean_tau"] == pytest.approx(5 / 6)


def test_texts_are_scored_by_their_edits_and_pages_without_a_text_are_not(script: ModuleType):
    found = script.texts_of([_score(script), _score(script, truth="")])
    assert (found["pages"], found["n"]) == (1, 4)
    assert found["best"] == 0.5 and found["transcript"] == 0.5
