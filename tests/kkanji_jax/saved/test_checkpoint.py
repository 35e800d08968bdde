"""Which of a run's checkpoints is meant, and what it holds."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from kkanji_jax.config import default_config
from kkanji_jax.files import SUMS
from kkanji_jax.saved import checkpoint
from kkanji_jax.saved.checkpoint import FORMAT_VERSION, best_step, finished_steps, score_of
from kkanji_jax.training.checkpoint_store import CheckpointStore
from kkanji_jax.training.state import create_state

SCORES = {  # by step
    8: {"val_accuracy": 0.5, "val_macro_accuracy": 0.1, "val_loss": 3.0},
    9: {"val_accuracy": 0.3, "val_macro_accuracy": 0.4, "val_loss": 2.0},
    10: {"val_accuracy": 0.1, "val_macro_accuracy": 0.3, "val_loss": 1.0},
}


def step_folder(workdir: Path, step: int) -> Path:
    folder = workdir / "checkpoints" / str(step)
    (folder / "meta").mkdir(parents=True)
    return folder


def write(workdir: Path, step: int, scores: Any, best_metric: str = "val_accuracy") -> Path:
    """A step of which there are the digests and the meta, and no arrays."""
    folder = step_folder(workdir, step)
    config = {"best_metric": best_metric}
    meta = {"config": config, "scores": scores, "format_version": FORMAT_VERSION}
    (folder / "meta" / "metadata").write_text(json.dumps(meta))
    (folder / SUMS).write_text("")
    return folder


@pytest.mark.parametrize(
    ("metric", "best"), [("val_accuracy", 8), ("val_macro_accuracy", 9), ("val_loss", 10)]
)
def test_the_best_is_by_the_metric_of_the_run(metric: str, best: int, tmp_path: Path) -> None:
    for step, scores in SCORES.items():
        write(tmp_path, step, scores, metric)
    assert best_step(tmp_path) == best
    found = [score_of(tmp_path, step) for step in SCORES]
    sign = -1 if metric == "val_loss" else 1
    assert found == [sign * scores[metric] for scores in SCORES.values()]


def test_of_equal_scores_the_later_step_is_the_best(tmp_path: Path) -> None:
    for step in (4, 12, 8):
        write(tmp_path, step, SCORES[8])
    assert best_step(tmp_path) == 12


def test_a_step_without_scores_is_never_the_best(tmp_path: Path) -> None:
    write(tmp_path, 3, None)
    assert best_step(tmp_path) is None and score_of(tmp_path, 3) is None
    write(tmp_path, 2, SCORES[10])
    assert best_step(tmp_path) == 2


def test_steps_are_numbers_in_order_and_finished_by_their_digests(tmp_path: Path) -> None:
    assert finished_steps(tmp_path) == []
    for step in (10, 9, 100):
        write(tmp_path, step, None)
    (step_folder(tmp_path, 11) / "half").write_text("of a save")
    (tmp_path / "checkpoints" / "notes").mkdir()
    assert finished_steps(tmp_path) == [9, 10, 100]


def test_fields_that_were_born_since_have_their_defaults(tmp_path: Path) -> None:
    write(tmp_path, 1, None, "val_loss")
    config = checkpoint.read_meta(tmp_path, 1)["config"]
    assert config == default_config().to_dict() | {"best_metric": "val_loss"}


def test_a_newer_format_and_a_damaged_meta_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 1, None) / "meta" / "metadata"
    text = path.read_text()
    path.write_text(text.replace(f": {FORMAT_VERSION}", f": {FORMAT_VERSION + 1}"))
    with pytest.raises(ValueError, match=f"has format {FORMAT_VERSION + 1}.*install a newer one"):
        checkpoint.read_meta(tmp_path, 1)
    path.write_text(text[:-5])
    with pytest.raises(ValueError, match="metadata is damaged"):
        checkpoint.read_meta(tmp_path, 1)


def test_the_position_is_read_from_new_and_old_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    old = tmp_path / "data" / "process_0-of-2.json"
    old.write_text('{"next_index": 5}')
    assert checkpoint.read_position(tmp_path) == {"next_index": 5}
    (tmp_path / "data" / "metadata").write_text('{"next_index": 6}')
    assert checkpoint.read_position(tmp_path) == {"next_index": 6}


class Position:
    @staticmethod
    def get_state() -> dict[str, int]:
        return {"next_index": 1}


def test_the_best_and_the_latest_are_loaded_each_array_in_its_place(tmp_path: Path) -> None:
    config = default_config().to_dict()
    config["model"] |= {"variant": "nano"}
    meta = {"config": config, "class_index": {"codepoint_to_id": {"あ": 0, "い": 1}}}
    state = create_state(config["model"], 2, optax.identity(), 0)

    def plus(number: int, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf + np.float32(number), tree)

    def state_at(step: int) -> Any:
        return state._replace(
            params=plus(step, state.params),
            batch_stats=plus(10 + step, state.batch_stats),
            ema_params=plus(20 + step, state.params),
            ema_batch_stats=plus(30 + step, state.batch_stats),
        )

    store = CheckpointStore(tmp_path, max_to_keep=2)
    for step, accuracy in ((1, 0.9), (2, 0.2)):
        store.save(step, state_at(step), Position, meta, {"val_accuracy": accuracy})
    store.close()
    for which, step in (("best", 1), ("latest", 2)):
        loaded = checkpoint.load_variables(tmp_path, which)
        assert loaded.step == step
        expected = state_at(step)
        for name in ("params", "batch_stats", "ema_params", "ema_batch_stats"):
            jax.tree.map(
                np.testing.assert_array_equal, getattr(loaded, name), getattr(expected, name)
            )


def test_a_run_without_a_finished_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished checkpoint: train first"):
        checkpoint.load_variables(tmp_path)
