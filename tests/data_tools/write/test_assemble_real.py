"""A DATASET of CODH's own files, where KKANJI_SOURCE names their folder."""

from collections import Counter
from pathlib import Path

import pytest

from data_tools.verify import find_problems
from data_tools.write.assemble import Options, assemble
from kkanji_jax.data.manifest import SPLITS


def test_ten_real_classes_become_a_sound_dataset(real_source: Path, tmp_path: Path):
    chosen = ("U+4E00", "U+6625", "U+4EBA", "U+8155", "U+55DF", "U+4F86", "U+6765", "U+FA1D")
    folder = tmp_path / "source" / "kkanji2"
    folder.mkdir(parents=True)
    for codepoint in (*chosen, "U+241C6", "U+29E75"):
        (folder / codepoint).symlink_to(real_source / "kkanji2" / codepoint)
    outcome = assemble(folder.parent, tmp_path / "out", Options(), workers=2)
    num_files = sum(1 for path in folder.glob("*/*.png"))
    rules = outcome.audit["rules"]
    assert outcome.audit["num_found"] == num_files
    assert outcome.audit["num_kept"] == num_files - rules["blank"]["count"]
    assert {i.split("/")[1] for i in rules["blank"]["samples"]} >= {"U+8155", "U+55DF"}
    assert rules["duplicate_within_class"]["count"] == rules["conflicting"]["count"] == 0
    assert [d["codepoint"] for d in outcome.audit["dropped_classes"]] == ["U+55DF"]
    counts: Counter[str] = Counter()
    for split in outcome.manifest["splits"].values():
        counts.update(split["class_counts"])
    assert len(counts) == 9 and counts.total() == outcome.audit["num_kept"]
    assert list(find_problems(tmp_path / "out")) == []


@pytest.mark.slow
def test_the_whole_real_set_is_built_as_measured(real_source: Path, tmp_path: Path):
    outcome = assemble(real_source, tmp_path / "out", Options(min_images=100), workers=2)
    assert outcome.audit["rules"]["blank"]["count"] == 28
    assert outcome.audit["rules"]["duplicate_across_sources"]["count"] == 28
    splits = outcome.manifest["splits"]
    assert {split["num_classes"] for split in splits.values()} == {285}
    assert [splits[name]["num_examples"] for name in SPLITS] == [64_736, 8_100, 7_946]
    assert list(find_problems(tmp_path / "out")) == []
