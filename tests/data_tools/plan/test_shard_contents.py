"""Every shard holds a fair mixture, in an order that depends on the examples and the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.plan import shard_contents
from data_tools.plan.shard_contents import Selection, layout, store_order


@given(
    num_train=st.integers(0, 300),
    num_test=st.integers(0, 50),
    chunk_size=st.integers(1, 7),
    shard_examples=st.integers(1, 40),
)
def test_spans_cover_every_selection_once_and_begin_at_whole_records(
    num_train: int, num_test: int, chunk_size: int, shard_examples: int
):
    rows = [np.arange(num, dtype=np.int32) for num in (num_train, num_test)]
    selections = [
        Selection(name, row, row) for name, row in zip(("train", "test"), rows, strict=True)
    ]
    spans = layout(selections, chunk_size=chunk_size, shard_examples=shard_examples)
    assert len({span.file for span in spans}) == len(spans)
    for place, row in enumerate(rows):
        mine = [span for span in spans if span.selection == place]
        covered = [position for span in mine for position in range(span.start, span.end)]
        assert covered == list(range(len(row)))
        assert all(span.start % chunk_size == 0 for span in mine)
        assert all(span.file.startswith(selections[place].split) for span in mine)


def test_the_stored_order_mixes_classes_and_depends_on_the_seed():
    rows = np.arange(2000, dtype=np.int32)
    copies, ids = np.zeros_like(rows), [str(row) for row in rows]
    order = store_order("train", rows, copies, ids, 0).rows
    assert sorted(order.tolist()) == rows.tolist()
    halves = (order < 1000).reshape(20, 100).mean(1)  # rows below 1000 are one class, say
    assert 0.3 < halves.min() <= halves.max() < 0.7
    assert (store_order("train", rows, copies, ids, 1).rows != order).mean() > 0.9
    # Order is of the examples, not of how they were listed.
    shuffled = np.random.default_rng(0).permutation(rows)
    np.testing.assert_array_equal(store_order("train", shuffled, copies, ids, 0).rows, order)


def test_blocks_do_not_show_in_the_stored_order(monkeypatch: pytest.MonkeyPatch):
    rows = np.arange(100, dtype=np.int32)
    ids = [str(row) for row in rows]
    whole = store_order("train", rows, rows, ids, 0)
    monkeypatch.setattr(shard_contents, "BLOCK", 7)
    parts = store_order("train", rows, rows, ids, 0)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    np.testing.assert_array_equal(whole.copies, parts.copies)
