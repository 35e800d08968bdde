"""A model card says what was measured, what fails, and what nobody knows."""

import json
from pathlib import Path
from typing import Any

import pytest

from kkanji_jax.config import default_config
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.csv_tables import read_csv
from kkanji_jax.reporting.model_card import RunRecords, model_card
from kkanji_jax.saved.trained import Trained


@pytest.fixture(scope="module")
def facts(evaluated_run: Path) -> dict[str, Any]:
    """What `card_of` makes a card of, from a run evaluated on test and val."""
    index = ClassIndex.load(evaluated_run / "index.json")
    return {
        "about": {"weights": "ema", "step": 7},
        "config": default_config().to_dict(),
        "class_index": index,
        "train_counts": dict.fromkeys(index.codepoints, 1000),
        "environment": {"command": ["/opt/me/train.py", "--workdir=/tmp/x/b0", "a|b"]},
        "scores": {
            name: json.loads((evaluated_run / "eval" / name / "eval.json").read_text("utf-8"))
            for name in ("test", "val")
        },
        "calibration": {"temperature": 1.0},
        "dtype": "float16",
        "last_line": {"step": 7, "examples": 5600, "epoch": 2.0, "elapsed_s": 600.0},
        "confusions": read_csv(evaluated_run / "eval" / "test" / "confusions.csv"),
    }


def card_of(*, about: dict[str, Any], dtype: str, **facts: Any) -> str:
    """The card of a run with these facts; it needs no weights."""
    records = RunRecords(**{name: facts.pop(name) for name in RunRecords._fields})
    trained = Trained(
        path=Path("run"),
        is_bundle=False,
        params={},
        batch_stats={},
        weights=about["weights"],
        step=about["step"],
        identity={},
        warm_start=None,
        **facts,
    )
    return model_card(trained, about, records, dtype)


def rows_of(card: str) -> list[list[str]]:
    """The cells of every table row."""
    lines = [line.replace("\\|", "BAR") for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_table_is_whole_and_no_line_is_left_of_the_template(facts: dict[str, Any]):
    card = card_of(**facts)
    rows = rows_of(card)
    assert {len(row) for row in rows} == {2, 4}
    assert "{{" not in card and "{%" not in card and "\n\n\n" not in card
    blocks = [block.splitlines() for block in card.split("\n\n")]
    tables = [block for block in blocks if block[0].startswith("|")]
    assert len(tables) == 3 and all(line.startswith("|") for table in tables for line in table)
    assert all(set(table[1]) <= set("|-") for table in tables)


def test_its_scores_are_those_of_eval_json(facts: dict[str, Any]):
    for name in ("test", "val"):
        section = card_of(**facts).split(f"`{name}`: ")[1].split("\n\n`")[0]
        content, rows = facts["scores"][name], {row[0]: row[1:] for row in rows_of(section)}
        low, high = content["top1"]["ci95"]
        assert rows["top-1"] == [
            f"{100 * content['top1']['value']:.2f} %",
            f"{100 * low:.2f}–{100 * high:.2f}",
            str(content["num_examples"]),
        ]
        for row in content["verdicts"]:
            if row["accuracy"]["value"] is not None:
                shown = f"{100 * row['accuracy']['value']:.2f} %"
                assert rows[f"right among `{row['verdict']}`"][0] == shown
        for row in content["by_class_size"]:
            if row["n"]:
                label = (
                    str(row["min"]) if row["min"] == row["max"] else f"{row['min']}-{row['max']}"
                )
                (cells,) = (
                    v for k, v in rows.items() if k.startswith(f"top-1 in classes of {label} ")
                )
                assert cells[0] == f"{100 * row['top1']:.2f} %" and cells[2] == str(row["n"])


def test_it_tells_the_command_without_the_folders_of_a_machine(facts: dict[str, Any]):
    card = card_of(**facts)
    assert "`python -m kkanji_jax.train --workdir=b0 a\\|b`" in card
    assert "/opt" not in card and "/tmp" not in card
    assert "5,600 images shown in 7 steps (2.0 epochs), 10 minutes" in card


def test_failures_are_of_test_alone_and_what_was_not_measured_is_listed(facts: dict[str, Any]):
    card = card_of(**facts)
    failures = card.split("## Known failures")[1].split("## Not measured")[0]
    first = facts["confusions"][0]
    told = f"{first['true_character']} as {first['predicted_character']} ({first['count']})"
    assert told in failures and failures.count("Most frequent confusions") == 1
    assert "`evaluate --unknown`" in card and "not calibrated" not in card
    with_val: dict[str, Any] = facts | {"scores": {"val": facts["scores"]["val"]}}
    only_val = card_of(**with_val)
    assert "## Known failures" not in only_val and "`evaluate --of test`" in only_val


def test_a_run_without_evaluation_or_calibration_says_so(facts: dict[str, Any]):
    nothing: dict[str, Any] = {"scores": {}, "calibration": None, "confusions": []}
    card = card_of(**facts | nothing)
    assert "None: the run was exported without an evaluation." in card
    assert "they are not calibrated" in card and "stored as float16" in card
    assert "{'" not in card and card.endswith("does not hold\n")


def test_it_says_which_scores_are_of_the_rounded_weights(facts: dict[str, Any]):
    assert "stored as float16. The scores are of float32." in card_of(**facts)
    scores = facts["scores"] | {"int8": facts["scores"]["test"]}
    told = "`int8` scores weights rounded to int8; the other tables score the run's own"
    assert f"stored as int8. {told}" in card_of(**facts | {"scores": scores, "dtype": "int8"})
    assert "stored as float16. The scores are of float32." in card_of(**facts | {"scores": scores})


def test_kana_stand_first_and_those_with_few_images_are_named(facts: dict[str, Any]):
    index = ClassIndex.from_codepoints(["U+3042", "U+3048", "U+6625", "U+0041"])
    counts = {"U+3042": 60, "U+3048": 4, "U+6625": 100, "U+0041": 12}
    card = card_of(**facts | {"class_index": index, "train_counts": counts})
    expected = "2 kana: あえ. Of these it has learnt from fewer than 10 images each: え 4. 1 kanji"
    assert f"{expected} and 1 other signs; all of them are in `index.json`." in card
    assert card.index("## Characters it knows") < card.index("## Data and licence")
    assert "0 kana: none. 6 kanji; all" in card_of(**facts)


def test_photographs_are_attributed_and_what_accept_is_worth_on_them_is_told(
    facts: dict[str, Any],
):
    assert "00000340" not in card_of(**facts)
    test = facts["scores"]["test"]
    photographed = test["by_look"][0] | {"name": "photographed kana"}
    source = test["by_source"][0] | {"name": "char-shape"}
    met = test | {
        "by_look": [photographed, *test["by_look"]],
        "by_source": [source, *test["by_source"]],
    }
    with_test: dict[str, Any] = facts | {"scores": {"test": met}}
    card = card_of(**with_test)
    assert "doi:10.20676/00000341, and from 『日本古典籍くずし字データセット』" in card
    rows = {row[0]: row[1:] for row in rows_of(card)}
    accept = photographed["verdicts"][0]
    assert rows["top-1, photographed kana"][0] == rows["top-1"][0]
    assert rows["right among `accept` of photographed kana"][2] == str(accept["accuracy"]["n"])
    assert rows["share of `accept` of photographed kana"][0] == (
        f"{100 * accept['coverage']['value']:.2f} %"
    )


def test_weights_between_two_models_are_said_to_be(facts: dict[str, Any]):
    assert "| averaged |" not in card_of(**facts)
    other = {"share_of_the_run": 0.85, "folder": "b0", "step": 13720}
    about = facts["about"] | {"warm_start": {"averaged_with": other}}
    card = card_of(**facts | {"about": about})
    assert (
        "| averaged | 85 % of the run's weights, 15 % of those of `b0` as it was then, step 13720"
        in card
    )


def test_logits_that_were_raised_after_training_are_told(facts: dict[str, Any]):
    assert "| adjusted |" not in card_of(**facts)
    how = {"factor": 0.2, "below": 100, "kana": 0.75}
    about = facts["about"] | {"warm_start": {"logit_adjustment": how}}
    card = card_of(**facts | {"about": about})
    assert "| adjusted | after training, 0.2 log(100/n) was added to the logit" in card
    assert "fewer than 100, and 0.75 to that of each kana" in card
