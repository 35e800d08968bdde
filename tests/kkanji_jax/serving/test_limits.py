"""Limits that cannot be kept are refused at the start, by the name of their flag."""

from dataclasses import fields, replace

import pytest

from kkanji_jax.glyphs.image_files import MAX_PIXELS
from kkanji_jax.serving.limits import Limits


def test_the_defaults_can_be_kept_and_images_may_be_as_large_as_predict_reads():
    Limits().validate()
    assert Limits().max_pixels == MAX_PIXELS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (field.name, value)
        for field in fields(Limits)
        for value in ([-1] if field.type is int else [-1.0, float("nan"), float("inf")])
    ],
)
def test_a_limit_out_of_range_is_refused(name: str, value: float):
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(ValueError, match=f"{flag} must be at least [01], not"):
        replace(Limits(), **{name: value}).validate()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"max_pixels": 16_777_217}, "--max-pixels must be at most 16,777,216"),
        ({"max_request_pixels": 100_000_001}, "--max-request-pixels must be at most 100,000,000"),
        ({"max_queue": 255}, "--max-queue must be at least --max-images, 256"),
        ({"max_held_bytes": 19_999_999}, "--max-held-bytes must be at least --max-bytes, 20,0"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(changes: dict, expected: str):
    with pytest.raises(ValueError, match=expected):
        replace(Limits(), **changes).validate()
