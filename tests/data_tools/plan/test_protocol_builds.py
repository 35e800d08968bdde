"""Datasets of every protocol, built, verified and, where they leak, refused."""

import csv
from pathlib import Path
from typing import Any

import pytest

from data_tools.build import main as build
from data_tools.plan import build_plan
from data_tools.plan.split import read_splits
from data_tools.read.catalogue import Catalogue, read_catalogue
from data_tools.verify import find_problems
from data_tools.verify import main as verify
from data_tools.write.assemble import Options, assemble
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.leakage import check_no_leak
from kkanji_jax.data.manifest import SPLITS, load_manifest
from kkanji_jax.data.resident import load_split


@pytest.fixture
def kanji(source: Any) -> Path:
    for codepoint, count in (("U+6625", 20), ("U+6765", 7), ("U+4E00", 2), ("U+20B9F", 1)):
        source.add_kanji(codepoint, count)
    return source.folder


def test_a_5050_dataset_halves_every_class_and_lists_the_singletons(kanji: Path, tmp_path: Path):
    out = tmp_path / "out"
    outcome = assemble(kanji, out, Options(protocol="5050"))
    assert outcome.manifest["ratios"] == [45.0, 5.0, 50.0]
    assert outcome.manifest["splits"]["test"]["class_counts"] == {
        "U+4E00": 1,
        "U+6625": 10,
        "U+6765": 3,
    }
    assert ClassIndex.load(out / "index.json").codepoints == ("U+4E00", "U+6625", "U+6765")
    (dropped,) = outcome.audit["dropped_classes"]
    assert (dropped["codepoint"], dropped["num_passed"]) == ("U+20B9F", 1)
    assert dropped["reason"] == "fewer than 2 images to halve"
    assert outcome.audit["num_kept"] == 29 and outcome.audit["num_passed"] == 30
    assert list(find_problems(out)) == []
    check_no_leak(out, [load_split(out, "train")])


def test_a_by_book_dataset_shares_no_book_between_splits(
    kanji: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    arguments = ["--source", str(kanji), "--protocol", "by-book", "--workers", "1", "--out"]
    assert build([*arguments, str(tmp_path / "none")]) == 1
    assert "which these sources do not tell: kkanji" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()

    def with_books(*args: Any, **options: Any) -> Catalogue:
        catalogue = read_catalogue(*args, **options)
        named = [o._replace(book=f"book{int(o.sample_id[-2:]) % 7}") for o in catalogue.originals]
        return catalogue._replace(originals=named)

    monkeypatch.setattr(build_plan, "read_catalogue", with_books)
    out = tmp_path / "out"
    assert build([*arguments, str(out), "--ratios", "40/30/30", "--seed", "2"]) == 0
    rows = read_splits(out / "splits.csv")
    split_of = {row.book: row.split for row in rows}
    assert all(row.book and split_of[row.book] == row.split for row in rows)
    assert set(split_of.values()) == set(SPLITS)
    assert list(find_problems(out)) == []
    trained = {row.codepoint for row in rows if row.split == "train"}
    assert trained == {row.codepoint for row in rows}
    # A book that is moved by hand is found.
    text = (out / "splits.csv").read_text("utf-8")
    held_out = next(row for row in rows if row.split == "test")
    forged = text.replace(held_out.book, next(b for b, s in split_of.items() if s == "train"))
    (out / "splits.csv").write_text(forged, "utf-8")
    assert any("come from the same book" in problem for problem in find_problems(out))


def test_books_held_out_by_name_are_recorded_and_stay_whole(
    source: Any, kanji: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for number, book in enumerate(("200003076", "200021086", "brsk00000")):
        for crop in range(4):
            name = f"U+6625_{book}_00001_1_X0001_Y{crop:04d}"
            png = source.png(source.draw(900_000 + 10 * number + crop))
            source.add_file(f"{book}/characters/U+6625/{name}.png", png)
    twin = "char-shape/U+6625/U+6625_brsk00000_00001_1_X0001_Y0003"
    listed = source.folder.parent / "left_out.csv"
    listed.write_text(f"sample_id,reason\n{twin},like kkanji/U+6625/00\nnowhere/1,\n", "utf-8")
    command = ["--source", str(kanji), "--workers", "1", "--val-books", "200021086"]
    command += ["--test-books", "brsk00000", "--leave-out", str(listed), "--out"]
    out = tmp_path / "out"
    assert build([*command, str(out)]) == 0
    assert "1 samples of" in capsys.readouterr().out
    rows = read_splits(out / "splits.csv")
    assert {(row.book, row.split) for row in rows if row.book} == {
        ("200003076", "train"),
        ("200021086", "val"),
        ("brsk00000", "test"),
    }
    assert twin not in {row.sample_id for row in rows}
    plain = tmp_path / "plain"
    only_kanji = tmp_path / "kanji"
    (only_kanji).mkdir()
    (only_kanji / "kkanji2").symlink_to(kanji / "kkanji2")
    assert build(["--source", str(only_kanji), "--workers", "1", "--out", str(plain)]) == 0
    published = {row.sample_id: row.split for row in rows if not row.book}
    assert published == {row.sample_id: row.split for row in read_splits(plain / "splits.csv")}
    manifest = load_manifest(out)
    assert (manifest["val_books"], manifest["test_books"]) == (["200021086"], ["brsk00000"])
    assert "--val-books 200021086 --test-books brsk00000 --leave-out CSV" in manifest["command"]
    assert load_manifest(plain)["val_books"] == []
    assert list(find_problems(out)) == []
    assert build([*command, str(tmp_path / "none"), "--protocol", "5050"]) == 1
    assert "go with the protocol honest, got 5050" in capsys.readouterr().err
    # Another list makes another dataset.
    listed.write_text("sample_id\n", "utf-8")
    assert build([*command, str(out)]) == 1


def test_a_legacy_dataset_leaks_says_so_and_is_verified_by_name_only(
    kanji: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    arguments = ["--source", str(kanji), "--out", str(out), "--protocol", "legacy"]
    assert build([*arguments, "--workers", "1"]) == 1
    assert "say with --per-class N how many" in capsys.readouterr().err and not out.exists()
    assert build([*arguments, "--per-class", "60", "--engine", "host", "--workers", "1"]) == 0
    manifest = load_manifest(out)
    assert (manifest["protocol"], manifest["policy"]) == ("legacy", "legacy")
    sizes = {name: manifest["splits"][name]["num_examples"] for name in SPLITS}
    assert sizes["train"] + sizes["val"] == 240 and 8 < sizes["val"] < 44 and not sizes["test"]
    assert manifest["original_counts"]["U+20B9F"] == 1
    with open(out / "splits.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lone = {row["split"] for row in rows if row["codepoint"] == "U+20B9F"}
    assert lone == {"train", "val"}, "one image, and it is trained on and scored"
    with pytest.raises(ValueError, match="val examples of .* come from training images"):
        check_no_leak(out, [load_split(out, "train")])
    capsys.readouterr()
    assert verify([str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "--allow-leaky-protocol legacy" in line
    assert verify([str(out), "--allow-leaky-protocol", "legacy"]) == 0
