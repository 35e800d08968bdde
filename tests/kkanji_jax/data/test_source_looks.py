"""What a sample id says of an image's look."""

import pytest

from kkanji_jax.data.source_looks import look_of


@pytest.mark.parametrize(
    ("sample_id", "look"),
    [
        ("char-shape/U+6625/U+6625_200003076_00002_1_X0301_Y1012", "photographed"),
        ("char-shape/U+6625/U+6625_200003076_00002_1_X0301_Y1012#3", "photographed"),
        ("kkanji/U+6625/0a1b2c3d4e5f6a7b", "published"),
        ("kmnist-test/000123", "published"),
        ("images/char-shape/7.jpg", "published"),
    ],
)
def test_crops_of_codh_s_character_shapes_are_photographed(sample_id: str, look: str):
    assert look_of(sample_id) == look
