"""What is decided before anything is written."""

import numpy as np

from data_tools.plan.build_plan import count_splits
from data_tools.plan.shard_contents import Selection
from kkanji_jax.data.class_index import ClassIndex


def test_counts_of_splits_leave_absent_classes_out():
    index = ClassIndex(("U+3042", "U+6625", "U+6765"))
    class_ids = np.array([0, 2, 2, 1], np.int32)
    selection = Selection("val", np.array([1, 2, 0], np.int32), np.zeros(3, np.int32))
    assert count_splits([selection], class_ids, index) == {
        "val": {"num_examples": 3, "num_classes": 2, "class_counts": {"U+3042": 1, "U+6765": 2}}
    }
