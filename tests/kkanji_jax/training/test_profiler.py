"""A trace is written when it is complete, and when the run ends before."""

from pathlib import Path

import jax.numpy as jnp
import pytest

from kkanji_jax.training.profiler import Profiler


@pytest.mark.parametrize("last", [3, 30])
def test_a_trace_is_written_however_the_run_ends(
    last: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    profiler = Profiler(tmp_path / "profile", 20)
    for step in range(1, last + 1):
        profiler.advance(step, jnp.ones(3) * step)
    profiler.close()
    profiler.close()
    told = capsys.readouterr().err
    assert told == f"traced steps up to {min(last, 21)}: {tmp_path / 'profile'}\n"
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_without_steps_nothing_is_written(tmp_path: Path):
    profiler = Profiler(tmp_path / "profile", 0)
    profiler.advance(1, jnp.ones(3))
    profiler.close()
    assert not (tmp_path / "profile").exists()
