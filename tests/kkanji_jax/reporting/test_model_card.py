"""The card names the kana a model knows, whose images it learnt from, and what photographs cost."""

from typing import Any

from kkanji_jax.config import default_config
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.reporting.model_card import model_card

INDEX = ClassIndex.from_codepoints(["U+3042", "U+3048", "U+6625", "U+0041"])
COUNTS = {"U+3042": 60, "U+3048": 4, "U+6625": 100, "U+0041": 12}


def score(value: float, n: int = 50) -> dict[str, Any]:
    return {"value": value, "n": n, "ci95": [value - 0.1, value]}


def card(scores: dict[str, Any], index: ClassIndex = INDEX) -> str:
    return model_card(
        about={"weights": "ema", "step": 7},
        config=default_config().to_dict(),
        class_index=index,
        train_counts=COUNTS,
        environment={},
        scores=scores,
        calibration=None,
        dtype="float16",
    )


def evaluation(*sources: str) -> dict[str, Any]:
    verdicts = [{"verdict": "accept", "accuracy": score(0.97, 30), "coverage": score(0.6)}]
    return {
        "split": "test",
        "num_examples": 50,
        "weights": "ema",
        "protocol": "honest",
        "by_source": [{"name": name} for name in sources],
        "by_look": [{"name": "photographed kana", "top1": score(0.8), "verdicts": verdicts}],
    }


def test_kana_stand_first_and_those_with_few_images_are_named():
    text = card({})
    assert "2 kana: あえ. Of these it has seen fewer than 10 images each: え 4." in text
    assert "1 kanji and 1 other signs; all of them are in `index.json`" in text
    assert text.index("## Characters it knows") < text.index("## Data and licence")
    kanji_only = ClassIndex.from_codepoints(["U+6625"])
    assert "0 kana: none. 1 kanji; all" in card({}, kanji_only)


def test_photographs_are_attributed_where_they_were_met():
    assert "00000340" not in card({"test": evaluation("kkanji")})
    text = card({"test": evaluation("kkanji"), "val": evaluation("char-shape", "kkanji")})
    assert "doi:10.20676/00000341, and from 『日本古典籍くずし字データセット』" in text
    assert text.count("00000340") == 1


def test_what_accept_is_worth_on_photographs_is_a_score():
    text = card({"test": evaluation("char-shape")})
    assert "| top-1, photographed kana | 0.8000 |" in text
    assert "| of photographed kana, right among `accept` | 0.9700 | 0.8700 to 0.9700 | 30 |" in text
