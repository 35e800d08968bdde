"""The balanced plan."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.data.balance import Plan, class_quotas, mix_address
from kkanji_jax.data.records import address_of

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)
SEEDS = st.integers(0, 2**40)


def make_inputs(sizes: list[int], skip: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels, with gaps between the ids, in a mixed order, and their addresses."""
    labels = np.repeat(np.arange(len(sizes)) * skip, sizes).astype(np.int32)
    labels = labels[np.random.default_rng(0).permutation(len(labels))]
    return labels, address_of([f"kkanji/U+6625/{row}" for row in range(len(labels))])


def read_epoch(plan: Plan, epoch: int = 0, fresh_copies: bool = True) -> np.ndarray:
    """(row, copy) at every position of an epoch."""
    positions = np.arange(len(plan), dtype=np.int64)
    return np.stack(plan.lookup(positions, np.full_like(positions, epoch), fresh_copies), 1)


@given(SIZES, st.integers(1, 100), SEEDS)
def test_per_class_gives_every_class_exactly_that_many(sizes: list[int], n: int, seed: int):
    labels, addresses = make_inputs(sizes)
    plan = Plan(labels, addresses, per_class=n, seed=seed)
    rows = read_epoch(plan)[:, 0]
    assert len(plan) == n * len(sizes)
    assert set(Counter(labels[rows].tolist()).values()) == {n}
    assert plan.quotas() == dict.fromkeys(np.unique(labels).tolist(), n)


@given(SIZES, st.integers(1, 100), SEEDS)
def test_originals_of_a_class_are_used_equally_often_give_or_take_one(
    sizes: list[int], n: int, seed: int
):
    labels, addresses = make_inputs(sizes)
    plan = Plan(labels, addresses, per_class=n, seed=seed)
    used = np.bincount(read_epoch(plan)[:, 0], minlength=len(labels))
    for label in np.unique(labels):
        mine = used[labels == label]
        assert mine.max() - mine.min() <= 1


@given(SIZES, st.integers(1, 60), SEEDS, st.integers(2, 5))
def test_no_copy_of_an_original_comes_twice_in_any_epoch(
    sizes: list[int], n: int, seed: int, num_epochs: int
):
    labels, addresses = make_inputs(sizes)
    plan = Plan(labels, addresses, per_class=n, seed=seed)
    seen = np.concatenate([read_epoch(plan, epoch) for epoch in range(num_epochs)])
    assert len(np.unique(seen, axis=0)) == len(seen)
    assert seen[:, 1].min() == 0
    # Over the epochs together, too, an original is used as often as its fellows, give or take one.
    used = np.bincount(seen[:, 0], minlength=len(labels))
    for label in np.unique(labels):
        assert np.ptp(used[labels == label]) <= 1


@given(SIZES, st.integers(1, 60), SEEDS)
def test_a_class_that_must_repeat_shows_every_clean_original_first(
    sizes: list[int], n: int, seed: int
):
    labels, addresses = make_inputs(sizes)
    epoch = read_epoch(Plan(labels, addresses, per_class=n, seed=seed))
    clean = set(epoch[epoch[:, 1] == 0, 0].tolist())
    for label, size in zip(np.unique(labels).tolist(), sizes, strict=True):
        assert len(clean & set(np.flatnonzero(labels == label).tolist())) == min(size, n)


def test_a_class_above_its_quota_shows_other_originals_in_each_epoch():
    labels, addresses = make_inputs([10])
    plan = Plan(labels, addresses, per_class=4)
    shown = [set(read_epoch(plan, epoch)[:, 0].tolist()) for epoch in range(5)]
    assert shown[0].isdisjoint(shown[1])
    assert set.union(*shown[:3]) == set(range(10))


@given(SIZES, st.integers(1, 60), st.integers(0, 9))
def test_without_fresh_copies_every_epoch_is_the_written_out_set(
    sizes: list[int], n: int, epoch: int
):
    plan = Plan(*make_inputs(sizes), per_class=n)
    np.testing.assert_array_equal(read_epoch(plan, epoch, fresh_copies=False), read_epoch(plan, 0))


@given(SIZES, SEEDS)
def test_exponent_one_is_each_original_once(sizes: list[int], seed: int):
    plan = Plan(*make_inputs(sizes), sampling_exponent=1.0, seed=seed)
    for epoch in range(2):
        shown = read_epoch(plan, epoch)
        assert sorted(shown[:, 0].tolist()) == list(range(sum(sizes)))
        assert set(shown[:, 1].tolist()) == {epoch}


@given(SIZES, st.floats(0.0, 1.0))
def test_quotas_by_exponent_sum_to_the_originals_and_leave_none_out(
    sizes: list[int], exponent: float
):
    counts = np.array(sizes, np.int64)
    quotas = class_quotas(counts, None, exponent)
    assert quotas.sum() == counts.sum()
    assert quotas.min() >= 1
    expected = counts**exponent * counts.sum() / (counts**exponent).sum()
    assert (np.abs(quotas - expected) < 1 + 1e-6).all()
    assert (np.diff(quotas[np.argsort(counts, kind="stable")]) >= -1).all()


def test_exponent_zero_is_every_class_alike():
    assert class_quotas(np.array([1, 5, 30]), None, 0.0).tolist() == [12, 12, 12]


def test_an_exponent_between_lies_between():
    quotas = class_quotas(np.array([1, 100]), None, 0.5)
    assert quotas.tolist() == [9, 92]  # 101 / 11 and 1010 / 11, to the nearest


@given(SIZES, st.integers(1, 50), SEEDS)
def test_a_plan_is_the_same_for_the_same_inputs_in_any_order(sizes: list[int], n: int, seed: int):
    labels, addresses = make_inputs(sizes)
    first = read_epoch(Plan(labels, addresses, per_class=n, seed=seed), 1)
    again = read_epoch(Plan(labels, addresses, per_class=n, seed=seed), 1)
    np.testing.assert_array_equal(first, again)
    order = np.random.default_rng(seed).permutation(len(labels))
    moved = read_epoch(Plan(labels[order], addresses[order], per_class=n, seed=seed), 1)
    np.testing.assert_array_equal(first[:, 0], order[moved[:, 0]])
    np.testing.assert_array_equal(first[:, 1], moved[:, 1])


def test_adding_a_class_changes_nothing_in_the_others():
    labels, addresses = make_inputs([7, 3])
    before = read_epoch(Plan(labels + 1, addresses, per_class=5, seed=3))
    more_labels = np.concatenate([labels + 1, np.zeros(4, np.int32)])
    more_addresses = np.concatenate([addresses, address_of(list("abcd"))])
    after = read_epoch(Plan(more_labels, more_addresses, per_class=5, seed=3))
    np.testing.assert_array_equal(after[5:], before)


def test_the_seed_decides_which_originals_are_shown():
    labels, addresses = make_inputs([200])
    shown = [
        set(read_epoch(Plan(labels, addresses, per_class=20, seed=seed))[:, 0].tolist())
        for seed in (0, 1)
    ]
    assert len(shown[0] & shown[1]) < 10


def test_mixed_addresses_look_random_and_depend_on_every_input():
    addresses = address_of([str(row) for row in range(4096)])
    base = mix_address(0, addresses)
    ones = np.unpackbits(base.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.01  # 262,144 bits: a standard deviation is .001
    for other in (mix_address(1, addresses), mix_address(0, addresses, np.int32(1))):
        changed = np.unpackbits((base ^ other).view(np.uint8)).mean()
        assert abs(changed - 0.5) < 0.01
    assert len(np.unique(base)) == 4096


@pytest.mark.parametrize("positions", [[-1], [6], [0, 6]])
def test_a_position_outside_the_epoch_is_refused(positions: list[int]):
    plan = Plan(*make_inputs([2, 4]))
    with pytest.raises(ValueError, match=r"\[0, 6\)"):
        plan.lookup(np.array(positions), np.zeros(len(positions), np.int64))
    with pytest.raises(ValueError, match="epochs"):
        plan.lookup(np.array([0]), np.array([-1]))


def test_impossible_plans_are_refused():
    labels, addresses = make_inputs([2])
    with pytest.raises(ValueError, match="at least one original"):
        Plan(labels[:0], addresses[:0])
    with pytest.raises(ValueError, match="per_class"):
        Plan(labels, addresses, per_class=0)
    for exponent in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="sampling_exponent"):
            Plan(labels, addresses, sampling_exponent=exponent)


def test_a_full_size_epoch_is_looked_up_in_bounded_memory():
    # 3,832 classes of 10,000: 38 million positions that are never stored.
    labels = np.repeat(np.arange(3832, dtype=np.int32), 10)
    plan = Plan(labels, address_of([str(row) for row in range(len(labels))]), per_class=10_000)
    assert len(plan) == 38_320_000
    rows, copies = plan.lookup(np.array([0, 38_319_999]), np.array([0, 1]))
    assert labels[rows].tolist() == [0, 3831]
    assert copies.tolist() == [0, 1999]


def test_photographed_originals_are_drawn_as_a_class_of_their_own():
    labels = np.repeat(np.array([3, 8], np.int32), [916, 100])
    addresses = address_of([str(row) for row in range(len(labels))])
    is_photographed = np.zeros(len(labels), bool)
    is_photographed[:16] = True
    how: dict[str, Any] = {"sampling_exponent": 0.5, "is_photographed": is_photographed}
    unset = Plan(labels, addresses, **how)
    assert np.array_equal(
        read_epoch(unset), read_epoch(Plan(labels, addresses, sampling_exponent=0.5))
    )
    for weight in (1.0, 5.0):
        plan = Plan(labels, addresses, photograph_weight=weight, **how)
        rows = read_epoch(plan)[:, 0]
        assert len(plan) == len(labels) and sum(plan.quotas().values()) == len(labels)
        # 16, 900 and 100 originals: 4 * weight, 30 and 10 parts.
        parts = np.array([4 * weight, 30, 10])
        expected = parts / parts.sum() * len(labels)
        found = [
            is_photographed[rows].sum(),
            (~is_photographed[rows] & (labels[rows] == 3)).sum(),
            (labels[rows] == 8).sum(),
        ]
        assert np.abs(found - expected).max() < 1
    with pytest.raises(ValueError, match="which originals it is for"):
        Plan(labels, addresses, photograph_weight=2.0)


def test_weights_apply_at_exponent_one_too():
    sizes = np.array([10, 30])
    assert class_quotas(sizes, None, 1.0, np.array([1.0, 1.0])).tolist() == [10, 30]
    assert class_quotas(sizes, None, 1.0, np.array([3.0, 1.0])).tolist() == [20, 20]
