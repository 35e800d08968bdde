"""Rare characters and kana are raised by the formula, and the folder written is a model."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.saved.trained import load_trained


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/logit_adjustment")


def test_a_rare_class_is_raised_by_the_logarithm_of_what_it_lacks(script: ModuleType):
    added = script.raised_by([0, 1, 10, 100, 5000], 0.2, 100)
    np.testing.assert_allclose(added, [0.921034, 0.921034, 0.460517, 0, 0], rtol=1e-5)
    assert added.dtype == np.float32
    assert not script.raised_by([1, 10, 100], 0.0, 100).any()


def test_kana_are_found_by_their_code_points(script: ModuleType):
    index = ClassIndex.from_codepoints(["U+3042", "U+30A2", "U+309D", "U+6625", "U+3005"])
    kana = dict(zip(index.codepoints, script.are_kana(index).tolist(), strict=True))
    assert kana == {
        "U+3042": True,
        "U+30A2": True,
        "U+309D": True,
        "U+6625": False,
        "U+3005": False,
    }


def test_only_biases_change_and_only_once(
    script: ModuleType, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, out = load_trained(undisturbed), tmp_path / "adjusted"
    counts = np.array([run.train_counts[each] for each in run.class_index.codepoints])
    below = int(np.median(counts)) + 1
    kana = np.array([each == "U+3042" for each in run.class_index.codepoints])
    flags = ["--factor", "0.5", "--below", str(below), "--kana", "0.75"]
    assert script.main([str(undisturbed), *flags, "--out", str(out)]) == 0
    told = f"{((counts < below) | kana).sum()} of {len(counts)} logits changed"
    assert told in capsys.readouterr().out
    adjusted = load_trained(out)
    before, after = run.params["classifier"], adjusted.params["classifier"]
    expected = np.where(counts < below, 0.5 * np.log(below / counts), 0) + 0.75 * kana
    np.testing.assert_allclose(after["bias"] - before["bias"], expected, atol=1e-6)
    np.testing.assert_array_equal(after["kernel"], before["kernel"])
    assert adjusted.warm_start == {
        "logit_adjustment": {"factor": 0.5, "below": below, "kana": 0.75}
    }

    again = [str(out), *flags, "--out", str(tmp_path / "twice")]
    assert script.main(again) == 1
    assert "was adjusted already" in capsys.readouterr().err
    assert script.main([str(undisturbed), *flags, "--out", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_values_without_a_meaning_are_refused(script: ModuleType, tmp_path: Path):
    for factor in (-0.1, float("nan"), float("inf")):
        with pytest.raises(
            ValueError, match=f"--factor must be at least 0 and finite, not {factor}"
        ):
            script.raised_by([1], factor, 100)
    with pytest.raises(ValueError, match="--below must be at least 1, not 0"):
        script.raised_by([1], 0.1, 0)
    with pytest.raises(ValueError, match="--kana must be finite, not nan"):
        script.write(tmp_path / "run", 0.2, 100, float("nan"), tmp_path / "out")
