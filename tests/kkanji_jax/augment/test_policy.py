"""A policy is plain data with sane ranges."""

import json

import pytest

from kkanji_jax.augment.policy import POLICIES, Policy, get_policy


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_survives_json(name: str):
    policy = get_policy(name)
    assert policy.name == name
    assert Policy(**json.loads(json.dumps(policy.to_json()))) == policy


@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_every_range_can_be_drawn_from(policy: Policy):
    assert policy.pivot in ("ink", "corner") and policy.border in ("zero", "reflect")
    assert 0 < policy.scale_min <= policy.scale_max and policy.aspect_max >= 1
    assert 0 <= policy.cutout_prob <= 1
    assert 0 <= policy.cutout_min_frac <= policy.cutout_max_frac < 1
    assert 0 <= policy.stroke_max_px <= 1, "a blend with one dilation reaches no further"
    assert 0 <= policy.soften_max <= 1 and policy.sharpen_max >= 0
    sizes = (policy.rotation_max_deg, policy.shear_max, policy.translation_max_px)
    assert min(*sizes, policy.elastic_std_px, policy.noise_std) >= 0
    assert policy.elastic_sigma_px > 1


def test_none_moves_nothing_and_glyph_safe_keeps_paper_black():
    none = get_policy("none")
    assert none.scale_min == none.scale_max == none.aspect_max == 1
    moves = [value for field, value in none.to_json().items() if field.endswith(("_max_px", "std"))]
    assert not any(moves) and not none.elastic_std_px and not none.rotation_max_deg
    safe = get_policy("glyph_safe")
    assert safe.noise_std == 0 and safe.border == "zero" and safe.pivot == "ink"
    assert safe.cutout_prob < 1 and safe.elastic_std_px < 1.2


def test_an_unknown_policy_is_refused_with_the_list_and_the_nearest_name():
    with pytest.raises(ValueError, match="glyph_safe, legacy, none, not 'glyph-safe'.*glyph_safe"):
        get_policy("glyph-safe")
    with pytest.raises(ValueError, match="not ''$"):
        get_policy("")
