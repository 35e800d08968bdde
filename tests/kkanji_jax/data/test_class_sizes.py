"""One table of class sizes: every size has one bucket, and all reports name it alike."""

import pytest

from kkanji_jax.data.class_sizes import CLASS_SIZES, class_size_bucket, class_size_label


def test_every_class_size_has_exactly_one_bucket():
    edges = {1: 0, 2: 1, 4: 1, 5: 2, 9: 2, 10: 3, 19: 3, 20: 4, 49: 4, 50: 5, 99: 5, 100: 6, 499: 6}
    for size, row in (edges | {500: 7, 10**6: 7}).items():
        assert class_size_bucket(size) == row
    for (_, most), (least, _) in zip(CLASS_SIZES, CLASS_SIZES[1:], strict=False):
        assert most is not None and least == most + 1
    with pytest.raises(ValueError, match="training originals"):
        class_size_bucket(0)


def test_a_bucket_has_one_name():
    assert [class_size_label(*bucket) for bucket in CLASS_SIZES[:2]] == ["1", "2-4"]
    assert class_size_label(*CLASS_SIZES[-1]) == "500 or more"
