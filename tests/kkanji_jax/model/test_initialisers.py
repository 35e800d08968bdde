"""Initial weights: drawn from (seed, name) alone, with the spread of the authors' code."""

import numpy as np
import pytest

from kkanji_jax.model.initialisers import initial_value

PINNED = [-0.2051027, -0.1422126, 0.1408124]


@pytest.mark.parametrize(
    ("name", "shape", "std"),
    [
        ("['stem_kernel']", (3, 3, 1, 512), (2 / (9 * 512)) ** 0.5),
        ("['blocks'][4]['depthwise_kernel']", (5, 5, 1, 400), (2 / 25) ** 0.5),
        ("['blocks'][4]['project']['kernel']", (96, 64), (2 / 64) ** 0.5),
        ("['classifier']['kernel']", (96, 64), (1 / 64 / 3) ** 0.5),
    ],
)
def test_kernels_have_the_spread_of_the_authors_code(
    name: str, shape: tuple[int, ...], std: float
) -> None:
    value = initial_value(name, shape, seed=0)
    assert value.dtype == np.float32 and value.shape == shape
    # At least 4,600 draws: the deviation of their spread is 1 %, of their mean 1.5 % of it.
    assert value.std() == pytest.approx(std, rel=0.05)
    assert abs(value.mean()) < 0.06 * std


def test_the_classifier_starts_within_its_limit() -> None:
    assert np.abs(initial_value("['classifier']['kernel']", (96, 64), 0)).max() <= 1 / 8


def test_scales_and_variances_are_one_and_the_rest_zero() -> None:
    for leaf, constant in {"scale": 1, "var": 1, "bias": 0, "mean": 0}.items():
        value = initial_value(f"['blocks'][0]['project_norm']['{leaf}']", (8,), seed=3)
        np.testing.assert_array_equal(value, np.full(8, constant, np.float32))
    assert not initial_value("['classifier']['bias']", (8,), seed=3).any()


def test_a_value_depends_on_seed_and_name_and_nothing_else() -> None:
    first = initial_value("['head']['kernel']", (6, 7), 5)
    initial_value("['stem_kernel']", (3, 3, 1, 8), 5)  # another draw between changes nothing
    np.testing.assert_array_equal(first, initial_value("['head']['kernel']", (6, 7), 5))
    assert not np.array_equal(first, initial_value("['head']['kernel']", (6, 7), 6))
    assert not np.array_equal(first, initial_value("['blocks'][1]['kernel']", (6, 7), 5))


def test_values_stay_what_they_were_when_a_run_began() -> None:
    # The first draws of one address: a change here changes what every seed means.
    value = initial_value("['stem_kernel']", (3, 3, 1, 2), 0).ravel()[:3]
    np.testing.assert_allclose(value, PINNED, rtol=1e-6)
