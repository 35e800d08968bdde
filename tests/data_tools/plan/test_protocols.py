"""Protocols are disjoint, complete and stable; what leaks is said to leak."""

import hashlib
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.plan.protocols import (
    Ratios,
    assign,
    assign_splits,
    check_choice,
    hold_out,
    parse_books,
    parse_ratios,
    split_copies,
    split_position,
)
from data_tools.plan.split import check_rows, make_rows
from data_tools.read.catalogue import Original

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
    expected = int.from_bytes(
        hashlib.blake2b(f"7:{digest}".encode(), digest_size=8).digest(), "big"
    )
    assert split_position(digest, 7) == pytest.approx(expected / 2**64)
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
    with pytest.raises(ValueError, match="--ratios must"):
        parse_ratios(text)


def test_ratios_are_percentages():
    assert parse_ratios("80/10/10") == RATIOS
    assert parse_ratios("99.5/0.5/0") == (99.5, 0.5, 0.0)


def halve(made: list[Original], seed: int = 0, ratios: Ratios = (45.0, 5.0, 50.0)):
    return assign("5050", made, ratios=ratios, seed=seed)


@given(originals(), st.integers(0, 5))
def test_5050_halves_each_class_and_leaves_single_images_out(made: list[Original], seed: int):
    splits, left_out = halve(made, seed)
    check_rows(make_rows(made, splits))
    for codepoint in {o.codepoint for o in made}:
        mine = [s for o, s in zip(made, splits, strict=True) if o.codepoint == codepoint]
        if len(mine) < 2:
            assert codepoint in left_out
            continue
        assert codepoint not in left_out
        assert mine.count("test") == len(mine) // 2
        assert mine.count("train") >= 1


def test_the_validation_images_of_5050_come_out_of_the_training_half():
    made = [make_original(number) for number in range(2000)]
    with_val, without = halve(made).splits, halve(made, ratios=(50.0, 0.0, 50.0)).splits
    changed = {(a, b) for a, b in zip(without, with_val, strict=True) if a != b}
    assert changed == {("train", "val")}
    assert 60 < with_val.count("val") < 145  # of 1,000: 100 +- 5 standard deviations
    assert halve(made[::-1]).splits[::-1] == with_val
    assert halve(made, seed=1).splits != with_val


def test_official_test_images_are_no_part_of_the_halves():
    made = [make_original(number) for number in range(4)]
    official = [make_original(number, source="k49-test") for number in range(10, 16)]
    splits, left_out = halve(made + official)
    assert splits[4:] == ["test"] * 6 and splits[:4].count("test") == 2 and not left_out
    assert halve(made[:1] + official).left_out == {"U+6625": "fewer than 2 images to halve"}


def in_books(num_books: int = 40, each: int = 6) -> list[Original]:
    return [
        make_original(1000 + book * 100 + number, CODEPOINTS[number % 3], "char-shape")._replace(
            book=f"book{book:02d}"
        )
        for book in range(num_books)
        for number in range(each)
    ]


def test_by_book_holds_whole_books_out():
    made = in_books()
    splits, left_out = assign("by-book", made, ratios=RATIOS, seed=0)
    found = {(o.book, split) for o, split in zip(made, splits, strict=True)}
    assert len(found) == 40 and not left_out
    assert {split for _, split in found} == {"train", "val", "test"}
    check_rows(make_rows(made, splits, with_books=True))
    # A book more moves none of them.
    assert assign("by-book", in_books(41), ratios=RATIOS, seed=0).splits[: len(made)] == splits
    assert assign("by-book", made, ratios=RATIOS, seed=1).splits != splits


def test_a_class_of_held_out_books_alone_is_left_out_and_an_earlier_book_stays():
    made = in_books()
    splits, _ = assign("by-book", made, ratios=RATIOS, seed=0)
    held_out = made[splits.index("test")].book
    rare = make_original(99_999, "U+4E00")._replace(book=held_out)
    assert assign("by-book", [*made, rare], ratios=RATIOS, seed=0).left_out == {
        "U+4E00": "no training image: it is in held-out books only"
    }
    earlier = {made[splits.index("test")].sample_id: "train"}
    moved = assign("by-book", [*made, rare], ratios=RATIOS, seed=0, earlier=earlier)
    assert moved.splits[-1] == "train" and not moved.left_out
    first, second = [o.sample_id for o in made if o.book == held_out][:2]
    with pytest.raises(ValueError, match=f"earlier splits have the book {held_out} in"):
        assign("by-book", made, ratios=RATIOS, seed=0, earlier={first: "train", second: "val"})


def test_by_book_refuses_images_of_no_book_and_too_few_books():
    with pytest.raises(ValueError, match="needs the book of every image.*kkanji;"):
        assign("by-book", [*in_books(), make_original(1)], ratios=RATIOS, seed=0)
    with pytest.raises(ValueError, match="none of the 1 books falls into"):
        assign("by-book", in_books(1), ratios=RATIOS, seed=0)


def assign_with_books(made: list[Original], val: str = "", test: str = "", **how: Any):
    books = hold_out(made, val=parse_books(val), test=parse_books(test))
    return assign("honest", made, ratios=RATIOS, seed=0, books=books, **how)


@given(originals())
def test_named_books_are_held_out_and_move_no_image_without_a_book(made: list[Original]):
    photographed = in_books(6)
    splits, left_out = assign_with_books(made + photographed, "book00, book01,", "book02")
    assert not left_out
    expected = {"book00": "val", "book01": "val", "book02": "test"}
    for original, split in zip(photographed, splits[len(made) :], strict=True):
        assert split == expected.get(original.book, "train")
    alone = assign("honest", made, ratios=RATIOS, seed=0).splits
    moved = [(a, b) for a, b in zip(alone, splits, strict=False) if a != b]
    assert all(pair[0] == "train" for pair in moved)  # it stood in where there was no training
    check_rows(make_rows(made + photographed, splits, with_books=True))


def test_without_named_books_images_of_books_go_by_their_hash():
    made = in_books()
    assert assign_with_books(made) == assign("honest", made, ratios=RATIOS, seed=0)
    assert len(set(assign_with_books(made).splits)) == 3


def test_a_class_that_only_held_out_books_have_is_left_out_not_moved():
    made = in_books(3)
    rare = make_original(99_999, "U+4E00")._replace(book="book00")
    splits, left_out = assign_with_books([*made, rare], test="book00")
    assert splits[-1] == "test"
    assert left_out == {"U+4E00": "no training image: it is in held-out books only"}
    published = make_original(99_998, "U+4E00")
    splits, left_out = assign_with_books([*made, rare, published], test="book00")
    assert splits[-2:] == ["test", "train"] and not left_out


def test_books_that_cannot_be_held_out_are_refused():
    with pytest.raises(ValueError, match="no book book77, .* it has book00, book01"):
        hold_out(in_books(2), val=["book77"], test=[])
    with pytest.raises(ValueError, match="no image that tells its book"):
        hold_out([make_original(1)], val=["book77"], test=[])
    with pytest.raises(ValueError, match="both name book01"):
        hold_out(in_books(2), val=["book01"], test=["book01"])
    with pytest.raises(ValueError, match="go with the protocol honest, got by-book"):
        check_choice("by-book", RATIOS, per_class=None, has_earlier=False, has_books=True)
    made = in_books(2)
    with pytest.raises(ValueError, match="was train before, but its book book00 is val"):
        assign_with_books(made, val="book00", earlier={made[0].sample_id: "train"})


def test_legacy_splits_copies_of_one_image_apart():
    ids = [f"kkanji/{number}" for number in range(20)]
    rows = np.repeat(np.arange(20, dtype=np.int32), 50)
    copies = np.tile(np.arange(50, dtype=np.int32), 20)
    splits = np.array(split_copies(ids, rows, copies, ratios=(90.0, 10.0, 0.0), seed=0))
    assert 60 < (splits == "val").sum() < 145 and (splits != "test").all()
    shared = set(rows[splits == "train"]) & set(rows[splits == "val"])
    assert len(shared) == 20  # every validation original is in training, too: the leak


@pytest.mark.parametrize(
    ("protocol", "ratios", "per_class", "has_earlier", "reason"),
    [
        ("dishonest", RATIOS, None, False, "expected a protocol of honest, 5050, by-book, legacy"),
        ("5050", RATIOS, None, False, "--ratios of the protocol 5050 must be 50 for test"),
        ("5050", (45.0, 5.0, 50.0), None, True, "--splits-from goes with"),
        ("legacy", (90.0, 10.0, 0.0), None, False, "say with --per-class N"),
        ("legacy", (90.0, 10.0, 0.0), 5, True, "--splits-from goes with"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    protocol: str, ratios: tuple, per_class: int | None, has_earlier: bool, reason: str
):
    with pytest.raises(ValueError, match=reason):
        check_choice(protocol, ratios, per_class=per_class, has_earlier=has_earlier)
