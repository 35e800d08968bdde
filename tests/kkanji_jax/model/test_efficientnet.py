"""EfficientNet against timm's logits and the published sizes, and what training mode adds."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kkanji_jax.model import efficientnet, variants
from kkanji_jax.model.efficientnet import BatchNorm, EfficientNet, create_model, drop_path
from kkanji_jax.model.losses import example_losses
from kkanji_jax.model.variants import STAGES, get_variant, round_repeats

GOLDEN = Path(__file__).parents[2] / "golden"
NUM_CLASSES = 48
GAINS = {"b0": 2.6, "b1": 2.35, "b3": 2.2}
# Float32 sums in another order, through up to 26 blocks whose weights amplify a small change: the
# logits are of size 1 and agree to about 1e-5.
TOLERANCE = 2e-4  # relative and absolute

Tree = dict[str, Any]


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    return np.random.Generator(np.random.Philox(key)).standard_normal(shape)


def fill(name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """The formula of tests/golden/make/pytorch.py, by timm's name and shape."""
    values = normal(name, shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * values
    elif len(shape) == 1:
        values = 1.0 + 0.2 * values
    else:
        values = values * math.sqrt(gain / math.prod(shape[1:]))
    return values.astype(np.float32)


def timm_modules(variant: str) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Our modules' paths with timm's names of the same."""
    yield from [(("stem_kernel",), "conv_stem"), (("stem_norm",), "bn1")]
    position = 0
    for number, stage in enumerate(STAGES):
        for repeat in range(round_repeats(stage.num_blocks, get_variant(variant).depth)):
            theirs, ours = f"blocks.{number}.{repeat}", ("blocks", position)
            if stage.expand_ratio == 1:
                names = ["conv_dw", "bn1", "conv_pw", "bn2"]
            else:
                names = ["conv_dw", "bn2", "conv_pwl", "bn3"]
                yield (*ours, "expand"), f"{theirs}.conv_pw"
                yield (*ours, "expand_norm"), f"{theirs}.bn1"
            mine = ["depthwise_kernel", "depthwise_norm", "project", "project_norm"]
            for leaf, name in zip(mine, names, strict=True):
                yield (*ours, leaf), f"{theirs}.{name}"
            yield (*ours, "squeeze"), f"{theirs}.se.conv_reduce"
            yield (*ours, "excite"), f"{theirs}.se.conv_expand"
            position += 1
    yield from [(("head",), "conv_head"), (("head_norm",), "bn2"), (("classifier",), "classifier")]


def abstract(variant: str, num_classes: int = NUM_CLASSES, **options) -> tuple[Any, Tree, Tree]:
    """Structure, and shapes of weights and of statistics, computing nothing."""
    network = nnx.eval_shape(lambda: create_model(variant, num_classes, **options))
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def filled(variant: str) -> tuple[Any, Tree, Tree]:
    """Like `abstract`, with the arrays that timm's network had when its logits were recorded."""
    graphdef, params, stats = abstract(variant)
    names = dict(timm_modules(variant))
    leaves = {"scale": "weight", "kernel": "weight", "mean": "running_mean", "var": "running_var"}

    def value(path, leaf) -> np.ndarray:
        keys = tuple(entry.key for entry in path)
        shape = leaf.shape
        if keys in names:  # a kernel of k x k pixels: HWIO from OIHW
            array = fill(f"{names[keys]}.weight", (*shape[:1:-1], *shape[:2]), GAINS[variant])
            return array.transpose(2, 3, 1, 0)
        name = f"{names[keys[:-1]]}.{leaves.get(keys[-1], keys[-1])}"
        return fill(name, shape[::-1], GAINS[variant]).T  # [in, out] from [out, in]

    fill_all = jax.tree_util.tree_map_with_path
    return graphdef, fill_all(value, params), fill_all(value, stats)


def images(image_px: int = 64) -> np.ndarray:
    squares = np.kron(normal("images", (2, 8, 8)), np.ones((8, 8)))
    return squares[:, :image_px, :image_px, None].astype(np.float32)


def logits_of(graphdef, params: Tree, stats: Tree, x: np.ndarray | jax.Array) -> np.ndarray:
    @jax.jit
    def run(params, stats, x):
        return nnx.merge(graphdef, params, stats)(x, train=False)

    return np.asarray(run(params, stats, x))


def recorded_logits(variant: str) -> np.ndarray:
    with np.load(GOLDEN / f"efficientnet_{variant}.npz") as file:
        return file["logits"]


@pytest.mark.parametrize(
    "variant", ["b0", *(pytest.param(name, marks=pytest.mark.slow) for name in ("b1", "b3"))]
)
def test_logits_are_those_of_an_independent_implementation(variant: str) -> None:
    ours = logits_of(*filled(variant), images())
    np.testing.assert_allclose(ours, recorded_logits(variant), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["epsilon", "padding"])
def test_recorded_logits_tell_a_mistake_that_fits_every_shape(monkeypatch, mistake: str) -> None:
    if mistake == "epsilon":
        monkeypatch.setattr(efficientnet, "NORM_EPSILON", 1e-5)
    else:
        right = efficientnet.patches

        def symmetric(x, kernel_px, stride):  # the row and column of padding come first
            moved = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))[:, :-1, :-1]
            return right(moved, kernel_px, stride)

        monkeypatch.setattr(efficientnet, "patches", symmetric)
    theirs = recorded_logits("b0")
    error = np.abs(logits_of(*filled("b0"), images()) - theirs)
    assert error.max() > 20 * TOLERANCE * (1 + np.abs(theirs).max())


def test_a_stage_with_the_wrong_kernel_does_not_fit_the_recorded_sizes(monkeypatch) -> None:
    wrong = tuple(
        stage._replace(kernel_px=5) if number == 3 else stage for number, stage in enumerate(STAGES)
    )
    monkeypatch.setattr(variants, "STAGES", wrong)
    assert count_weights("b0") != PUBLISHED_SIZES["b0"]


PUBLISHED_SIZES = {
    "b0": 5_288_548,
    "b1": 7_794_184,
    "b2": 9_109_994,
    "b3": 12_233_232,
    "b4": 19_341_616,
    "b5": 30_389_784,
    "b6": 43_040_704,
    "b7": 66_347_960,
}


def count_weights(variant: str) -> int:
    _, params, _ = abstract(variant, 1000, in_channels=3)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("variant", ["b0", "b3"])
def test_the_number_of_weights_is_the_published_one(variant: str) -> None:
    assert count_weights(variant) == PUBLISHED_SIZES[variant]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b1", "b2", "b4", "b5", "b6", "b7"])
def test_the_number_of_weights_of_the_others_is_the_published_one(variant: str) -> None:
    assert count_weights(variant) == PUBLISHED_SIZES[variant]


def test_a_stride_of_one_doubles_the_maps_from_there_on(monkeypatch) -> None:
    seen: list[tuple[int, ...]] = []
    right = efficientnet.depthwise_conv

    def watched(x, kernel, stride):
        seen.append(x.shape[1:3])
        return right(x, kernel, stride)

    monkeypatch.setattr(efficientnet, "depthwise_conv", watched)
    x = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    for options in ({}, {"stem_stride": 1}, {"last_stride": 1}):
        graphdef, params, stats = abstract("nano", 3, **options)
        network = nnx.merge(graphdef, params, stats)
        logits = nnx.eval_shape(lambda net, x: net(x, train=False), network, x)
        assert logits.shape == (1, 3)
    paper, full, wide = seen[:7], seen[7:14], seen[14:]  # the inputs of the seven blocks
    assert paper == [(side, side) for side in (16, 16, 8, 4, 2, 2, 1)]
    assert full == [(2 * height, 2 * width) for height, width in paper]
    assert wide == [*paper[:6], (2, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem_stride": 3}, "stem_stride must be 1 or 2, not 3"),
        ({"last_stride": 0}, "last_stride must be 1 or 2, not 0"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\), not 1.0"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\), not -0.1"),
        ({"in_channels": 0}, "in_channels must be at least 1, not 0"),
    ],
)
def test_an_option_outside_its_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        abstract("nano", **options)


def test_batch_norm_in_training_is_that_of_numpy(rng: np.random.Generator) -> None:
    x = (2 * rng.normal(size=(4, 3, 5, 6)) + 1).astype(np.float32)
    norm = BatchNorm(6)
    y = norm(jnp.asarray(x), train=True)
    exact = x.astype(np.float64)
    mean, var = exact.mean(axis=(0, 1, 2)), exact.var(axis=(0, 1, 2))  # biased
    # Float32 means of 60 values of size 1.
    np.testing.assert_allclose(y, (exact - mean) / np.sqrt(var + 1e-3), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.01 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.99 + 0.01 * var, rtol=1e-5)
    after = norm.mean[...]
    norm(jnp.asarray(x), train=False)
    np.testing.assert_array_equal(norm.mean[...], after)


def test_drop_path_drops_whole_images_and_keeps_the_expectation() -> None:
    y = np.asarray(drop_path(jnp.ones((4000, 2, 2, 3)), 0.25, jax.random.key(0)))
    per_image = y.reshape(len(y), -1)
    assert (per_image == per_image[:, :1]).all()
    np.testing.assert_allclose(np.unique(y), [0.0, 4 / 3], rtol=1e-6)
    # The deviation of the mean of 4,000 images is 0.009.
    assert per_image[:, 0].mean() == pytest.approx(1.0, abs=0.04)


def small_network(**options) -> tuple[Any, Tree, Tree]:
    """nano with weights of seed 0 and statistics as they start."""
    network = create_model("nano", 5, **options)
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


@pytest.fixture(scope="module")
def nano() -> tuple[Any, Tree, Tree]:
    return small_network()


def test_dropout_and_drop_path_draw_in_training_only_and_from_the_callers_rngs(nano) -> None:
    graphdef, params, stats = nano

    @jax.jit
    def trained(key):
        network = nnx.merge(graphdef, params, stats)
        rngs = nnx.Rngs(dropout=key, drop_path=jax.random.fold_in(key, 1))
        return network(jnp.asarray(images(32)), train=True, rngs=rngs)

    first, again, other = (np.asarray(trained(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    with pytest.raises(ValueError, match="train=True needs rngs with streams dropout and drop_"):
        nnx.merge(graphdef, params, stats)(jnp.asarray(images(32)), train=True)


def test_training_promotes_no_dtype_and_no_rank_by_accident(nano) -> None:
    graphdef, params, stats = nano

    def loss(params):
        network = nnx.merge(graphdef, params, stats)
        rngs = nnx.Rngs(dropout=jax.random.key(0), drop_path=jax.random.key(1))
        logits = network(jnp.asarray(images(32)), train=True, rngs=rngs)
        return jnp.mean(example_losses(logits, jnp.asarray([1, 4]), 0.1))

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        gradients = jax.eval_shape(jax.grad(loss), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_bfloat16_activations_give_float32_logits_near_the_exact_ones(nano) -> None:
    graphdef, params, stats = nano
    exact = logits_of(graphdef, params, stats, images(32))
    coarse, *_ = abstract("nano", 5, dtype=jnp.bfloat16)
    rounded = logits_of(coarse, params, stats, images(32))
    assert rounded.dtype == np.float32
    # Eight bits a number, seven blocks: a few hundredths of the logits' size.
    np.testing.assert_allclose(rounded, exact, atol=0.1 * np.abs(exact).max())
    assert np.abs(rounded - exact).max() > 0


def test_blocks_keep_their_order_through_a_dict_of_arrays() -> None:
    graphdef, params, stats = abstract("b0")  # 16 blocks: as text, "10" comes before "9"
    assert list(params["blocks"]) == list(range(16))
    widths = [block["project"]["kernel"].shape[1] for block in params["blocks"].values()]
    assert widths == [s.out_channels for s in STAGES for _ in range(s.num_blocks)]
    network = nnx.merge(graphdef, params, stats)
    assert isinstance(network, EfficientNet)
    again = nnx.to_pure_dict(nnx.state(network, nnx.Param))["blocks"]
    assert [again[position]["project"]["kernel"].shape[1] for position in range(16)] == widths
