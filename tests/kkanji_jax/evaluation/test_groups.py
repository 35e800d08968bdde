"""Parts of a score: each is the score of its examples alone, and forms count only when asked."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kkanji_jax.data.class_index import ClassIndex, codepoint_of
from kkanji_jax.data.scripts import script_of
from kkanji_jax.evaluation.forward import Predictions
from kkanji_jax.evaluation.groups import (
    K49,
    KMNIST,
    by_group,
    by_script,
    by_source,
    form_pairs,
    group_scores,
    looks_and_scripts,
    official_columns,
    official_tests,
    variant_tolerant,
)

QUICK: dict[str, Any] = {"num_bootstrap": 20}


def index_of(characters: str) -> ClassIndex:
    return ClassIndex.from_codepoints(map(codepoint_of, characters))


def reading(index: ClassIndex, pairs: list[tuple[str, str]]) -> Predictions:
    """Predictions of (written, read and runners-up) characters."""
    ids = [[index.id_of(codepoint_of(c)) for c in written + read] for written, read in pairs]
    top_ids = np.array([row[1:] for row in ids], np.int32)
    probs = np.tile(np.linspace(0.6, 0.1, top_ids.shape[1], dtype=np.float32), (len(ids), 1))
    labels = np.array([row[0] for row in ids], np.int32)
    return Predictions(labels, top_ids, probs, np.zeros(len(ids), np.float32))


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("あ", "kana"),
        ("ゝ", "kana"),
        ("ア", "kana"),
        ("\U0001b002", "kana"),
        ("春", "kanji"),
        ("\U000241c6", "kanji"),
        ("\ufa1d", "kanji"),
        ("々", "kanji"),
        ("A", "other"),
        ("〓", "other"),
    ],
)
def test_a_script_is_told_by_the_code_point(character: str, script: str):
    assert script_of(codepoint_of(character)) == script


def test_each_part_is_the_score_of_its_examples_alone():
    index = index_of("あい春夏")
    pairs = [("あ", "あい"), ("い", "あい"), ("春", "春夏"), ("春", "あい"), ("夏", "夏春")]
    predictions = reading(index, pairs)
    kana, kanji = by_script(predictions, index, **QUICK)
    assert (kana["name"], kana["n"], kana["top1"]["value"]) == ("kana", 2, 0.5)
    assert (kana["macro"]["value"], kana["top5"]["value"]) == (0.5, 1.0)
    assert (kanji["n"], kanji["top1"]["value"]) == (3, pytest.approx(2 / 3))
    assert kanji["macro"]["value"] == 0.75 and kanji["macro"]["classes"] == 2
    ids = ["k49-test/000001", "k49-train/1", "kkanji/U+6625/a", "kkanji/U+6625/b", "kkanji/x"]
    rows = by_source(ids, predictions, len(index), **QUICK)
    assert [(row["name"], row["n"]) for row in rows] == [
        ("k49-test", 1),
        ("k49-train", 1),
        ("kkanji", 3),
    ]
    # One of one is no certainty: Wilson's bound is 1 / (1 + 1.96 ** 2).
    assert rows[0]["top1"]["ci95"] == [pytest.approx(0.2065, abs=1e-4), 1.0]


def test_looks_and_scripts_are_told_apart():
    index = index_of("あ春")
    predictions = reading(index, [("あ", "あ"), ("あ", "春"), ("春", "あ"), ("春", "春")])
    crop = "char-shape/U+3042/U+3042_200003076_00002_1_X0301_Y1012"
    ids = [crop, "kmnist-test/000001", crop, "kkanji/U+6625/a"]
    names = looks_and_scripts(ids, predictions, index)
    rows = by_group(names, predictions, len(index), **QUICK)
    assert [(row["name"], row["n"], row["top1"]["value"]) for row in rows] == [
        ("photographed kana", 1, 1.0),
        ("photographed kanji", 1, 0.0),
        ("published kana", 1, 0.0),
        ("published kanji", 1, 1.0),
    ]


def official(index: ClassIndex, labels: np.ndarray, read: np.ndarray, source: str, **more):
    probs = np.ones((len(labels), 1), np.float32)
    predictions = Predictions(labels, read[:, None], probs, probs[:, 0])
    ids = [f"{source}/{row:06d}" for row in range(len(labels))]
    columns = official_columns(source, index)
    assert columns is not None
    inside = np.where(np.isin(read, columns), read, columns[0]).astype(np.int32)
    return official_tests(ids, predictions, {source: inside}, index, **more, **QUICK)


def half_read(rng: np.random.Generator, labels: np.ndarray, num_classes: int) -> np.ndarray:
    guesses = rng.integers(0, num_classes, len(labels))
    return np.where(rng.random(len(labels)) < 0.6, labels, guesses).astype(np.int32)


def test_k49_is_scored_by_balanced_accuracy_at_the_size_of_its_official_test(rng):
    sk = pytest.importorskip("sklearn.metrics", reason="the reference implementation")
    index = index_of(K49 + "春夏秋冬")
    # As skewed as the official test: most classes have 1,000 images, some far fewer.
    sizes = np.array([1000] * 32 + [400] * 16 + [147])
    labels = np.repeat(np.arange(49), sizes).astype(np.int32)
    assert len(labels) == 38_547
    read = half_read(rng, labels, len(index))
    (row,) = official(index, labels, read, "k49-test")
    assert row["is_whole"] and row["n"] == 38_547 and row["measure"] == "balanced"
    # A class of the prediction that no example has is no class of balanced accuracy.
    recall = sk.recall_score(labels, read, labels=np.arange(49), average="macro")
    assert row["over_all_classes"]["value"] == pytest.approx(recall)
    formula = np.mean([(read[labels == c] == c).mean() for c in range(49)])
    assert row["over_all_classes"]["value"] == pytest.approx(formula)
    assert row["over_all_classes"]["value"] != pytest.approx((read == labels).mean(), abs=1e-4)
    assert row["among_its_classes"]["value"] >= row["over_all_classes"]["value"]


def test_the_real_labels_of_the_official_test_are_scored_whole(real_source: Path, rng):
    path = real_source / "labels_only" / "k49-test-labels.npz"
    if not path.is_file():
        pytest.skip(f"no labels of the whole official test at {path}")
    ids = np.load(path)["arr_0"]
    with (real_source / "k49_classmap.csv").open(encoding="utf-8", newline="") as file:
        characters = "".join(row["char"] for row in csv.DictReader(file))
    assert characters == K49  # the constant is CODH's own map, in its order
    index = index_of(K49)
    labels = np.array([index.id_of(codepoint_of(characters[i])) for i in ids], np.int32)
    read = half_read(rng, labels, 49)
    (row,) = official(index, labels, read, "k49-test")
    formula = np.mean([(read[labels == c] == c).mean() for c in range(49)])
    assert row["is_whole"] and row["over_all_classes"]["value"] == pytest.approx(formula)
    assert row["over_all_classes"]["classes"] == 49


def test_kmnist_is_scored_by_top1_and_a_pooled_test_not_at_all(rng: np.random.Generator):
    index = index_of(KMNIST + "春")
    labels = rng.integers(0, 10, 500).astype(np.int32)
    read = half_read(rng, labels, len(index))
    (row,) = official(index, labels, read, "kmnist-test")
    assert row["over_all_classes"]["value"] == pytest.approx((read == labels).mean())
    assert (row["n"], row["of"], row["is_whole"]) == (500, 10_000, False)
    (row,) = official(index, labels, read, "kmnist-test", pooled=["kmnist"])
    assert "over_all_classes" not in row and "pooled" in row["why_not"]


def test_an_index_without_all_kana_has_no_official_score():
    index = index_of("あい春")
    assert official_columns("k49-test", index) is None
    predictions = reading(index, [("あ", "あ")])
    (row,) = official_tests(["k49-test/000000"], predictions, {}, index, **QUICK)
    assert "does not know" in row["why_not"] and row["n"] == 1


FORMS = {"弁": "辨瓣", "来": "來"}


def forms_of(codepoint: str) -> set[str]:
    return set(map(codepoint_of, FORMS.get(chr(int(codepoint[2:], 16)), "")))


def test_another_form_counts_both_ways_but_not_along_a_chain():
    index = index_of("来來弁辨瓣春")
    pairs = [("来", "來春"), ("來", "来春"), ("辨", "弁瓣"), ("辨", "瓣春"), ("春", "春来")]
    predictions = reading(index, pairs)
    strict = group_scores(predictions.labels, predictions.top_ids, 6, **QUICK)
    tolerant = variant_tolerant(predictions, index, forms_of, **QUICK)
    assert strict["top1"]["value"] == 0.2 and tolerant["top1"]["value"] == 0.8
    assert tolerant["macro"]["value"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert tolerant["classes"] == 5


def test_without_forms_the_tolerant_score_is_the_strict_one(rng: np.random.Generator):
    index = index_of("来來弁辨瓣春")
    labels = rng.integers(0, 6, 200).astype(np.int32)
    top_ids = rng.permuted(np.tile(np.arange(6, dtype=np.int32), (200, 1)), axis=1)[:, :5]
    probs = np.ones((200, 5), np.float32)
    predictions = Predictions(labels, top_ids, probs, probs[:, 0])
    strict = group_scores(labels, top_ids, 6, **QUICK)
    tolerant = variant_tolerant(predictions, index, lambda codepoint: (), **QUICK)
    for name in ("top1", "top5", "macro"):
        assert tolerant[name]["value"] == pytest.approx(strict[name]["value"])
    assert tolerant["classes"] == 0 and len(form_pairs(index, lambda codepoint: ())) == 6
