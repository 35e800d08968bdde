"""Epochs become steps, and what is due is never missed between dispatches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.training.schedule import Pace, check_batch_fits


def pace(per_dispatch: int = 1, log_every: int = 7, epochs: float = 2.0) -> Pace:
    return Pace.of(
        1000,
        batch_size=64,
        epochs=epochs,
        per_dispatch=per_dispatch,
        log_every=log_every,
        eval_every=None,
        ckpt_every=None,
    )


def test_evaluation_is_once_an_epoch_and_a_checkpoint_with_it() -> None:
    assert pace().total_steps == 31
    assert pace().eval_every == pace().ckpt_every == 16


@given(st.integers(1, 9), st.integers(1, 40))
def test_every_multiple_is_due_exactly_once_whatever_the_dispatch(k: int, every: int) -> None:
    run = pace(per_dispatch=k, log_every=every, epochs=20.0)
    ends = range(k, run.total_steps + 1, k)
    due = [end for end in ends if run.is_due(end, every)]
    assert due[-1] == run.total_steps
    passed = {-(-multiple // k) * k for multiple in range(every, run.total_steps + 1, every)}
    assert set(due) == passed | {run.total_steps}


def test_a_run_is_at_least_one_dispatch() -> None:
    assert pace(per_dispatch=5, epochs=0.001).total_steps == 5


@pytest.mark.parametrize(("per_class", "most"), [(None, 30), (7, 14)])
def test_a_batch_may_be_as_large_as_an_epoch_and_no_larger(
    per_class: int | None, most: int
) -> None:
    train = {"num_examples": 30, "class_counts": {"a": 20, "b": 10}}
    check_batch_fits(most, train, per_class)
    with pytest.raises(ValueError, match=f"batch_size {most + 1} is more than the {most} examples"):
        check_batch_fits(most + 1, train, per_class)
