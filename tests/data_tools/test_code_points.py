"""Characters that look or normalise alike stay apart from the folder to the last table."""

import csv
import json
from pathlib import Path
from typing import Any

from data_tools import build, inspect
from kkanji_jax.data.resident import load_split

# 神 and its compatibility form, one character under NFC.
TWINS: tuple[str, ...] = ("U+795E", "U+FA19")
RARE: tuple[str, ...] = ("U+3402", "U+20B9F")  # sorted as text the second comes first


def test_no_code_point_is_normalised_or_sorted_as_text(source: Any, tmp_path: Path, capsys: Any):
    counts: dict[str, int] = dict(zip((*TWINS, *RARE), (5, 7, 6, 8), strict=True))
    for codepoint, count in counts.items():
        source.add_kanji(codepoint, count)
    out = tmp_path / "out"
    arguments = ["--source", str(source.folder), "--out", str(out), "--workers", "1"]
    assert build.main([*arguments, "--ratios", "100/0/0"]) == 0
    index = json.loads((out / "index.json").read_text("utf-8"))["codepoint_to_id"]
    order = ["U+3402", "U+795E", "U+FA19", "U+20B9F"]
    assert [text.split("(")[1][:-1] for text in sorted(index, key=index.__getitem__)] == order
    assert [text[0] for text in sorted(index, key=index.__getitem__)] == [
        chr(int(each[2:], 16)) for each in order
    ]
    with open(out / "splits.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {each: sum(row["codepoint"] == each for row in rows) for each in counts} == counts
    split = load_split(out, "train")
    for sample_id, label in zip(split.sample_ids, split.labels, strict=True):
        assert sample_id.split("/")[1] == order[label]
    capsys.readouterr()
    assert inspect.main([str(out), "--counts"]) == 0
    listed = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["codepoint"], int(row["train"])) for row in listed] == [
        (each, counts[each]) for each in order
    ]
