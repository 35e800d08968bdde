"""The command inspect on a dataset of a few records."""

import json
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from data_tools import inspect
from data_tools.view.dataset_view import Dataset, card, one_per_class, spread
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.records import Chunk, encode

COUNTS = {"train": (5, 2, 1), "val": (2, 1, 0), "test": (1, 0, 0)}
CODEPOINTS = ("U+4E00", "U+6625", "U+241C6")


def write_dataset(folder: Path) -> Path:
    """Three classes, eight training examples in records of three, three of val, one of test."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    index = ClassIndex(CODEPOINTS)
    index.save(folder / "index.json")
    shards, splits = [], {}
    for split, counts in COUNTS.items():
        ids = np.repeat(np.arange(3, dtype=np.int32), counts)
        names = [f"kkanji/{CODEPOINTS[c]}/{split}{i}" for i, c in enumerate(ids)]
        images = np.zeros((len(ids), 64, 64), np.uint8)
        images[:, 20:40, 20:40] = rng.integers(0, 256, (len(ids), 20, 20))
        path = folder / f"{split}-00000-of-00001.array_record"
        writer = ArrayRecordWriter(str(path), "group_size:1,zstd:1")
        for start in range(0, len(ids), 3):
            part = slice(start, start + 3)
            chunk = Chunk(images[part], ids[part], tuple(names[part]), tuple(names[part]))
            writer.write(encode(chunk))
        writer.close()
        shards.append(
            {
                "file": path.name,
                "split": split,
                "num_records": -(-len(ids) // 3),
                "num_examples": len(ids),
                "bytes": path.stat().st_size,
                "sha256": "",
            }
        )
        class_counts = {c: n for c, n in zip(CODEPOINTS, counts, strict=True) if n}
        splits[split] = {
            "num_examples": len(ids),
            "num_classes": len(class_counts),
            "class_counts": class_counts,
        }
    manifest = {
        "format_version": 1,
        "fingerprint": "f",
        "command": "python -m data_tools.build --source DIR",
        "seed": 7,
        "protocol": "honest",
        "ratios": [80.0, 10.0, 10.0],
        "pool_official": [],
        "min_images": 1,
        "per_class": None,
        "policy": None,
        "image_px": 64,
        "polarity": "white-on-black",
        "chunk_size": 3,
        "package_version": "0",
        "created_by": "kkanji_jax 0, data_tools.build",
        "licence": "CC BY-SA 4.0",
        "attribution": "a test",
        "splits": splits,
        "shards": shards,
        "class_index_digest": index.digest,
        "sources": [],
        "original_counts": splits["train"]["class_counts"],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    rule = {"finds": "an image whose pixels are all alike", "action": "dropped", "samples": []}
    audit = {
        "num_found": 14,
        "num_passed": 13,
        "num_kept": 12,
        "dropped_classes": [{}],
        "rules": {"blank": {"count": 2, **rule}, "unreadable": {"count": 0, **rule}},
    }
    (folder / "audit.json").write_text(json.dumps(audit), encoding="utf-8")
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("inspect") / "kuzushiji")


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = inspect.main([str(arg) for arg in argv])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_card_tells_splits_class_sizes_and_audit(dataset: Path, capsys):
    status, out, err = run(capsys, dataset)
    assert (status, err) == (0, "")
    lines = {tuple(line.split()[:4]) for line in out.splitlines()}
    assert ("train", "8", "examples,", "3") in lines and ("test", "1", "examples,", "1") in lines
    assert ("1", "1", "classes", "1") in lines and ("5-9", "1", "classes", "5") in lines
    assert "protocol   honest 80/10/10, seed 7" in out
    assert "14 images found, 13 passed, 12 kept; 1 classes left out" in out
    assert "2 blank: an image whose pixels are all alike; dropped" in out
    assert "unreadable" not in out, "a rule that found nothing is not told"
    assert "val" not in run(capsys, dataset, "--of", "test")[1].split()


@pytest.mark.parametrize("text", ["春", "U+6625"])
def test_a_character_is_listed_with_its_counts_and_ids(dataset: Path, capsys, text: str):
    status, out, _ = run(capsys, dataset, "--character", text)
    assert status == 0
    assert out.splitlines() == [
        "春 U+6625, class 1: 2 train, 1 val, 0 test",
        "train kkanji/U+6625/train5",
        "train kkanji/U+6625/train6",
        "val   kkanji/U+6625/val2",
    ]
    assert run(capsys, dataset, "--character", text, "--of", "val")[1].count("\n") == 2


def test_a_sample_is_told_with_where_it_lies_and_drawn(dataset: Path, capsys, tmp_path: Path):
    sheet = tmp_path / "one.png"
    argv = (dataset, "--sample", "kkanji/U+6625/train5", "--sheet", sheet)
    status, out, _ = run(capsys, *argv)
    assert status == 0
    assert "class      春 U+6625, id 1" in out and "split      train" in out
    assert "train-00000-of-00001.array_record, record 1, row 2" in out
    (example,) = Dataset.open(dataset).examples(["train"], parent_id="kkanji/U+6625/train5")
    shown = pixels(sheet)
    found = [
        (shown[top : top + 128 : 2, left : left + 128 : 2] == example.image).all()
        for top in range(shown.shape[0] - 127)
        for left in (29,)
    ]
    assert any(found), "the sheet shows the sample's pixels"


def test_sheets_and_the_long_tail_are_written(dataset: Path, capsys, tmp_path: Path):
    sheet, tail = tmp_path / "classes.png", tmp_path / "tail.png"
    status, out, _ = run(capsys, dataset, "--sheet", sheet, "--long-tail", tail)
    assert status == 0
    assert out.splitlines() == [f"wrote {sheet}: 3 of 3 examples", f"wrote {tail}"]
    assert pixels(sheet).shape[1] == 2 * 28 + 3 * 130 + 2 * 14, "three classes, three cells"
    assert pixels(tail).std() > 10, "something is plotted"


def test_an_augmented_sheet_shows_both_engines(dataset: Path, capsys, tmp_path: Path):
    sheet = tmp_path / "copies.png"
    argv = (dataset, "--character", "春", "--of", "val", "--augmented", "glyph_safe")
    assert run(capsys, *argv, "--sheet", sheet)[0] == 0
    first = pixels(sheet).tobytes()
    assert pixels(sheet).shape[1] == 2 * 28 + 10 * 130 + 9 * 14
    assert run(capsys, *argv, "--sheet", sheet)[0] == 0
    assert pixels(sheet).tobytes() == first, "the same command draws the same sheet"
    assert run(capsys, *argv, "--sheet", sheet, "--seed", 1)[0] == 0
    assert pixels(sheet).tobytes() != first


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--character", "御"], "got U+5FA1 (御), which is none of its 3"),
        (["--character", "u+6625"], "did you mean U+6625"),
        (["--character", "𤇆", "--of", "test"], "no example in test"),
        (["--sample", "kkanji/U+6625/none"], "no example 'kkanji/U+6625/none' in train, val, test"),
        (["--augmented", "glyph-safe", "--sheet", "x.png"], "did you mean glyph_safe"),
        (["--augmented", "legacy"], "--augmented needs --sheet OUT.png"),
        (["--counts", "--sheet", "x.png"], "--counts prints a table: leave out --sheet"),
        (["--counts", "--sheet", "x.png", "--augmented", "legacy"], "leave out --sheet"),
        (["--sheet", "/dev/null/sheet.png"], "/dev/null/sheet.png"),
        (["--sheet", "sheet.nonsense"], ".nonsense"),
        (["--seed", str(2**32)], "--seed must be 0 to 4294967295"),
        (["--seed", "0", "--sheet", "x.png"], "--seed is for --augmented: leave it out"),
        (["--rule", "blank", "--of", "val"], "--rule blank is of all splits: leave out --of val"),
        (["--audit", "a.html", "--of", "val"], "--audit shows all splits: leave out --of val"),
        (["--long-tail", "t.png", "--of", "test"], "--long-tail shows all splits: leave out --of"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(dataset: Path, capsys, argv: list[str], expected: str):
    status, _, err = run(capsys, dataset, *argv)
    assert status == 1
    assert err.startswith("error: ") and err.count("\n") == 1 and expected in err


@pytest.mark.parametrize("more", [[], ["--augmented", "glyph_safe"]])
def test_a_sheet_of_a_split_without_examples_is_refused(tmp_path: Path, capsys, more: list[str]):
    folder = write_dataset(tmp_path / "whole")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["test"] = {"num_examples": 0, "num_classes": 0, "class_counts": {}}
    manifest["shards"] = [shard for shard in manifest["shards"] if shard["split"] != "test"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    argv = (folder, "--of", "test", "--sheet", tmp_path / "sheet.png", *more)
    status, out, err = run(capsys, *argv)
    assert (status, out) == (1, "")
    assert err == f"error: {folder} has no example in test, of which a sheet could be drawn\n"


def test_a_rule_that_found_nothing_prints_one_line(dataset: Path, capsys):
    status, out, _ = run(capsys, dataset, "--rule", "unreadable")
    assert status == 0 and out.startswith("0 unreadable: ") and out.count("\n") == 1


def test_a_folder_that_is_no_dataset_and_a_broken_audit_are_one_line(capsys, tmp_path: Path):
    status, _, err = run(capsys, tmp_path / "nowhere")
    assert status == 1 and err.startswith("error: no dataset at") and err.count("\n") == 1
    folder = write_dataset(tmp_path / "broken")
    (folder / "audit.json").write_text("{}")
    status, _, err = run(capsys, folder)
    assert status == 1 and "audit.json is no audit of a dataset" in err and err.count("\n") == 1
    ClassIndex(CODEPOINTS[:2]).save(folder / "index.json")
    status, _, err = run(capsys, folder)
    assert status == 1 and "is not the class index of manifest.json" in err


def test_two_ways_to_choose_are_a_usage_error(dataset: Path):
    with pytest.raises(SystemExit) as end:
        inspect.main([str(dataset), "--character", "春", "--sample", "x"])
    assert end.value.code == 2


def test_classes_are_taken_from_the_largest_to_the_smallest(dataset: Path):
    opened = Dataset.open(dataset)
    assert [e.class_id for e in one_per_class(opened, ("train",), 10)] == [0, 1, 2]
    assert [e.class_id for e in one_per_class(opened, ("train",), 2)] == [0, 2]
    assert [e.class_id for e in one_per_class(opened, ("test",), 10)] == [0]
    assert spread(3, 100) == [0, 49, 99] and spread(9, 2) == [0, 1] and spread(5, 0) == []


def test_a_balanced_dataset_is_said_to_be_one(tmp_path: Path, capsys):
    folder = write_dataset(tmp_path / "balanced")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"per_class": 10_000, "policy": "glyph_safe"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    lines = list(card(Dataset.open(folder), ("train",)))
    assert "examples   10,000 a class in train, varied by policy glyph_safe" in lines
    assert run(capsys, folder, "--long-tail", tmp_path / "tail.png")[0] == 0


@pytest.mark.parametrize("flag", ["--sheet", "--audit", "--long-tail"])
def test_a_folder_is_not_taken_for_the_name_of_a_picture(flag: str, tmp_path: Path, capsys):
    dataset = write_dataset(tmp_path / "d")
    assert inspect.main([str(dataset), flag, f"{tmp_path}/new.png/"]) == 1
    told = capsys.readouterr().err
    assert f"{flag} {tmp_path}/new.png/ names a folder" in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == [dataset]
