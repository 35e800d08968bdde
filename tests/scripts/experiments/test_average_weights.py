"""Weights between two models: by code point, and never of two networks."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kkanji_jax.data.class_index import ClassIndex


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/average_weights")


def trained(characters: str, value: float, variant: str = "b0") -> Any:
    """A network of one kernel and a classifier; column i of it holds value + i."""
    size = len(characters)
    columns = (value + np.arange(size)).astype(np.float32)
    return SimpleNamespace(
        path=Path("runs/x"),
        config={"model": {"variant": variant}},
        class_index=ClassIndex.from_codepoints(f"U+{ord(each):04X}" for each in characters),
        params={
            "stem": {"kernel": np.full((2, 2), value, np.float32)},
            "classifier": {"kernel": np.tile(columns, (3, 1)), "bias": columns},
        },
        batch_stats={"stem": {"mean": np.full(2, value, np.float32)}},
    )


def test_columns_follow_their_characters_and_new_ones_are_the_runs(script: ModuleType):
    base, run = trained("い春", 0), trained("あい春", 10)  # い is column 0, then 1
    params, batch_stats = script.average(base, run, 0.75)
    np.testing.assert_allclose(params["stem"]["kernel"], 7.5)
    np.testing.assert_allclose(batch_stats["stem"]["mean"], 7.5)
    expected = [10, 0.25 * 0 + 0.75 * 11, 0.25 * 1 + 0.75 * 12]
    np.testing.assert_allclose(params["classifier"]["bias"], expected)
    np.testing.assert_allclose(params["classifier"]["kernel"], np.tile(expected, (3, 1)))
    assert params["classifier"]["bias"].dtype == np.float32


def test_the_ends_are_the_run_and_the_base(script: ModuleType):
    base, run = trained("い春", 0), trained("あい春", 10)
    params, _ = script.average(base, run, 1.0)
    np.testing.assert_array_equal(
        params["classifier"]["kernel"], run.params["classifier"]["kernel"]
    )
    params, _ = script.average(base, run, 0.0)
    np.testing.assert_array_equal(params["classifier"]["bias"], [10, 0, 1])


def test_other_networks_and_shares_are_refused(script: ModuleType):
    run = trained("春", 0)
    with pytest.raises(ValueError, match="are different networks"):
        script.average(trained("春", 0, "b1"), run, 0.5)
    finer = trained("春", 0)
    finer.config["model"]["stem_stride"] = 1
    with pytest.raises(ValueError, match="different networks: model.stem_stride is 1 and 2"):
        script.average(finer, run, 0.5)
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match="--share must be 0"):
            script.average(run, run, share)
