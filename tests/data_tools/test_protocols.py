"""Protocols are disjoint, complete and stable; what leaks is said to leak."""

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.combine import Original
from data_tools.protocols import (
    assign_splits,
    parse_ratios,
    split_position,
)
from data_tools.split import check_rows, make_rows

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


@pytest.mark.parametrize(
    "text", ["80/10", "80/10/20", "0/50/50", "90/20/-10", "a/b/c", "", "1/1/1"]
)
def test_ratios_that_are_none_are_refused(text: str):
    with pytest.raises(ValueError, match="ratios want"):
        parse_ratios(text)


def test_ratios_are_percentages():
    assert parse_ratios("80/10/10") == RATIOS
    assert parse_ratios("99.5/0.5/0") == (99.5, 0.5, 0.0)
