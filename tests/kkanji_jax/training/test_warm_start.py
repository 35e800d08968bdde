"""A warm start takes what both networks share, and says what it took."""

from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from kkanji_jax.config import default_config
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.model.network import init_variables
from kkanji_jax.saved.trained import Trained
from kkanji_jax.training.state import create_state
from kkanji_jax.training.warm_start import warm_state

EARLIER = ClassIndex.from_codepoints(["U+4E00", "U+4E8C", "U+4E09"])
LATER = ClassIndex.from_codepoints(["U+3042", "U+4E09", "U+4E00"])


def model(variant: str = "nano") -> dict:
    return default_config().model.to_dict() | {"variant": variant}


def trained(variant: str = "nano") -> Trained:
    params, batch_stats = init_variables(model(variant), len(EARLIER), seed=1)
    return Trained(
        path=Path("runs/earlier"),
        is_bundle=False,
        config={"model": model(variant)},
        class_index=EARLIER,
        params=params,
        batch_stats=batch_stats,
        weights="ema",
        step=7,
        train_counts={},
        identity={"manifest_sha256": "0" * 64},
        calibration=None,
        warm_start={"step": 3},
    )


def fresh():
    return create_state(model(), len(LATER), optax.adam(1e-3), seed=0)


def test_columns_follow_their_code_points_and_new_classes_stay_fresh() -> None:
    source, start = trained(), fresh()
    state, record = warm_state(start, source, LATER)
    for name in ("kernel", "bias"):
        before, now = source.params["classifier"][name], state.params["classifier"][name]
        for codepoint in ("U+4E00", "U+4E09"):
            np.testing.assert_array_equal(
                now[..., LATER.id_of(codepoint)], before[..., EARLIER.id_of(codepoint)]
            )
        new = LATER.id_of("U+3042")
        np.testing.assert_array_equal(now[..., new], start.params["classifier"][name][..., new])
    assert (record["classes_kept"], record["classes_new"]) == (2, 1)
    assert (record["step"], record["weights"], record["warm_start"]) == (7, "ema", {"step": 3})


def test_the_rest_of_the_network_is_the_earlier_one_and_the_optimizer_is_new() -> None:
    source, start = trained(), fresh()
    state, _ = warm_state(start, source, LATER)
    for tree in (state.params, state.ema_params):
        np.testing.assert_array_equal(tree["stem_kernel"], source.params["stem_kernel"])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, source.batch_stats)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, start.opt_state)
    assert int(state.step) == 0


def test_another_network_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"cannot start from runs/earlier: it is another network"):
        warm_state(fresh(), trained("b0"), LATER)
