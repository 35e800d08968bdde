"""Initial weights: drawn from (seed, name) alone, with the spread of the authors' code."""

import jax
import numpy as np
import pytest
from flax import nnx

from kkanji_jax.model.efficientnet import create_model
from kkanji_jax.model.initialisers import (
    Initial,
    classifier,
    convolution,
    initial_value,
    initial_values,
)

PINNED = [-0.2051027, -0.1422126, 0.1408124]


@pytest.mark.parametrize(
    ("initial", "shape", "std"),
    [
        (convolution(9 * 512), (3, 3, 1, 512), (2 / (9 * 512)) ** 0.5),
        (convolution(25), (5, 5, 1, 400), (2 / 25) ** 0.5),
        (convolution(64), (96, 64), (2 / 64) ** 0.5),
        (classifier(64), (96, 64), (1 / 64 / 3) ** 0.5),
    ],
)
def test_kernels_have_the_spread_of_the_authors_code(
    initial: Initial, shape: tuple[int, ...], std: float
) -> None:
    value = initial_value(initial, "['kernel']", shape, seed=0)
    assert value.dtype == np.float32 and value.shape == shape
    # At least 4,600 draws: the deviation of their spread is 1 %, of their mean 1.5 % of it.
    assert value.std() == pytest.approx(std, rel=0.05)
    assert abs(value.mean()) < 0.06 * std


def test_the_classifier_starts_within_its_limit() -> None:
    assert np.abs(initial_value(classifier(64), "['kernel']", (96, 64), 0)).max() <= 1 / 8


def test_every_weight_of_the_network_begins_as_the_authors_say() -> None:
    network = create_model("nano", num_classes=50, seed=3)
    params = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    stats = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
    block = params["blocks"][1]
    for norm, running in ((block["project_norm"], stats["blocks"][1]["project_norm"]),):
        assert (norm["scale"] == 1).all() and (norm["bias"] == 0).all()
        assert (running["var"] == 1).all() and (running["mean"] == 0).all()
    assert not params["classifier"]["bias"].any() and not block["squeeze"]["bias"].any()
    assert np.abs(params["classifier"]["kernel"]).max() <= 50**-0.5
    side, _, _, channels = block["depthwise_kernel"].shape
    spread = block["depthwise_kernel"].std()  # a few hundred draws
    assert spread == pytest.approx((2 / side**2) ** 0.5, rel=0.15), channels
    for name in ("expand", "project"):
        kernel = block[name]["kernel"]
        assert kernel.std() == pytest.approx((2 / kernel.shape[1]) ** 0.5, rel=0.15), name


def test_an_abstract_network_gets_the_values_of_a_real_one() -> None:
    network = create_model("nano", num_classes=5, seed=3)
    abstract = nnx.eval_shape(lambda: create_model("nano", num_classes=5))
    for kind in (nnx.Param, nnx.BatchStat):
        ours, real = initial_values(abstract, kind, 3), nnx.to_pure_dict(nnx.state(network, kind))
        jax.tree.map(np.testing.assert_array_equal, ours, real)


def test_a_value_depends_on_seed_and_name_and_nothing_else() -> None:
    first = initial_value(convolution(7), "['head']['kernel']", (6, 7), 5)
    initial_value(
        convolution(72), "['stem_kernel']", (3, 3, 1, 8), 5
    )  # another draw between changes nothing
    np.testing.assert_array_equal(
        first, initial_value(convolution(7), "['head']['kernel']", (6, 7), 5)
    )
    assert not np.array_equal(first, initial_value(convolution(7), "['head']['kernel']", (6, 7), 6))
    assert not np.array_equal(
        first, initial_value(convolution(7), "['blocks'][1]['kernel']", (6, 7), 5)
    )


def test_values_stay_what_they_were_when_a_run_began() -> None:
    # The first draws of one address: a change here changes what every seed means.
    value = initial_value(convolution(18), "['stem_kernel']", (3, 3, 1, 2), 0).ravel()[:3]
    np.testing.assert_allclose(value, PINNED, rtol=1e-6)
