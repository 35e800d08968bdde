"""Augmentation on the device: addressed, exact, and only as strong as the policy says."""

import hashlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kkanji_jax.augment import engine
from kkanji_jax.augment.engine import augment, sample_keys
from kkanji_jax.augment.policy import NONE, POLICIES, Policy, get_policy
from kkanji_jax.augment.policy_tables import make_tables

SAFE, LEGACY = get_policy("glyph_safe"), get_policy("legacy")
GEOMETRY = SAFE._replace(
    name="geometry",
    stroke_max_px=0.0,
    soften_max=0.0,
    sharpen_max=0.0,
    cutout_prob=0.0,
)


def draw_glyphs(num: int, image_px: int = 64, seed: int = 0) -> np.ndarray:
    """Brush-like glyphs that touch the frame at top and bottom: soft strokes on black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:image_px, :image_px] / (image_px - 1)
    glyphs = np.zeros((num, image_px, image_px))
    for glyph in glyphs:
        for stroke in range(4):
            start, end = rng.uniform(0.15, 0.85, (2, 2))
            if stroke == 0:
                start[1], end[1] = 0.0, 1.0
            t = np.clip(
                ((x - start[0]) * (end - start)[0] + (y - start[1]) * (end - start)[1])
                / ((end - start) ** 2).sum(),
                0,
                1,
            )
            gap = np.hypot(x - start[0] - t * (end - start)[0], y - start[1] - t * (end - start)[1])
            glyph[:] = np.maximum(glyph, np.clip((0.04 - gap) * image_px + 0.5, 0, 1))
    return np.round(glyphs * 255).astype(np.uint8)


def addresses_of(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, (num, 2), dtype=np.uint32)


@partial(jax.jit, static_argnames=("policy", "seed"))
def vary(images, addresses, copies, policy: Policy = SAFE, seed: int = 0):
    return augment(images, sample_keys(seed, addresses, copies), copies, policy)


def varied(images, addresses, copies, policy: Policy = SAFE, seed: int = 0) -> np.ndarray:
    copies = jnp.asarray(np.broadcast_to(np.int32(copies), len(images)))
    return np.asarray(vary(jnp.asarray(images), jnp.asarray(addresses), copies, policy, seed))


@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_copy_0_is_the_original_bit_for_bit(policy: Policy, rng: np.random.Generator):
    images = rng.integers(0, 256, (6, 64, 64), dtype=np.uint8)
    copies = np.array([0, 1, 0, 2, 0, 0])
    result = varied(images, addresses_of(6), copies, policy)
    assert (result[copies == 0] == images[copies == 0]).all()
    changed = (result[copies > 0] != images[copies > 0]).any((1, 2))
    assert changed.all() == (policy.name != "none")
    assert (varied(images, addresses_of(6), 0, policy) == images).all()


def test_a_warp_by_nothing_is_the_identity(rng: np.random.Generator):
    images = rng.integers(0, 256, (3, 64, 64), dtype=np.uint8)
    still = NONE._replace(name="still", rotation_max_deg=1e-9)  # not NONE, which skips the warp
    assert (varied(images, addresses_of(3), 1, still) == images).all()


def test_a_result_depends_on_seed_address_and_copy_and_on_nothing_else():
    image, address = draw_glyphs(1), np.array([[7, 9]], np.uint32)
    first = varied(image, address, 1)
    others = [
        varied(image, address, 1, seed=1),
        varied(image, address, 2),
        varied(image, np.array([[8, 9]], np.uint32), 1),
        varied(image, np.array([[7, 10]], np.uint32), 1),
        varied(image, np.array([[9, 7]], np.uint32), 1),
    ]
    assert (varied(image, address, 1) == first).all()
    assert all((other != first).any() for other in others)
    assert len({other.tobytes() for other in others}) == len(others)


@pytest.mark.parametrize("policy", [SAFE, LEGACY], ids=lambda policy: policy.name)
def test_neighbours_and_batch_size_change_no_bit(policy: Policy):
    images, addresses = draw_glyphs(72), addresses_of(72)
    copies = np.arange(72, dtype=np.int32) % 5
    whole = varied(images, addresses, copies, policy)
    order = np.random.default_rng(1).permutation(72)
    assert (varied(images[order], addresses[order], copies[order], policy) == whole[order]).all()
    for size in (1, 17, 64):
        part = varied(images[:size], addresses[:size], copies[:size], policy)
        assert (part == whole[:size]).all(), size


@pytest.mark.parametrize("policy", [SAFE, LEGACY], ids=lambda policy: policy.name)
def test_eight_devices_give_the_bits_of_one(policy: Policy):
    images, addresses = jnp.asarray(draw_glyphs(32)), jnp.asarray(addresses_of(32))
    copies = jnp.arange(32, dtype=jnp.int32) % 7
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    batch = jax.device_put((images, addresses, copies), split)
    on_eight = vary(*batch, policy)
    assert len(on_eight.sharding.device_set) == 8
    assert (np.asarray(on_eight) == np.asarray(vary(images, addresses, copies, policy))).all()


def test_the_bits_are_those_of_every_platform():
    """All arithmetic is exact, so one digest holds everywhere; a new one is a new augmentation."""
    images = np.arange(4 * 64 * 64, dtype=np.uint32).reshape(4, 64, 64) * 2654435761 >> 24
    digests = {
        policy.name: hashlib.sha256(
            varied(images.astype(np.uint8), addresses_of(4), 1, policy).tobytes()
        ).hexdigest()[:16]
        for policy in (SAFE, LEGACY)
    }
    assert digests == DIGESTS


DIGESTS = {"glyph_safe": "2ef887eb832d76a2", "legacy": "75de8e74ecdbf7f1"}


def test_the_step_needs_no_implicit_transfer_and_no_promotion():
    images, addresses = jnp.asarray(draw_glyphs(3)), jnp.asarray(addresses_of(3))
    copies = jnp.ones(3, jnp.int32)
    with (
        jax.transfer_guard("disallow"),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        for policy in (SAFE, LEGACY):
            jax.jit(partial(vary, policy=policy))(images, addresses, copies)


@given(image_px=st.sampled_from([2, 5, 28, 32, 64, 100]), name=st.sampled_from(list(POLICIES)))
def test_any_square_size_keeps_shape_and_dtype(image_px: int, name: str):
    images = draw_glyphs(2, image_px)
    copies = jnp.ones(2, jnp.int32)
    keys = sample_keys(0, jnp.asarray(addresses_of(2)), copies)
    result = jax.eval_shape(partial(augment, policy=get_policy(name)), images, keys, copies)
    assert result.shape == images.shape and result.dtype == np.uint8


@pytest.mark.parametrize("shape", [(2, 64, 32), (2, 129, 129), (2, 1, 1)])
def test_other_shapes_are_refused(shape: tuple[int, int, int]):
    copies = jnp.ones(2, jnp.int32)
    keys = sample_keys(0, jnp.zeros((2, 2), jnp.uint32), copies)
    with pytest.raises(
        ValueError, match=f"must be square, of 2 to 128 px, not {shape[1]}x{shape[2]}"
    ):
        augment(jnp.zeros(shape, jnp.uint8), keys, copies, SAFE)


def test_black_stays_black_under_glyph_safe_and_the_legacy_lights_it():
    blank = np.zeros((64, 64, 64), np.uint8)
    assert not varied(blank, addresses_of(64), 1).any()
    haze = varied(blank, addresses_of(64), 1, LEGACY)
    assert 0.46 < (haze > 0).mean() < 0.50 and 4.5 < haze.mean() < 5.5


def test_hardly_any_ink_leaves_the_frame():
    """Measured on a frame of twice the side, with lengths halved, so nothing is lost unseen."""
    lengths = ("translation_max_px", "elastic_std_px", "elastic_sigma_px")
    half = GEOMETRY._replace(**{name: getattr(SAFE, name) / 2 for name in lengths})
    glyphs = np.pad(draw_glyphs(400), ((0, 0), (32, 32), (32, 32)))
    moved = varied(glyphs, addresses_of(400), 1, half).astype(np.int64)
    lost = 1 - moved[:, 32:96, 32:96].sum((1, 2)) / moved.sum((1, 2))
    assert lost.mean() < 0.01 and np.quantile(lost, 0.99) < 0.06, (lost.mean(), lost.max())


def test_the_glyph_stays_recognisable():
    """Each varied glyph is more like its own original than like any of the others."""
    glyphs = draw_glyphs(50)
    moved = varied(glyphs, addresses_of(50), 1).reshape(50, -1).astype(float)
    flat = glyphs.reshape(50, -1).astype(float)
    likeness = np.corrcoef(moved, flat)[:50, 50:]
    assert (likeness.argmax(1) == np.arange(50)).mean() > 0.95
    assert np.median(likeness.diagonal()) > 0.5


def test_the_elastic_field_is_the_gaussian_filter_of_white_noise():
    for policy, translation_share in ((SAFE, (0.05, 0.15)), (LEGACY, (0.75, 0.85))):
        tables = make_tables(policy, 64)
        rank = tables.elastic_basis.shape[1]
        words = np.random.default_rng(0).integers(0, 2**32, (4000, 2, rank, rank), dtype=np.uint32)
        field = (
            np.asarray(jax.jit(jax.vmap(partial(engine._elastic_q8, tables=tables)))(words)) / 256
        )
        # The filter as a matrix: mirrored taps of a Gaussian cut at four sigma.
        reach = round(4 * policy.elastic_sigma_px)
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / policy.elastic_sigma_px) ** 2)
        smoother = np.zeros((64, 64))
        for row in range(64):
            for offset, tap in zip(range(-reach, reach + 1), taps / taps.sum(), strict=True):
                place = (row + offset) % 128
                smoother[row, min(place, 127 - place)] += tap
        expected = smoother @ smoother.T
        expected *= policy.elastic_std_px / np.mean(expected.diagonal())
        got = np.einsum("ncij,ncik->jk", field, field) / (4000 * 2 * 64)
        scale = np.mean(expected.diagonal())  # one axis averaged out: the other's mean variance
        error = np.abs(got - expected * scale).max() / (expected * scale).max()
        assert error < 0.06, "four standard errors of 4,000 draws"
        assert abs(np.sqrt((field**2).mean()) / policy.elastic_std_px - 1) < 0.03
        share = field.mean((2, 3)).var() / (field**2).mean()
        assert translation_share[0] < share < translation_share[1]


def test_the_field_is_exact_in_float32():
    for policy in (SAFE, LEGACY, SAFE._replace(elastic_sigma_px=3.0)):
        tables = make_tables(policy, 64)
        basis, rank = tables.elastic_basis.astype(np.int64), tables.elastic_basis.shape[1]
        words = np.random.default_rng(0).integers(0, 2**32, (2, rank, rank), dtype=np.uint32)
        words[0] = 2**32 - 1  # every byte at its largest: the farthest a sum can go
        sums = np.sum([(words >> shift) & 255 for shift in (0, 8, 16, 24)], axis=0) - 510
        sums = sums.astype(np.int64)
        rows = np.round((basis @ sums) / 2**tables.elastic_shift).astype(np.int64)
        expected = rows @ basis.T
        assert np.abs(expected).max() < 2**24
        expected = np.round(np.float32(expected) * np.float32(tables.elastic_gain_q8))
        got = np.asarray(engine._elastic_q8(jnp.asarray(words), tables))
        assert (got == expected).all()


def test_the_warp_is_the_inverse_of_its_matrix():
    tables = make_tables(SAFE, 64)
    words = np.random.default_rng(0).integers(
        0, 2**32, (50, engine.NUM_PARAMETERS), dtype=np.uint32
    )
    still = jnp.zeros((2, 64, 64), jnp.int32)
    pivot = np.array([40.25, 20.5])
    for draw in words:
        source = np.stack(
            engine._source_q8(jnp.asarray(draw), jnp.asarray(pivot * 256, jnp.int32), still, tables)
        )
        unit = 2 * ((draw >> 22) + 0.5) / 1024 - 1
        angle = np.radians(SAFE.rotation_max_deg) * unit[0]
        rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        scale = SAFE.scale_min + (SAFE.scale_max - SAFE.scale_min) * (unit[2] + 1) / 2
        root = SAFE.aspect_max ** (unit[3] / 2)
        matrix = rotate @ [[1, SAFE.shear_max * unit[1]], [0, 1]] @ np.diag([root, 1 / root])
        landed = np.einsum("ij,jyx->iyx", scale * matrix, source / 256 - pivot[:, None, None])
        landed += (pivot + SAFE.translation_max_px * unit[4:6])[:, None, None]
        y, x = np.mgrid[:64, :64]
        assert np.abs(landed - np.stack([x, y])).max() < 0.03


def test_cutout_erases_one_rectangle_of_the_stated_size_as_often_as_stated():
    policy = NONE._replace(name="cut", cutout_prob=0.25, cutout_min_frac=0.1, cutout_max_frac=0.25)
    white = np.full((2000, 64, 64), 255, np.uint8)
    erased = varied(white, addresses_of(2000), 1, policy) == 0
    is_cut = erased.any((1, 2))
    assert abs(is_cut.mean() - 0.25) < 0.03, "three standard errors"
    heights, widths = erased.any(2).sum(1)[is_cut], erased.any(1).sum(1)[is_cut]
    assert (erased.sum((1, 2))[is_cut] == heights * widths).all()
    for sides in (heights, widths):
        assert sides.min() >= 6 and sides.max() == 15 and abs(sides.mean() - 10.7) < 0.5
    assert erased[:, :, 0].any() and erased[:, :, -1].any(), "every place can be erased"


def test_the_pivot_is_the_centroid_of_the_ink():
    image = np.zeros((64, 64), np.uint8)
    image[10:20, 40:44] = 200
    assert (np.asarray(engine._centroid_q8(jnp.asarray(image))) == [41.5 * 256, 14.5 * 256]).all()
    image[:] = 0
    assert (np.asarray(engine._centroid_q8(jnp.asarray(image))) == 31.5 * 256).all()
