"""Splits are disjoint, complete and stable."""

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.combine import Original
from data_tools.split import (
    Row,
    assign_splits,
    check_rows,
    make_rows,
    parse_ratios,
    read_earlier,
    read_splits,
    split_position,
    to_csv,
)

RATIOS = (80.0, 10.0, 10.0)
CODEPOINTS = ("U+3042", "U+6625", "U+20B9F")


def make_original(number: int, codepoint: str = "U+6625", source: str = "kkanji") -> Original:
    digest = hashlib.sha256(f"{codepoint} {number}".encode()).hexdigest()
    return Original(f"{source}/{codepoint}/{number}", codepoint, source, b"", digest)


@st.composite
def originals(draw: st.DrawFn) -> list[Original]:
    made = []
    for codepoint in CODEPOINTS:
        count = draw(st.integers(0, 12))
        made += [make_original(number, codepoint) for number in range(count)]
    return made


@given(originals(), st.integers(0, 5))
def test_every_original_gets_one_split_and_every_class_a_training_image(
    made: list[Original], seed: int
):
    splits = assign_splits(made, ratios=RATIOS, seed=seed)
    assert len(splits) == len(made) and set(splits) <= {"train", "val", "test"}
    train = {o.codepoint for o, split in zip(made, splits, strict=True) if split == "train"}
    assert train == {o.codepoint for o in made}
    check_rows(make_rows(made, splits))


@given(originals(), originals(), st.integers(0, 5), st.integers(0, 99))
def test_unrelated_samples_move_nothing(
    made: list[Original], others: list[Original], seed: int, order: int
):
    before = assign_splits(made, ratios=RATIOS, seed=seed)
    unrelated = [make_original(i, codepoint="U+4E00") for i in range(len(others))]
    mixed = made + unrelated
    random.Random(order).shuffle(mixed)
    after = dict(
        zip(
            (o.sample_id for o in mixed),
            assign_splits(mixed, ratios=RATIOS, seed=seed),
            strict=True,
        )
    )
    assert before == [after[o.sample_id] for o in made]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 20))
def test_more_images_of_a_class_move_at_most_the_one_that_stood_in_for_training(
    count: int, more: int, seed: int
):
    made = [make_original(number) for number in range(count + more)]
    before = assign_splits(made[:count], ratios=RATIOS, seed=seed)
    after = assign_splits(made, ratios=RATIOS, seed=seed)[:count]
    moved = [b for b, a in zip(before, after, strict=True) if b != a]
    assert len(moved) <= 1 and all(before == "train" for before in moved)


def test_shares_are_those_of_the_ratios():
    made = [make_original(number) for number in range(20_000)]
    splits = assign_splits(made, ratios=(70.0, 20.0, 10.0), seed=0)
    for name, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        # Four standard deviations of a binomial draw of 20,000.
        assert abs(splits.count(name) / 20_000 - share) < 4 * (share * (1 - share) / 20_000) ** 0.5


def test_a_split_position_depends_on_pixels_and_seed_and_is_pinned():
    digest = hashlib.sha256(b"pixels").hexdigest()
    assert split_position(digest, 0) == split_position(digest, 0) != split_position(digest, 1)
    wanted = int.from_bytes(hashlib.blake2b(f"7:{digest}".encode(), digest_size=8).digest(), "big")
    assert split_position(digest, 7) == pytest.approx(wanted / 2**64)
    positions = [split_position(f"{i:064x}", 0) for i in range(2000)]
    assert 0 <= min(positions) < max(positions) < 1
    assert abs(np.mean(positions) - 0.5) < 0.03


def test_a_lone_image_is_for_training_and_the_largest_hash_stands_in():
    for seed in range(20):
        assert assign_splits([make_original(0)], ratios=RATIOS, seed=seed) == ["train"]
    made = [make_original(number) for number in range(3)]
    positions = [split_position(o.pixels_sha256, 0) for o in made]
    splits = assign_splits(made, ratios=(1e-6, 50.0, 50.0 - 1e-6), seed=0)
    assert splits.index("train") == int(np.argmax(positions))
    assert splits.count("train") == 1


@pytest.mark.parametrize("name", ["k49", "kmnist"])
def test_official_test_images_are_test_unless_their_set_is_pooled(name: str):
    made = [make_original(number, "U+3042", f"{name}-test") for number in range(50)]
    made += [make_original(number + 50, "U+3042", "k49-train") for number in range(50)]
    assert set(assign_splits(made, ratios=RATIOS, seed=0)[:50]) == {"test"}
    pooled = assign_splits(made, ratios=RATIOS, seed=0, pooled=[name])
    assert set(pooled[:50]) == {"train", "val", "test"}
    other = "kmnist" if name == "k49" else "k49"
    assert set(assign_splits(made, ratios=RATIOS, seed=0, pooled=[other])[:50]) == {"test"}


@given(originals(), st.data())
def test_earlier_assignments_stay_whatever_is_added(made: list[Original], data: st.DataObject):
    names = st.sampled_from(["train", "val", "test"])
    earlier = {o.sample_id: data.draw(names) for o in made if data.draw(st.booleans())}
    splits = assign_splits(made, ratios=RATIOS, seed=0, earlier=earlier)
    plain = dict(zip([o.sample_id for o in made], splits, strict=True))
    assert all(plain[sample_id] == split for sample_id, split in earlier.items())
    for codepoint in CODEPOINTS:
        mine = [o for o in made if o.codepoint == codepoint]
        free = [o for o in mine if o.sample_id not in earlier]
        if free:  # then one of them can stand in
            assert "train" in {plain[o.sample_id] for o in mine}


def test_an_official_test_image_may_not_have_been_trained_on():
    made = [make_original(0, "U+3042", "kmnist-test"), make_original(1, "U+3042", "kmnist-train")]
    earlier = {made[0].sample_id: "train"}
    with pytest.raises(ValueError, match="official test image: give --pool-official kmnist"):
        assign_splits(made, ratios=RATIOS, seed=0, earlier=earlier)
    splits = assign_splits(made, ratios=RATIOS, seed=0, earlier=earlier, pooled=["kmnist"])
    assert splits[0] == "train"


def test_equal_pixels_in_two_splits_are_a_leak():
    rows = [
        Row("a", "U+6625", "train", "0" * 64, "a"),
        Row("b", "U+6625", "val", "0" * 64, "b"),
    ]
    with pytest.raises(ValueError, match="a in train and b in val have the same pixels"):
        check_rows(rows)
    check_rows([row._replace(split="train") for row in rows])
    with pytest.raises(ValueError, match="a comes twice"):
        check_rows([rows[0], rows[0]])


@pytest.mark.parametrize(
    "text", ["80/10", "80/10/20", "0/50/50", "90/20/-10", "a/b/c", "", "1/1/1"]
)
def test_ratios_that_are_none_are_refused(text: str):
    with pytest.raises(ValueError, match="ratios want"):
        parse_ratios(text)


def test_ratios_are_percentages():
    assert parse_ratios("80/10/10") == RATIOS
    assert parse_ratios("99.5/0.5/0") == (99.5, 0.5, 0.0)


def test_rows_survive_their_file(tmp_path: Path):
    made = [make_original(number, codepoint) for codepoint in CODEPOINTS for number in range(3)]
    rows = make_rows(made, assign_splits(made, ratios=RATIOS, seed=0))
    path = tmp_path / "splits.csv"
    path.write_text(to_csv(rows), "utf-8")
    assert read_splits(path) == rows
    first_line = path.read_text("utf-8").splitlines()[0]
    assert first_line == "sample_id,codepoint,split,pixels_sha256,parent_id"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "wants a column 'sample_id'"),
        ("sample_id,split\na,train\n", "wants a column 'codepoint'"),
        ("sample_id,codepoint,split\na,U+6625,training\n", "line 2 wants train, val or test"),
        ("sample_id,codepoint,split\na,6625,train\n", "did you mean U\\+6625"),
        ("sample_id,codepoint,split\na,U+6625\n", "got ''"),
    ],
)
def test_a_wrong_splits_file_is_refused_by_name(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "splits.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=f"splits.csv: .*{reason}"):
        read_splits(path)
    with pytest.raises(ValueError, match="no file"):
        read_splits(tmp_path / "nowhere.csv")


def write_earlier(path: Path, *rows: Row) -> Path:
    path.write_text(to_csv(rows), "utf-8")
    return path


def test_earlier_splits_are_matched_with_the_source_and_the_rest_reported(tmp_path: Path):
    made = [make_original(number) for number in range(3)]
    rows = make_rows(made, ["train", "val", "test"])
    gone = Row("kkanji/U+6625/gone", "U+6625", "val", "", "kkanji/U+6625/gone")
    path = write_earlier(tmp_path / "splits.csv", *rows[:2], gone)
    earlier, absent = read_earlier(path, made)
    assert earlier == {rows[0].sample_id: "train", rows[1].sample_id: "val"}
    assert absent == ["kkanji/U+6625/gone"]


def test_only_three_columns_of_earlier_splits_must_be_there(tmp_path: Path):
    path = tmp_path / "splits.csv"
    path.write_text("split,sample_id,codepoint\nval,kkanji/U+6625/0,U+6625\n", "utf-8")
    assert read_earlier(path, [make_original(0)]) == ({"kkanji/U+6625/0": "val"}, [])


def test_earlier_splits_of_other_pixels_or_labels_are_refused(tmp_path: Path):
    made = [make_original(0), make_original(1)]
    row = make_rows(made, ["train", "val"])[0]
    path = tmp_path / "splits.csv"
    with pytest.raises(ValueError, match="is U\\+6765 there, U\\+6625 in the source"):
        read_earlier(write_earlier(path, row._replace(codepoint="U+6765")), made)
    with pytest.raises(ValueError, match="has other pixels in the source"):
        read_earlier(write_earlier(path, row._replace(pixels_sha256="0" * 64)), made)
    with pytest.raises(ValueError, match="lists 1 samples twice"):
        read_earlier(write_earlier(path, row, row), made)
    equal = [made[0], made[1]._replace(pixels_sha256=made[0].pixels_sha256)]
    with pytest.raises(ValueError, match="puts equal pixels in two splits"):
        read_earlier(write_earlier(path, *make_rows(equal, ["train", "val"])), equal)
