"""The reference engine: addressed, safe in threads, and of the same spread as the device's."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.write.host_augment import HostAugmenter, ink_centroid, make_pipeline
from kkanji_jax.augment.engine import augment, sample_keys
from kkanji_jax.augment.policy import NONE, POLICIES, Policy, get_policy
from kkanji_jax.augment.strokes import change_strokes

SAFE, LEGACY = get_policy("glyph_safe"), get_policy("legacy")
POINTS = np.arange(16, 49, 8)  # away from the frame: what is outside has no displacement


def draw_glyph(image_px: int = 64) -> np.ndarray:
    """A cross with a foot, soft at its edges."""
    glyph = np.zeros((image_px, image_px))
    at = image_px // 8
    glyph[at:-at, 4 * at - 2 : 4 * at + 2] = 255
    glyph[3 * at - 1 : 3 * at + 2, 2 * at : -at] = 255
    glyph[-2 * at : -2 * at + 3, 3 * at : -at] = 190
    return glyph.astype(np.uint8)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_a_copy_is_a_pure_function_of_seed_sample_and_copy(policy: Policy):
    image, augmenter = draw_glyph(), HostAugmenter(policy, 3)
    first = augmenter(image, "kkanji/U+6625/a", 1)
    assert first.dtype == np.uint8 and first.shape == image.shape
    for other in (("kkanji/U+6625/b", 1), ("kkanji/U+6625/a", 2), ("", 1)):
        assert (augmenter(image, *other) != first).any() == (policy.name != "none")
    assert (augmenter(image, "kkanji/U+6625/a", 1) == first).all(), "whatever came in between"
    again = pickle.loads(pickle.dumps(augmenter))
    assert (again(image, "kkanji/U+6625/a", 1) == first).all()
    other_seed = HostAugmenter(policy, 4)(image, "kkanji/U+6625/a", 1)
    assert (other_seed != first).any() == (policy.name != "none")


def test_copy_0_is_the_original_and_an_earlier_copy_is_refused():
    image, augmenter = draw_glyph(), HostAugmenter(SAFE, 0)
    copy = augmenter(image, "a", 0)
    assert (copy == image).all() and not np.shares_memory(copy, image)
    with pytest.raises(ValueError, match="copy must be 0 .* not -1 of a"):
        augmenter(image, "a", -1)


@pytest.mark.parametrize("policy", [SAFE, LEGACY], ids=lambda policy: policy.name)
def test_four_threads_give_what_one_gives(policy: Policy):
    image, augmenter = draw_glyph(), HostAugmenter(policy, 0)
    calls = [(f"sample {number % 40}", 1 + number // 40) for number in range(160)]
    serial = [augmenter(image, *call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda call: augmenter(image, *call), calls))
    assert all((one == other).all() for one, other in zip(serial, threaded, strict=True))


def test_transforms_do_not_share_their_draws():
    """Compose gives one seed to all: then every copy that is turned right would also be bold."""
    augmenter = HostAugmenter(SAFE, 0)
    augmenter(draw_glyph(), "a", 1)
    transforms = augmenter._pipeline(64).transforms
    assert len(transforms) == 4
    assert len({transform.seed for transform in transforms}) == 4


def test_importing_and_running_it_opens_no_connection():
    script = """
import sys
def hear(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        print("the network was asked for", args, file=sys.stderr)
        raise SystemExit(3)
sys.addaudithook(hear)
import numpy as np
from data_tools.write.host_augment import HostAugmenter
assert "albumentations" not in sys.modules and "cv2" not in sys.modules
from kkanji_jax.augment.policy import get_policy
HostAugmenter(get_policy("glyph_safe"), 0)(np.zeros((64, 64), np.uint8), "a", 1)
assert "albumentations" in sys.modules
"""
    clean = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_black_stays_black_under_glyph_safe():
    blank, augmenter = np.zeros((64, 64), np.uint8), HostAugmenter(SAFE, 0)
    assert not any(augmenter(blank, "blank", copy).any() for copy in range(1, 50))
    assert HostAugmenter(LEGACY, 0)(blank, "blank", 1).mean() > 4


def test_the_centroid_is_that_of_the_ink():
    image = np.zeros((64, 64), np.uint8)
    image[10:20, 40:44] = 200
    assert (ink_centroid(image) == [41.5, 14.5]).all()
    assert (ink_centroid(image[..., None]) == [41.5, 14.5]).all()
    assert (ink_centroid(np.zeros_like(image)) == 31.5).all()


@pytest.mark.parametrize(
    ("width_px", "edge"),
    [(-0.5, 0.0), (0.2, 0.0), (0.5, 0.0), (0.0, 1.0), (0.0, -2.0), (0.5, -2.0), (-0.5, 1.0)],
)
def test_both_engines_change_strokes_alike(width_px: float, edge: float):
    image = draw_glyph()
    strokes = make_pipeline(SAFE, 64).transforms[0]
    on_host = strokes.apply(image, width_px, edge).astype(int)
    amounts_q8 = (jnp.int32(round(256 * amount)) for amount in (width_px, edge))
    on_device = np.asarray(change_strokes(jnp.asarray(image, jnp.uint8), *amounts_q8))
    assert np.abs(on_host - on_device).max() <= 2, "the device rounds twice, to 8 bits"


def copies_on_device(images: np.ndarray, policy: Policy, num: int) -> list[np.ndarray]:
    """Copies 1 to `num` of each image, every image under the same addresses."""
    vary = jax.jit(partial(augment, policy=policy))
    copies = jnp.arange(1, 501, dtype=jnp.int32)
    per_image = [[] for _ in images]
    for batch in range(num // 500):
        addresses = jnp.broadcast_to(jnp.array([batch, 7], jnp.uint32), (500, 2))
        keys = sample_keys(0, addresses, copies)
        for image, results in zip(images, per_image, strict=True):
            results.append(np.asarray(vary(jnp.broadcast_to(image, (500, 64, 64)), keys, copies)))
    return [np.concatenate(results) for results in per_image]


def copies_on_host(images: np.ndarray, policy: Policy, num: int) -> list[np.ndarray]:
    augmenter = HostAugmenter(policy, 0)
    return [
        np.stack([augmenter(image, "ramp", copy) for copy in range(1, num + 1)]) for image in images
    ]


def displacements(engine, policy: Policy, num: int) -> np.ndarray:
    """Where 25 points came from, x and y, in px, read off two ramps: [num, 50]."""
    ramp = np.tile((32 + 3 * np.arange(64)).astype(np.uint8), (64, 1))
    ramps = np.stack([ramp, ramp.T])
    grid = np.ix_(np.arange(num), POINTS, POINTS)
    results = engine(ramps, policy, num)
    return np.concatenate(
        [
            (result[grid].astype(float) - image[np.ix_(POINTS, POINTS)]).reshape(num, -1) / 3
            for result, image in zip(results, ramps, strict=True)
        ],
        axis=1,
    )


def compare_spread(policy: Policy, num_draws: int, tolerance: float) -> None:
    policy = policy._replace(
        stroke_max_px=0.0, soften_max=0.0, sharpen_max=0.0, cutout_prob=0.0, noise_std=0.0
    )
    device = displacements(copies_on_device, policy, num_draws)
    host = displacements(copies_on_host, policy, num_draws)
    standard_error = np.sqrt(2 * np.diag(np.cov(device.T)) / num_draws)
    assert (np.abs(device.mean(0) - host.mean(0)) < 4.5 * standard_error + 0.02).all()
    expected, got = np.cov(device.T), np.cov(host.T)
    assert abs(np.trace(got) / np.trace(expected) - 1) < tolerance
    assert np.linalg.norm(got - expected) / np.linalg.norm(expected) < 3 * tolerance


@pytest.mark.parametrize("policy", [SAFE, LEGACY], ids=lambda policy: policy.name)
def test_both_engines_displace_alike(policy: Policy):
    """Covariances over 50 coordinates. 1,500 draws know their trace to some 2 %."""
    compare_spread(policy, 1500, tolerance=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [SAFE, LEGACY], ids=lambda policy: policy.name)
def test_both_engines_displace_alike_in_many_draws(policy: Policy):
    """8,000 draws know their trace to some 0.8 %."""
    compare_spread(policy, 8000, tolerance=0.03)


@pytest.mark.parametrize(("policy", "tolerance"), [(SAFE, 0.15), (LEGACY, 0.4)])
def test_both_engines_leave_alike_ink(policy: Policy, tolerance: float):
    """Mean and spread of the mass of ink over 500 copies, which know a spread to 5 %.

    The host resamples twice, so the legacy's mirrors are mirrored again: its masses spread more.
    """
    image = draw_glyph()[None]
    (device,), (host,) = (
        engine(image, policy, 500) for engine in (copies_on_device, copies_on_host)
    )
    masses = [result.reshape(500, -1).mean(1) for result in (device, host)]
    assert abs(masses[1].mean() / masses[0].mean() - 1) < 0.04
    assert abs(masses[1].std() / masses[0].std() - 1) < tolerance


def test_a_smaller_image_is_varied_in_proportion():
    policy = NONE._replace(name="shift", translation_max_px=8.0)
    image = np.zeros((32, 32), np.uint8)
    image[12:20, 12:20] = 255
    augmenter = HostAugmenter(policy, 0)
    moved = np.array([ink_centroid(augmenter(image, "a", copy)) for copy in range(1, 200)])
    assert 3.8 < np.abs(moved - 15.5).max() < 4.05
