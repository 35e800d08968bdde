"""A hundred real steps: what is scored is what is saved, and statistics are those of the images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kkanji_jax.config import default_config
from kkanji_jax.data.resident import Split, load_split
from kkanji_jax.evaluation.forward import Evaluator
from kkanji_jax.model.network import make_graphdef, network_input
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.saved.checkpoint import Loaded, load_variables
from kkanji_jax.training import loop
from kkanji_jax.training.metrics_file import read_metrics

NUM_STEPS = 100


class ShortRun(NamedTuple):
    """The last checkpoint of a run, its log, and what it was made of."""

    loaded: Loaded
    lines: list[dict[str, Any]]
    train: Split
    val: Split
    evaluator: Evaluator

    def score(self, params: Any, batch_stats: Any) -> tuple[float, float]:
        """Accuracy and loss on val."""
        found = self.evaluator.predictions(params, batch_stats, self.val.images, self.val.labels)
        is_right = found.top_ids[:, 0] == found.labels
        return float(is_right.mean()), float(found.losses.mean(dtype=np.float64))


@pytest.fixture(scope="module")
def short_run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> ShortRun:
    """nano at 16 px from scratch, on batches of 16, with statistics of a hundred steps."""
    workdir = tmp_path_factory.mktemp("short") / "run"
    config = default_config()
    config.data.dataset = str(tiny_dataset)
    config.model.variant, config.model.image_px = "nano", 16
    config.batch_size, config.log_every_steps, config.eval_every_steps = 16, 20, 100
    config.augment.policy = "none"
    config.optim.lr_peak, config.optim.schedule = 3e-3, "constant"
    train = load_split(tiny_dataset, "train")
    config.epochs = NUM_STEPS * 16 / len(train.labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh_lib, "devices", lambda: jax.devices()[:1])
        loop.train(config, workdir)
    loaded = load_variables(workdir, "latest")
    model = config.model.to_dict()
    mesh = mesh_lib.make_mesh(jax.devices()[:1])
    return ShortRun(
        loaded,
        read_metrics(workdir / "metrics.jsonl"),
        train,
        load_split(tiny_dataset, "val"),
        Evaluator(model, 6, mesh=mesh, batch_size=16),
    )


def test_it_learns_and_its_log_says_so(short_run: ShortRun) -> None:
    losses = [line["loss"] for line in short_run.lines if line["kind"] == "train"]
    assert len(losses) == NUM_STEPS // 20 and losses[-1] < 0.5 * losses[0]
    for line in short_run.lines[:5]:
        assert line["gradient_norm"] > 0 and 0 < line["update_norm"] < line["weight_norm"]


def test_the_scores_of_the_log_are_those_of_the_saved_average(short_run: ShortRun) -> None:
    loaded, line = short_run.loaded, short_run.lines[-1]
    assert (line["kind"], line["step"], line["weights"]) == ("eval", NUM_STEPS, "ema")
    assert loaded.meta["scores"]["val_loss"] == line["val_loss"]
    accuracy, loss = short_run.score(loaded.ema_params, loaded.ema_batch_stats)
    assert (line["val_accuracy"], line["val_loss"]) == pytest.approx((accuracy, loss), rel=1e-6)
    # And of nothing else that is saved.
    for params, stats in (
        (loaded.params, loaded.batch_stats),
        (loaded.params, loaded.ema_batch_stats),
        (loaded.ema_params, loaded.batch_stats),
    ):
        assert abs(short_run.score(params, stats)[1] - loss) > 1e-4


@pytest.fixture(scope="module")
def statistics_of(short_run: ShortRun) -> Callable[[Any], Any]:
    """Batch statistics of weights over the whole training split, as its own one batch."""
    config = short_run.loaded.meta["config"]["model"]
    graphdef = make_graphdef(config, 6)
    images = jnp.asarray(short_run.train.images)

    @jax.jit
    def call(params: Any, batch_stats: Any) -> Any:
        network = nnx.merge(graphdef, params, batch_stats)
        rngs = nnx.Rngs(dropout=jax.random.key(0), drop_path=jax.random.key(1))
        network(network_input(images, 16), train=True, rngs=rngs, momentum=0.0)
        return nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

    return lambda params: jax.device_get(call(params, short_run.loaded.batch_stats))


@pytest.mark.parametrize("weights", ["", "ema_"])
def test_a_short_run_has_statistics_of_its_images_and_not_of_its_start(
    weights: str, short_run: ShortRun, statistics_of: Callable[[Any], Any]
) -> None:
    params, running = (
        getattr(short_run.loaded, weights + name) for name in ("params", "batch_stats")
    )
    exact = statistics_of(params)
    accuracy, loss = short_run.score(params, running)
    exact_accuracy, exact_loss = short_run.score(params, exact)
    assert exact_accuracy > 0.6  # chance is 0.17
    assert accuracy > exact_accuracy - 0.15
    assert loss < exact_loss + 0.5
