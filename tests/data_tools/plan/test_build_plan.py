"""What is decided before anything is written."""

import shlex

import numpy as np
import pytest

from data_tools import build
from data_tools.plan.build_plan import Options, count_splits
from data_tools.plan.shard_contents import Selection
from kkanji_jax.data.class_index import ClassIndex


def test_counts_of_splits_leave_absent_classes_out():
    index = ClassIndex(("U+3042", "U+6625", "U+6765"))
    class_ids = np.array([0, 2, 2, 1], np.int32)
    selection = Selection("val", np.array([1, 2, 0], np.int32), np.zeros(3, np.int32))
    assert count_splits([selection], class_ids, index) == {
        "val": {"num_examples": 3, "num_classes": 2, "class_counts": {"U+3042": 1, "U+6765": 2}}
    }


def test_the_command_of_a_dataset_repeats_its_options():
    options = Options(
        ratios=(100 / 3, 100 / 3, 100 - 200 / 3),
        val_books=("old book", "源氏"),
        test_books=("c$d",),
    ).completed()
    words = shlex.split(options.command())[3:]
    args = build.make_parser().parse_args(words)
    assert build.parse_ratios(args.ratios) == options.ratios
    assert (args.val_books, args.test_books) == (options.val_books, options.test_books)
    assert "--ratios 80/10/10 " in Options().completed().command()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_would_be_taken_for_another_one_is_refused(seed: int):
    with pytest.raises(ValueError, match="--seed must be 0 to 4294967295"):
        Options(seed=seed).completed()
    assert Options(seed=2**32 - 1).completed().seed == 2**32 - 1
