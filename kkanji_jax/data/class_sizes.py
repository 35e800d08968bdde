"""Classes by their number of training images: one table of buckets for every report."""

# (least, most) training originals of a class, both included; the last bucket has no upper end.
CLASS_SIZES = ((1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, 499), (500, None))


def class_size_bucket(num_originals: int) -> int:
    """The row of CLASS_SIZES for a class with this number of training originals."""
    for row, (least, most) in enumerate(CLASS_SIZES):
        if num_originals >= least and (most is None or num_originals <= most):
            return row
    raise ValueError(f"expected a class with training originals, got {num_originals}")


def class_size_label(least: int, most: int | None) -> str:
    """The name of a bucket in every table, figure and text: `1`, `2-4`, `500 or more`."""
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least}-{most}"
