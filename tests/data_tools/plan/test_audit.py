"""Planted faults are found, reported and dropped by rule."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.plan.audit import RULES, Audit, _border_median, audit
from data_tools.read.catalogue import read_catalogue


def run(source: Any, **options: Any) -> Audit:
    return audit(read_catalogue(source.folder, skip_bad=options.pop("skip_bad", False)), **options)


def samples(found: Audit, rule: str) -> list[Any]:
    assert found.report["rules"][rule]["count"] == len(found.report["rules"][rule]["samples"])
    return found.report["rules"][rule]["samples"]


def kept_ids(found: Audit) -> set[str]:
    return {original.sample_id for original in found.kept}


@pytest.mark.parametrize("side", [28, 64])
def test_the_median_of_a_border_is_that_of_numpy(side: int, rng: np.random.Generator):
    for _ in range(20):
        image = rng.integers(0, 256, (side, side), np.uint8)
        image[1:-1, 1:-1] = 255 * (image[0, 0] % 2)  # the inside must not count
        border = [image[0], image[-1], image[1:-1, 0], image[1:-1, -1]]
        assert _border_median(image.tobytes()) == np.median(np.concatenate(border))


def test_a_clean_folder_has_nothing_to_report(source: Any):
    source.add_kanji("U+6625", 3)
    found = run(source)
    assert len(found.kept) == 3
    assert all(not samples(found, rule) for rule in RULES)
    assert found.report["dropped_classes"] == []
    assert (found.report["num_found"], found.report["num_kept"]) == (3, 3)


@pytest.mark.parametrize("value", [0, 255, 7])
def test_an_image_of_one_value_is_blank_and_dropped(source: Any, value: int):
    source.add_kanji("U+6625", 2)
    blank = np.full((64, 64), value, np.uint8)
    source.add_file("kkanji2/U+6625/blank.png", source.png(blank))
    found = run(source)
    assert samples(found, "blank") == ["kkanji/U+6625/blank"]
    assert kept_ids(found) == {"kkanji/U+6625/00", "kkanji/U+6625/01"}


def test_a_class_whose_only_image_is_blank_is_dropped_with_its_reason(source: Any):
    source.add_kanji("U+6625", 2)
    blank = source.png(np.zeros((64, 64), np.uint8))
    source.add_file("kkanji2/U+55DF/only.png", blank)
    (dropped,) = run(source).report["dropped_classes"]
    assert dropped == {
        "codepoint": "U+55DF",
        "character": "嗟",
        "reason": "no image passed the audit",
        "num_found": 1,
        "num_passed": 0,
    }


def test_one_dark_pixel_is_no_blank_image(source: Any):
    image = np.zeros((64, 64), np.uint8)
    image[5, 5] = 1
    source.add_file("kkanji2/U+6625/00.png", source.png(image))
    assert len(run(source).kept) == 1


def test_a_bright_border_is_flagged_and_kept(source: Any):
    source.add_kanji("U+6625", 1)
    source.add_file("kkanji2/U+6625/inverted.png", source.png(255 - source.draw(77)))
    found = run(source)
    assert samples(found, "inverted") == ["kkanji/U+6625/inverted"]
    assert "kkanji/U+6625/inverted" in kept_ids(found)


def test_of_equal_pixels_in_a_class_the_first_is_kept(source: Any):
    for name in ("b", "a", "c"):
        source.add_file(f"kkanji2/U+6625/{name}.png", source.png(source.draw(1)))
    found = run(source)
    assert kept_ids(found) == {"kkanji/U+6625/a"}
    assert samples(found, "duplicate_within_class") == [
        {"dropped": "kkanji/U+6625/b", "kept": "kkanji/U+6625/a"},
        {"dropped": "kkanji/U+6625/c", "kept": "kkanji/U+6625/a"},
    ]


def test_equal_pixels_under_two_code_points_are_dropped_from_both(source: Any):
    source.add_kanji("U+6625", 2, first_seed=10)
    source.add_kanji("U+6765", 2, first_seed=11)  # its first is the other's second
    found = run(source)
    assert kept_ids(found) == {"kkanji/U+6625/00", "kkanji/U+6765/01"}
    assert samples(found, "conflicting") == [
        [
            {"sample_id": "kkanji/U+6625/01", "codepoint": "U+6625", "is_kept": False},
            {"sample_id": "kkanji/U+6765/00", "codepoint": "U+6765", "is_kept": False},
        ]
    ]


def test_an_official_test_image_stays_when_its_pixels_conflict(source: Any):
    images = source.add_small("k49-train", [0, 0])
    source.add_small("k49-test", [1], images=images[:1])
    source.add_small("kmnist-train", [1], first_seed=1)
    found = run(source)
    assert "k49-test/000000" in kept_ids(found)
    assert "k49-train/000000" not in kept_ids(found)
    pooled = run(source, pooled=["k49"])
    assert "k49-test/000000" not in kept_ids(pooled)


def test_an_official_test_image_is_kept_before_a_training_image_of_equal_pixels(source: Any):
    images = source.add_small("kmnist-train", [0, 0, 1])
    source.add_small("k49-train", [0, 1], images=images[[1, 2]])
    source.add_small("k49-test", [0], images=images[:1])
    source.add_small("kmnist-test", [0], images=images[:1])
    found = run(source)
    assert kept_ids(found) == {"k49-train/000000", "k49-train/000001", "k49-test/000000"}
    assert (
        samples(found, "duplicate_across_sources")
        == [
            {"dropped": "kmnist-train/000001", "kept": "k49-train/000000"},
            {"dropped": "kmnist-train/000002", "kept": "k49-train/000001"},
            {"dropped": "kmnist-train/000000", "kept": "k49-test/000000"},
            {"dropped": "kmnist-test/000000", "kept": "k49-test/000000"},
        ]
        or len(samples(found, "duplicate_across_sources")) == 4
    )


def test_a_pooled_test_image_has_no_precedence_left(source: Any):
    images = source.add_small("kmnist-test", [0, 1])
    source.add_small("k49-train", [0, 0], images=np.stack([images[0], source.draw(3, 28)]))
    assert "kmnist-test/000000" in kept_ids(run(source))
    assert "kmnist-test/000000" not in kept_ids(run(source, pooled=["kmnist"]))


def test_a_sample_assigned_before_is_kept_before_its_equals(source: Any):
    for name in ("a", "b"):
        source.add_file(f"kkanji2/U+6625/{name}.png", source.png(source.draw(1)))
    source.add_kanji("U+6625", 1)
    found = run(source, earlier={"kkanji/U+6625/b": "val"})
    assert kept_ids(found) == {"kkanji/U+6625/b", "kkanji/U+6625/00"}


def test_classes_below_the_minimum_are_left_out_counted_after_the_rules(source: Any):
    source.add_kanji("U+6625", 3)
    source.add_kanji("U+6765", 3)
    blank = source.png(np.zeros((64, 64), np.uint8))
    source.add_file("kkanji2/U+6765/00.png", blank)  # leaves two
    found = run(source, min_images=3)
    assert {original.codepoint for original in found.kept} == {"U+6625"}
    (dropped,) = found.report["dropped_classes"]
    assert dropped["reason"] == "fewer than 3 images that passed the audit"
    assert (dropped["num_found"], dropped["num_passed"]) == (3, 2)


def test_a_class_of_official_test_images_alone_is_listed_and_left_out(source: Any):
    source.add_kanji("U+6625", 1)
    source.add_small("kmnist-test", [0, 1, 1])
    found = run(source)
    assert {original.codepoint for original in found.kept} == {"U+6625"}
    reasons = {d["codepoint"]: d["reason"] for d in found.report["dropped_classes"]}
    assert set(reasons) == {"U+3042", "U+304A"}
    assert all(reason.startswith("no training image") for reason in reasons.values())
    assert len(run(source, pooled=["kmnist"]).kept) == 4


def test_a_class_whose_images_were_all_held_out_before_is_left_out(source: Any):
    source.add_kanji("U+6625", 2)
    source.add_kanji("U+6765", 1)
    found = run(source, earlier={"kkanji/U+6765/00": "val", "kkanji/U+6625/00": "test"})
    assert {original.codepoint for original in found.kept} == {"U+6625"}


def test_every_image_found_is_kept_or_counted_under_one_rule_or_class(source: Any):
    source.add_kanji("U+6625", 4, first_seed=10)
    source.add_kanji("U+6765", 2, first_seed=13)  # one conflict
    source.add_file("kkanji2/U+6625/same.png", source.png(source.draw(10)))
    source.add_file("kkanji2/U+6625/blank.png", source.png(np.zeros((64, 64), np.uint8)))
    source.add_file("kkanji2/U+6625/small.png", source.png(source.draw(1)[:9]))
    source.add_file("kkanji2/U+6625/torn.png", b"torn")
    images = source.add_small("kmnist-test", [0, 1])
    source.add_small("k49-test", [0], images=images[:1])
    found = run(source, skip_bad=True)
    report = found.report
    dropped = sum(
        len(samples(found, rule))
        for rule in ("blank", "wrong_size", "unreadable", "duplicate_within_class")
    )
    dropped += len(samples(found, "duplicate_across_sources"))
    dropped += sum(not each["is_kept"] for group in samples(found, "conflicting") for each in group)
    left_out = sum(each["num_passed"] for each in report["dropped_classes"])
    assert report["num_found"] == 4 + 2 + 4 + 2 + 1
    assert report["num_passed"] == report["num_found"] - dropped
    assert report["num_kept"] == len(found.kept) == report["num_passed"] - left_out


def test_the_28_images_that_two_official_test_sets_share_are_found(
    real_source: Path, tmp_path: Path
):
    for path in real_source.iterdir():
        if path.is_file():
            (tmp_path / path.name).symlink_to(path)
    report = audit(read_catalogue(tmp_path), pooled=["kmnist"]).report
    shared = report["rules"]["duplicate_across_sources"]
    assert shared["count"] == 28
    assert all(each["kept"].startswith("k49-test/") for each in shared["samples"])
    assert all(each["dropped"].startswith("kmnist-test/") for each in shared["samples"])
    assert report["rules"]["duplicate_within_class"]["count"] == 0
    assert report["rules"]["conflicting"]["count"] == 0


def test_listed_images_are_dropped_before_any_other_rule(source: Any):
    source.add_kanji("U+6625", 3)
    again = source.png(source.draw(0x6625 * 1000))
    source.add_file("kkanji2/U+6625/again.png", again)
    found = run(source, unwanted={"kkanji/U+6625/00": "cut in half", "kkanji/U+6625/gone": ""})
    assert samples(found, "left_out") == [{"name": "kkanji/U+6625/00", "detail": "cut in half"}]
    assert not samples(found, "duplicate_within_class")
    assert kept_ids(found) == {f"kkanji/U+6625/{name}" for name in ("01", "02", "again")}


def test_an_unreadable_image_of_a_table_counts_as_found_in_its_class(source: Any):
    source.add_file("a.png", source.png(source.draw(1)))
    source.add_file(
        "labels.csv", b"path,codepoint\na.png,U+6625\ngone.png,U+6625\nlost.png,U+590F\n"
    )
    report = run(source, skip_bad=True).report
    assert [each["name"] for each in report["rules"]["unreadable"]["samples"]] == [
        "images/labels.csv, line 3",
        "images/labels.csv, line 4",
    ]
    assert report["num_found"] == 3
    (dropped,) = report["dropped_classes"]
    assert (dropped["codepoint"], dropped["num_found"]) == ("U+590F", 1)
