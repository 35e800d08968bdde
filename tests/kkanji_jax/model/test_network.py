"""The network that a config describes, what it is given, and what it drops in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kkanji_jax.config import default_config
from kkanji_jax.model.network import (
    abstract_variables,
    build_network,
    init_variables,
    make_graphdef,
    network_input,
)

MODEL = default_config().model.to_dict() | {"variant": "nano", "image_px": 16}


@pytest.mark.parametrize(
    ("field", "value"), [("stem_stride", 1), ("dropout", 0.4), ("dtype", "bfloat16")]
)
def test_a_field_of_the_config_is_one_of_the_network(field: str, value: object) -> None:
    network = build_network(MODEL | {field: value}, 7)
    assert getattr(network, field) == value != getattr(build_network(MODEL, 7), field)


def test_the_last_stride_of_the_config_is_the_networks() -> None:
    plans = [
        [block.stride for block in build_network(MODEL | {"last_stride": stride}, 7).blocks]
        for stride in (2, 1)
    ]
    assert plans == [[1, 2, 2, 2, 1, 2, 1], [1, 2, 2, 2, 1, 1, 1]]


def test_dropout_that_is_not_set_is_the_variants() -> None:
    assert build_network(MODEL | {"variant": "b3"}, 7).dropout == 0.3


def test_groups_and_drop_path_reach_every_block() -> None:
    network = build_network(MODEL | {"norm_group": 4, "drop_path": 0.7}, 7)
    groups = {norm.group for norm in (network.stem_norm, network.head_norm)}
    groups |= {block.project_norm.group for block in network.blocks}
    assert groups == {4}
    np.testing.assert_allclose([block.drop_path for block in network.blocks], np.arange(7) / 10)


def test_fresh_values_have_the_shapes_of_the_abstract_ones() -> None:
    for fresh, shapes in zip(
        init_variables(MODEL, 7, 0), abstract_variables(MODEL, 7), strict=True
    ):
        found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), fresh)
        assert found == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes)


def test_the_input_is_grey_from_zero_to_one_and_averaged_where_it_shrinks() -> None:
    images = np.zeros((1, 32, 32), np.uint8)
    images[0, :, 16:] = 255
    whole = np.asarray(network_input(jnp.asarray(images), 32))
    np.testing.assert_array_equal(whole, images[..., None] / np.float32(255))
    small = np.asarray(network_input(jnp.asarray(images), 16))[0, 8, :, 0]
    # Triangles of four pixels: 1/8, 3/8, 3/8, 1/8 at either side of the edge.
    np.testing.assert_allclose(small[[0, 6, 7, 8, 9, 15]], [0, 0, 1 / 8, 7 / 8, 1, 1], atol=1e-6)


def test_dropout_zeroes_its_share_of_the_features_and_scales_the_others() -> None:
    rate, num_images = 0.75, 64
    graphdef = make_graphdef(MODEL | {"dropout": rate, "drop_path": 0.0}, 7)
    params, batch_stats = init_variables(MODEL, 7, 0)
    images = np.random.default_rng(0).integers(0, 256, (num_images, 16, 16)).astype(np.uint8)
    kernel = params["classifier"]["kernel"]
    # Logits are then single features, of which none is 0 before dropout.
    params["classifier"]["kernel"] = np.eye(*kernel.shape, dtype=np.float32)

    @jax.jit
    def logits_of(params, batch_stats, images, dropout):
        inputs = network_input(images, 16)
        trained = nnx.merge(graphdef, params, batch_stats)
        rngs = nnx.Rngs(dropout=dropout, drop_path=0)
        features = nnx.merge(graphdef, params, batch_stats).features(inputs, train=True, rngs=rngs)
        return trained(inputs, train=True, rngs=rngs), features[:, :7]

    dropped, features = map(np.asarray, logits_of(params, batch_stats, images, jax.random.key(0)))
    is_kept = dropped != 0
    np.testing.assert_allclose(dropped[is_kept], 4 * features[is_kept], rtol=1e-5)
    # Of 448 draws the share has a standard error of 2 points.
    assert is_kept.mean() == pytest.approx(1 - rate, abs=0.08)
