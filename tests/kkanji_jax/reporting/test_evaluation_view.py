"""One view of eval.json: the same names, numbers and gaps in every report."""

import json
from pathlib import Path
from typing import Any

import pytest

from kkanji_jax.data.manifest import LEAKY_PROTOCOL
from kkanji_jax.reporting.evaluation_view import EvaluationView, Score


def share(value: float | None, n: int = 200) -> dict[str, Any]:
    return {"value": value, "n": n, "ci95": None if value is None else [value / 2, value]}


@pytest.fixture
def content() -> dict[str, Any]:
    """As little as an eval.json may hold."""
    return {"split": "test", "num_examples": 200, "weights": "ema", "protocol": "honest"}


def test_a_share_is_in_per_cent_and_a_loss_is_not(content: dict[str, Any]):
    found = EvaluationView.of(content | {"loss": share(0.5), "top1": share(0.25)})
    top1, loss = found.scores["top1"], found.scores["loss"]
    assert (top1.shown(), top1.interval(), top1.with_interval()) == (
        "25.00 %",
        "12.50–25.00",
        "25.0 % (12.5–25.0)",
    )
    assert (loss.shown(), loss.interval(), loss.with_interval()) == (
        "0.5000",
        "0.2500–0.5000",
        "0.500 (0.250–0.500)",
    )


def test_a_missing_number_is_a_dash_and_never_zero(content: dict[str, Any]):
    found = EvaluationView.of(content | {"top1": share(None, n=0)})
    top1 = found.scores["top1"]
    assert (top1.shown(), top1.interval(), top1.with_interval(), top1.n) == ("–", "–", "–", 0)
    assert Score.of("x", share(0.0)).shown() == "0.00 %"
    assert Score.of("x", {"value": 0.5, "n": 3, "ci95": None}).with_interval() == "50.0 %"


def test_an_eval_json_of_an_older_version_lacks_parts_but_is_read(content: dict[str, Any]):
    found = EvaluationView.of(content)
    assert found.scores == {} and found.verdicts == () and found.unknown is None
    assert found.accepted is None and found.warning is None and found.weights == "EMA"


def test_scores_stand_in_one_order_and_none_is_repeated(content: dict[str, Any]):
    names = ("loss", "weighted_recall", "macro_recall", "own", "macro", "top1", "ece_calibrated")
    found = EvaluationView.of(content | {name: share(0.5) for name in names})
    assert [score.name for score in found.scores.values()] == [
        "top-1",
        "macro recall",
        "ECE, calibrated",
        "loss, nats",
        "own",
    ]


def test_scores_of_other_images_keep_their_own_names(content: dict[str, Any]):
    found = EvaluationView.of(content | {"top-1, kanji it knows": share(0.75, n=225)})
    (score,) = found.scores.values()
    assert (score.name, score.shown(), score.n) == ("top-1, kanji it knows", "75.00 %", 225)


def test_only_a_split_of_a_dataset_is_called_a_split(content: dict[str, Any]):
    assert EvaluationView.of(content).images == "test split"
    crops = EvaluationView.of(content | {"split": "photographed crops of one book"})
    assert crops.images == "photographed crops of one book"


def test_a_leaky_split_is_told(content: dict[str, Any]):
    warning = EvaluationView.of(content | {"protocol": LEAKY_PROTOCOL}).warning
    assert warning is not None and "LEGACY" in warning
    assert EvaluationView.of(content).warning is None


def test_every_part_of_a_real_eval_json_is_in_the_view(evaluated_run: Path):
    content = json.loads((evaluated_run / "eval/test/eval.json").read_text("utf-8"))
    found = EvaluationView.of(content)
    assert found.scores["top1"].value == content["top1"]["value"]
    assert found.scores["aurc"].ci95 == tuple(content["risk_coverage"]["aurc"]["ci95"])
    assert [row.label for row in found.class_sizes][:2] == ["1", "2-4"]
    assert sum(row.top1.n for row in found.filled_class_sizes) == content["num_examples"]
    for verdict, row in zip(found.verdicts, content["verdicts"], strict=True):
        assert verdict.name == row["verdict"]
        assert verdict.accuracy.value == row["accuracy"]["value"]
        assert verdict.coverage.value == row["coverage"]["value"]
        assert verdict.stated_accuracy.value == row["stated_accuracy"]
    assert {group.name for group in found.scripts} == {row["name"] for row in content["by_script"]}
    assert found.interval_method == content["intervals"]["method"]
