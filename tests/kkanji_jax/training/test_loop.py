"""What a run is made of: every field of the config comes to where it is used."""

import gc
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kkanji_jax.config import Config, default_config
from kkanji_jax.data.manifest import LEAKY_PROTOCOL
from kkanji_jax.data.resident import load_split
from kkanji_jax.evaluation.forward import Evaluator, Predictions
from kkanji_jax.model.network import abstract_variables
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.saved.checkpoint import best_step, finished_steps, load_variables
from kkanji_jax.training import loop
from kkanji_jax.training.checkpoint_store import CheckpointStore
from kkanji_jax.training.metric_log import LogConfig
from kkanji_jax.training.metrics import Norms, StepMetrics, Sums
from kkanji_jax.training.metrics_file import read_metrics
from kkanji_jax.training.optim import make_optimizer
from kkanji_jax.training.profiler import Profiler
from kkanji_jax.training.state import TrainState
from kkanji_jax.training.step import PixelBatch, StepConfig

NUM_CLASSES = 3
SIZES = (6, 8, 24)  # images of each class, over all splits
# Steps that are no whole epoch, and no value that another field has too.
BASE = {
    "model.variant": "nano",
    "model.image_px": 16,
    "batch_size": 8,
    "epochs": 4.0,
    "data.sampling_exponent": 1.0,
    "steps_per_dispatch": 1,
    "log_every_steps": 3,
    "eval_every_steps": 4,
    "ckpt_every_steps": 2,
    "optim.warmup_epochs": 0.5,
}


# --- doubles: what would have to be compiled ---------------------------------------------------


@jax.jit
def counted_up(state: TrainState) -> TrainState:
    """A step that adds 1 to all weights and 100 to their average, likewise of the statistics."""

    def plus(number: int, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf + number, tree)

    return state._replace(
        step=state.step + 1,
        params=plus(1, state.params),
        batch_stats=plus(1, state.batch_stats),
        ema_params=plus(100, state.ema_params),
        ema_batch_stats=plus(100, state.ema_batch_stats),
    )


@jax.jit
def some_metrics() -> StepMetrics:
    counts = jnp.asarray([2, 3, 3])
    sums = Sums(jnp.float32(16), jnp.int32(8), jnp.int32(8), counts, counts, counts // 2)
    return StepMetrics(sums, Norms(jnp.int32(1), *map(jnp.float32, (3, 2, 1))))


class Steps:
    """Stands for the compiled steps: knows what it was made of, and counts."""

    def __init__(self, graphdef: Any, optimizer: Any, mesh: Any, config: StepConfig) -> None:
        self.graphdef, self.optimizer, self.mesh, self.config = graphdef, optimizer, mesh, config
        self.batches: list[Any] = []
        self.collector_was_on: list[bool] = []  # at each call

    def __call__(self, state: TrainState, data: Any, batch: Any) -> tuple[TrainState, StepMetrics]:
        self.collector_was_on.append(gc.isenabled())
        self.batches.append(jax.device_get(batch))
        for _ in range(len(batch.copies)):
            state = counted_up(state)
        return state, some_metrics()


class Asked(Evaluator):
    """Stands for the compiled network: knows the weights that it was given, and answers by plan.

    It reads first the largest class, then the two others, then none; its loss falls and rises.
    """

    def __init__(self, model: Any, num_classes: int, *, mesh: Any, batch_size: int) -> None:
        self.made_of = (dict(model), num_classes, mesh, batch_size)
        self.given: list[Any] = []
        self.images: list[np.ndarray] = []

    def predictions(
        self, params: Any, batch_stats: Any, images: np.ndarray, labels: np.ndarray
    ) -> Predictions:
        number = len(self.given)
        self.given.append(jax.device_get((params, batch_stats)))
        self.images.append(images)
        right = [labels == 2, labels != 2][number] if number < 2 else np.zeros(len(labels), bool)
        first = np.where(right, labels, (labels + 1) % NUM_CLASSES)
        losses = np.full(len(labels), [3, 2, 1][number] if number < 3 else 5, np.float32)
        return Predictions(labels, first[:, None], np.ones((len(labels), 1), np.float32), losses)


class NotedProfiler(Profiler):
    made_of: list[tuple[Path, int]] = []

    def __init__(self, folder: Path, num_steps: int) -> None:
        self.made_of.append((folder, num_steps))
        super().__init__(folder, 0)


class Run(NamedTuple):
    """What a run with doubles left."""

    workdir: Path
    steps: Steps
    asked: Asked
    profiled: tuple[Path, int]


@pytest.fixture(autouse=True, scope="module")
def doubles() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_train_steps", Steps)
        patch.setattr(loop, "Evaluator", Asked)
        patch.setattr(loop, "Profiler", NotedProfiler)
        patch.setattr(mesh_lib, "devices", lambda: jax.devices()[:1])
        yield


# --- a dataset and what is made of a config ----------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of unlike sizes."""
    from data_tools import build

    source = tmp_path_factory.mktemp("uneven")
    folders = sorted((tiny_source / "kkanji2").iterdir())
    for folder, size in zip(folders, SIZES, strict=False):
        to = source / "kkanji2" / folder.name
        to.mkdir(parents=True)
        for path in sorted(folder.iterdir())[:size]:
            shutil.copy(path, to)
    out = source / "dataset"
    arguments = ["--source", str(source), "--out", str(out), "--ratios", "60/20/20"]
    assert build.main([*arguments, "--workers", "1"]) == 0
    return out


class Handed(NamedTuple):
    """What a config becomes before the first step."""

    config: Config
    data: loop.RunData
    program: loop.Program
    steps: Steps
    evaluator: Asked
    log: LogConfig
    shape: Any


def config_of(dataset: Path, **changes: Any) -> Config:
    config = default_config()
    config.update_from_flattened_dict(BASE | {"data.dataset": str(dataset)} | changes)
    return config


@pytest.fixture(scope="module")
def hand(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Handed]:
    """Does what `train` does before it opens the checkpoints; data are read where they differ."""
    known: dict[str, loop.RunData] = {}

    def call(**changes: Any) -> Handed:
        config = config_of(dataset, **changes)
        of_data = str({k: v for k, v in changes.items() if k == "seed" or k.startswith("data.")})
        if of_data not in known:
            with ExitStack() as held:
                known[of_data] = loop.read_data(config, tmp_path_factory.mktemp("locked"), held)
        data = known[of_data]
        program = loop.make_program(config, data, mesh_lib.make_mesh())
        steps, evaluator = program.train_steps, program.evaluator
        assert isinstance(steps, Steps) and isinstance(evaluator, Asked)
        shape, log = loop.batch_shape(config, program.pace), loop.log_config(config, program)
        return Handed(config, data, program, steps, evaluator, log, shape)

    return call


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Trains with doubles to the end."""
    made: list[Any] = []

    def call(**changes: Any) -> Run:
        workdir = tmp_path_factory.mktemp("runs") / "run"
        with pytest.MonkeyPatch.context() as patch:
            whole = loop.make_program
            patch.setattr(loop, "make_program", lambda *args: made.append(whole(*args)) or made[-1])
            loop.train(config_of(dataset, **changes), workdir)
        program = made[-1]
        return Run(workdir, program.train_steps, program.evaluator, NotedProfiler.made_of[-1])

    return call


# --- where each field is to be seen ------------------------------------------------------------


def examples(handed: Handed, num_dispatches: int = 4) -> np.ndarray:
    """[n 2] which rows and copies, or which samples and copies, come first."""
    batches = handed.data.feed.make_iterator(handed.shape)
    found = []
    for _ in range(num_dispatches):
        part = handed.data.feed.batch(**next(batches))
        which = part.addresses[..., 0] if isinstance(part, PixelBatch) else part.rows
        found.append(np.stack([which.ravel().astype(np.int64), part.copies.ravel()], 1))
    return np.concatenate(found)


def network_of(handed: Handed) -> Any:
    """The network that steps are compiled of; the evaluator's must be the same."""
    graphdef = handed.steps.graphdef
    model, num_classes, *_ = handed.evaluator.made_of
    assert num_classes == NUM_CLASSES
    assert graphdef == loop.make_graphdef(model, num_classes)
    return nnx.merge(graphdef, *abstract_variables(handed.config.model.to_dict(), num_classes))


def updates_of(optimizer: Any) -> np.ndarray:
    """Three updates of a kernel and a bias, by gradients that change."""
    params = {"kernel": jnp.asarray([[1.0, -2.0]]), "bias": jnp.asarray([3.0])}
    state, found = optimizer.init(params), []
    for size in (1.0, -0.3, 0.01):
        gradients = {"kernel": jnp.asarray([[size, 2e-8]]), "bias": jnp.asarray([-2 * size])}
        updates, state = optimizer.update(gradients, state, params)
        found += [*np.asarray(updates["kernel"]).ravel(), *np.asarray(updates["bias"])]
    return np.array(found)


def updates_with(handed: Handed, **changes: Any) -> np.ndarray:
    """As `updates_of`, by an optimizer whose settings are the defaults but for these."""
    optim = default_config().optim
    names = ("b1", "b2", "eps", "weight_decay", "grad_clip_norm")
    settings = {name: getattr(optim, name) for name in names} | changes
    return updates_of(make_optimizer(handed.program.schedule, **settings))


class Row(NamedTuple):
    """A value that is not the default, where it must be seen, and as what: itself if not said.

    What is seen must be so with the value, and not without.
    """

    value: Any
    seen: Callable[[Handed], Any]
    expected: Callable[[Handed], Any] | None = None


def step_field(name: str, value: Any) -> Row:
    return Row(value, lambda handed: getattr(handed.steps.config, name))


def pace_field(name: str, value: Any) -> Row:
    return Row(value, lambda handed: getattr(handed.program.pace, name))


def network_field(name: str, value: Any) -> Row:
    return Row(value, lambda handed: getattr(network_of(handed), name))


def optim_field(name: str, value: Any) -> Row:
    return Row(
        value,
        lambda handed: updates_of(handed.steps.optimizer),
        lambda handed: updates_with(handed, **{name: value}),
    )


def rates(handed: Handed) -> np.ndarray:
    return np.asarray(handed.log.learning_rates)


ROWS = {
    "data.reading": Row("streamed", lambda h: "streamed" if h.data.feed.data is None else ""),
    "data.per_class": Row(7, lambda h: h.data.feed.num_examples / NUM_CLASSES),
    "data.fresh_copies": Row(False, lambda h: bool(examples(h, 12)[:, 1].max() > 1)),
    "data.sampling_exponent": Row(
        0.0,
        lambda h: bool(np.ptp(np.bincount(h.data.feed.data.labels[epoch_of(h)[:, 0]])) <= 1),
        lambda h: True,
    ),
    "model.variant": Row(
        "b0",
        lambda h: [len(network_of(h).blocks), h.evaluator.made_of[0]["variant"]],
        lambda h: [16, "b0"],
    ),
    "model.image_px": Row(
        24,
        lambda h: [h.steps.config.image_px, h.evaluator.made_of[0]["image_px"]],
        lambda h: [24, 24],
    ),
    "model.stem_stride": network_field("stem_stride", 1),
    "model.last_stride": Row(
        1,
        lambda h: [block.stride for block in network_of(h).blocks],
        lambda h: [1, 2, 2, 2, 1, 1, 1],
    ),
    "model.dropout": network_field("dropout", 0.35),
    "model.drop_path": Row(
        0.7,
        lambda h: [block.drop_path for block in network_of(h).blocks],
        lambda h: [0.7 * i / 7 for i in range(7)],
    ),
    "model.norm_group": Row(4, lambda h: network_of(h).blocks[3].project_norm.group),
    "model.dtype": Row("bfloat16", lambda h: network_of(h).dtype.name),
    "augment.policy": Row("legacy", lambda h: h.steps.config.policy.name),
    "augment.mixup_alpha": step_field("mixup_alpha", 0.3),
    "loss.label_smoothing": step_field("label_smoothing", 0.25),
    "optim.lr_peak": Row(0.5, lambda h: rates(h).max()),
    "optim.warmup_epochs": Row(
        1.5,
        lambda h: int(rates(h).argmax()),
        lambda h: round(1.5 * h.program.pace.steps_per_epoch),
    ),
    # The last step is one before the end of the cosine.
    "optim.lr_final_fraction": Row(
        0.6, lambda h: float(np.round(rates(h)[-1] / rates(h).max(), 1))
    ),
    "optim.schedule": Row(
        "constant", lambda h: "constant" if rates(h)[-1] == rates(h).max() else "falling"
    ),
    "optim.b1": optim_field("b1", 0.5),
    "optim.b2": optim_field("b2", 0.7),
    "optim.eps": optim_field("eps", 0.1),
    "optim.weight_decay": optim_field("weight_decay", 0.2),
    "optim.grad_clip_norm": optim_field("grad_clip_norm", 0.05),
    "ema_decay": step_field("ema_decay", 0.5),
    "batch_size": Row(
        16,
        lambda h: [h.shape.batch_size, h.log.batch_size, h.evaluator.made_of[3]],
        lambda h: [16, 16, 16],
    ),
    "microbatches": Row(
        4, lambda h: [h.shape.microbatches, h.evaluator.made_of[3]], lambda h: [4, 2]
    ),
    "epochs": Row(
        5.0,
        lambda h: [h.program.pace.total_steps, h.log.total_steps, h.shape.num_dispatches],
        lambda h: [round(5 * h.data.feed.num_examples / 8)] * 3,
    ),
    "steps_per_dispatch": Row(
        2, lambda h: [h.program.pace.per_dispatch, h.shape.steps_per_dispatch], lambda h: [2, 2]
    ),
    "log_every_steps": pace_field("log_every", 7),
    "eval_every_steps": pace_field("eval_every", 5),
    "ckpt_every_steps": pace_field("ckpt_every", 3),
    "tensorboard": Row(True, lambda h: h.log.has_tensorboard),
}
# Fields that a test of their own, below, changes.
ELSEWHERE = {
    "seed",
    "init_from",
    "data.dataset",
    "data.photograph_weight",
    "data.pool_examples",
    "data.allow_leaky_protocol",
    "profile",
    "max_checkpoints",
    "best_metric",
}


def epoch_of(handed: Handed) -> np.ndarray:
    """The examples of the first epoch."""
    batches, size = handed.data.feed.num_examples, handed.config.batch_size
    return examples(handed, -(-batches // size))[:batches]


def fields_of(config: Config, prefix: str = "") -> set[str]:
    found = set()
    for name, value in config.items():
        is_section = hasattr(value, "items")
        found |= fields_of(value, f"{prefix}{name}.") if is_section else {prefix + name}
    return found


def test_every_field_of_the_config_is_seen_to_matter() -> None:
    assert set(ROWS) | ELSEWHERE == fields_of(default_config())
    assert not set(ROWS) & ELSEWHERE


@pytest.mark.parametrize("field", ROWS)
def test_a_field_comes_to_where_it_is_used(field: str, hand: Callable[..., Handed]) -> None:
    row = ROWS[field]
    changed, base = hand(**{field: row.value}), hand()
    expected = row.value if row.expected is None else row.expected(changed)
    seen = row.seen(changed)
    is_text = isinstance(np.ravel(np.asarray(expected, object))[-1], str)
    # Float32 of the same formulas, or a value rounded to it.
    assert seen == (expected if is_text else pytest.approx(expected, rel=1e-6))
    assert not np.array_equal(seen, row.seen(base)), "seen without the change as well"


def test_the_seed_decides_order_network_and_step(
    hand: Callable[..., Handed], tmp_path: Path
) -> None:
    first, again, other = hand(), hand(), hand(seed=9)
    assert (first.steps.config.seed, other.steps.config.seed) == (0, 9)
    np.testing.assert_array_equal(examples(first), examples(again))
    assert (examples(first) != examples(other)).mean() > 0.3
    weights = [
        start_of(handed, tmp_path / str(number)).state.params["classifier"]["kernel"]
        for number, handed in enumerate((first, other))
    ]
    assert (weights[0] != weights[1]).all()


def start_of(handed: Handed, workdir: Path) -> loop.Start:
    workdir.mkdir()
    batches = handed.data.feed.make_iterator(handed.shape)
    store = CheckpointStore(workdir, max_to_keep=2)
    try:
        return loop.start_or_resume(
            handed.config, workdir, handed.data, handed.program, store, batches
        )
    finally:
        store.close()


def test_a_run_begins_with_the_weights_that_init_from_names(
    hand: Callable[..., Handed], first_run: Run, tmp_path: Path
) -> None:
    start = start_of(hand(init_from=str(first_run.workdir)), tmp_path / "run")
    source = load_variables(first_run.workdir)
    for found, expected in (
        (start.state.params, source.ema_params),
        (start.state.batch_stats, source.ema_batch_stats),
        (start.state.ema_params, source.ema_params),
    ):
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), expected)
    assert start.meta["warm_start"]["step"] == source.step and int(start.state.step) == 0


def test_the_dataset_is_the_one_that_is_named(hand: Callable[..., Handed], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no dataset at {tmp_path}/none"):
        hand(**{"data.dataset": str(tmp_path / "none")})


def test_a_stream_is_told_its_pool(
    hand: Callable[..., Handed], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    whole = loop.open_streamed
    monkeypatch.setattr(
        loop,
        "open_streamed",
        lambda *args, pool_examples: (
            told.append(pool_examples) or whole(*args, pool_examples=pool_examples)
        ),
    )
    hand(**{"data.reading": "streamed", "data.pool_examples": 77})
    assert told == [77]


def test_the_data_is_told_the_weight_of_photographs(
    hand: Callable[..., Handed], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    whole = loop.open_resident
    monkeypatch.setattr(
        loop,
        "open_resident",
        lambda dataset, choice: (
            told.append(choice.photograph_weight)
            or whole(dataset, replace(choice, photograph_weight=None))
        ),
    )
    hand(**{"data.photograph_weight": 3.5})
    assert told == [3.5]


def test_a_run_that_diverges_at_once_is_not_sent_to_a_checkpoint_that_it_lacks(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: Any) -> int:
        raise FloatingPointError("the loss is nan at step 1")

    monkeypatch.setattr(loop._Run, "to_the_end", diverge)
    with pytest.raises(FloatingPointError) as told:
        run()
    assert str(told.value).endswith("lower optim.lr_peak in another workdir, from the start")


def test_a_leaky_dataset_is_trained_on_only_where_the_config_says_so(
    dataset: Path, hand: Callable[..., Handed], tmp_path: Path
) -> None:
    leaky = Path(shutil.copytree(dataset, tmp_path / "leaky"))
    path = leaky / "manifest.json"
    text = path.read_text("utf-8")
    protocol = hand().data.manifest["protocol"]
    path.write_text(text.replace(f'"protocol": "{protocol}"', f'"protocol": "{LEAKY_PROTOCOL}"'))
    with pytest.raises(ValueError, match="--config.data.allow_leaky_protocol=legacy"):
        hand(**{"data.dataset": str(leaky)})
    allowed = hand(**{"data.dataset": str(leaky), "data.allow_leaky_protocol": "legacy"})
    assert allowed.data.manifest["protocol"] == LEAKY_PROTOCOL


def test_the_log_tells_the_rates_that_the_optimizer_takes(hand: Callable[..., Handed]) -> None:
    handed = hand()
    gradient = {"bias": jnp.ones(1)}
    state, found = handed.steps.optimizer.init(gradient), []
    for _ in range(handed.log.total_steps):  # of gradients all alike, Adam's step is the rate
        updates, state = handed.steps.optimizer.update(gradient, state, gradient)
        found.append(-float(updates["bias"][0]))
    np.testing.assert_allclose(found, rates(handed), rtol=1e-4)  # eps, and float32 powers of b2
    assert 2 < len(found) and rates(handed)[0] < rates(handed).max() > rates(handed)[-1]


# --- which examples come -----------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["resident", "streamed"])
def test_each_epoch_has_an_order_of_its_own(reading: str, hand: Callable[..., Handed]) -> None:
    handed = hand(**{"data.reading": reading, "epochs": 8.0})
    size = handed.data.feed.num_examples
    orders = examples(handed, -(-3 * size // 8))[: 3 * size].reshape(-1, size, 2)
    assert len(orders) == 3
    for number, order in enumerate(orders):
        np.testing.assert_array_equal(np.sort(order[:, 0]), np.sort(orders[0, :, 0]))
        assert set(order[:, 1]) == {number}  # each time in another way
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (orders[one, :, 0] != orders[other, :, 0]).mean() > 0.5


# --- a whole run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_run(run: Callable[..., Run]) -> Run:
    return run()


@pytest.fixture(scope="module")
def other_run(run: Callable[..., Run]) -> Run:
    fields = {"ema_decay": 0.0, "best_metric": "val_loss", "max_checkpoints": 4}
    return run(**fields, profile=5, steps_per_dispatch=2)


def test_log_scores_and_checkpoints_come_when_they_are_due(first_run: Run) -> None:
    lines = read_metrics(first_run.workdir / "metrics.jsonl")
    steps = {
        kind: [line["step"] for line in lines if line["kind"] == kind] for kind in ("train", "eval")
    }
    last = len(first_run.steps.batches)
    assert last == lines[0]["total_steps"] > 8
    assert steps["train"] == [*range(3, last, 3), last]
    assert steps["eval"] == [*range(4, last, 4), last]
    assert finished_steps(first_run.workdir)[-1] == last


def test_a_dispatch_of_several_steps_counts_them_all(first_run: Run, other_run: Run) -> None:
    shapes = {batch.rows.shape for batch in other_run.steps.batches}
    total = len(first_run.steps.batches)
    assert shapes == {(2, 1, 8)} and len(other_run.steps.batches) == total // 2
    lines = read_metrics(other_run.workdir / "metrics.jsonl")
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    ends = range(2, total + 1, 2)
    assert steps == [end for end in ends if end // 3 > (end - 2) // 3 or end == total]
    assert lines[0]["examples"] == 4 * 8


def test_the_garbage_collector_rests_while_the_first_step_is_traced(first_run: Run) -> None:
    first, *others = first_run.steps.collector_was_on
    assert not first and all(others) and gc.isenabled()


@contextmanager
def kept_programs(number: int) -> Iterator[list[str]]:
    yield ["a program"] * number


@pytest.mark.parametrize(
    ("num_kept", "long_s", "is_stopped", "is_asked", "starts_anew"),
    [
        (1, 0.0, False, True, True),
        (0, 0.0, False, True, False),  # it came from the cache
        (1, 1e6, False, True, False),  # it took no time
        (1, 0.0, True, True, False),  # a signal came while it compiled
        (1, 0.0, False, False, False),
    ],
)
def test_a_run_that_compiled_for_long_may_be_told_to_start_anew(
    num_kept: int,
    long_s: float,
    is_stopped: bool,
    is_asked: bool,
    starts_anew: bool,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "counting_kept_programs", lambda: kept_programs(num_kept))
    monkeypatch.setattr(loop, "LONG_COMPILE_S", long_s)
    if is_stopped:
        compiled = loop.MetricLog.compiled

        def interrupted(log: Any, step: int) -> float:
            signal.raise_signal(signal.SIGTERM)
            return compiled(log, step)

        monkeypatch.setattr(loop.MetricLog, "compiled", interrupted)
    workdir = tmp_path / "run"
    with pytest.raises(loop.CompiledHereError) if starts_anew else nullcontext():
        loop.train(config_of(dataset), workdir, may_start_anew=is_asked)
    assert gc.isenabled()
    if not starts_anew:
        assert finished_steps(workdir)
        return
    assert not finished_steps(workdir) and not (workdir / "metrics.jsonl").read_bytes()
    monkeypatch.undo()
    loop.train(config_of(dataset), workdir)
    assert finished_steps(workdir)


def test_each_batch_is_learnt_from_once_and_in_order(
    first_run: Run, hand: Callable[..., Handed]
) -> None:
    found = [
        np.stack([batch.rows.ravel(), batch.copies.ravel()], 1) for batch in first_run.steps.batches
    ]
    expected = examples(hand(), len(found))
    np.testing.assert_array_equal(np.concatenate(found), expected)
    assert {batch.rows.shape for batch in first_run.steps.batches} == {(1, 1, 8)}


def test_validation_scores_the_average_where_there_is_one(first_run: Run, other_run: Run) -> None:
    # The double adds 1 to the weights at each step, and 100 to the average; statistics likewise.
    for done, weights, per_step in ((first_run, "ema", 100), (other_run, "raw", 1)):
        lines = read_metrics(done.workdir / "metrics.jsonl")
        assert {line["weights"] for line in lines if line["kind"] == "eval"} == {weights}
        first, second = done.asked.given[:2]  # four steps apart
        changes = jax.tree.map(lambda one, other: float((other - one).mean()), first, second)
        assert len(changes) == 2  # weights and statistics
        np.testing.assert_allclose(jax.tree.leaves(changes), 4 * per_step, rtol=1e-4)


def test_a_run_learns_from_train_and_is_scored_on_all_of_val(
    first_run: Run, hand: Callable[..., Handed], dataset: Path
) -> None:
    val = load_split(dataset, "val")
    num_evaluations = -(-len(first_run.steps.batches) // 4)
    assert len(first_run.asked.images) == len(first_run.asked.given) == num_evaluations >= 3
    for images in first_run.asked.images:
        np.testing.assert_array_equal(images, val.images)
    train = load_split(dataset, "train")
    data = hand().data.feed.data
    assert data is not None
    np.testing.assert_array_equal(data.images, train.images)
    np.testing.assert_array_equal(data.labels, train.labels)
    last = read_metrics(first_run.workdir / "metrics.jsonl")[-1]
    assert last["val_num_examples"] == len(val.labels)


def test_the_best_checkpoint_is_kept_beside_as_many_as_the_config_says(
    first_run: Run, other_run: Run
) -> None:
    for done, best, latest in ((first_run, 4, 2), (other_run, 12, 4)):
        assert best_step(done.workdir) == best
        last = sum(len(batch.copies) for batch in done.steps.batches)
        saved = sorted({*range(2, last, 2), *range(4, last, 4), last})
        assert finished_steps(done.workdir) == sorted({best, *saved[-latest:]})


def test_as_many_steps_are_traced_as_the_config_says(first_run: Run, other_run: Run) -> None:
    assert first_run.profiled == (first_run.workdir / "profile", 0)
    assert other_run.profiled == (other_run.workdir / "profile", 5)


def test_a_finished_run_has_nothing_to_do(
    first_run: Run, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (first_run.workdir / "metrics.jsonl").read_bytes()
    loop.train(config_of(dataset), first_run.workdir)
    assert "resuming" in capsys.readouterr().err
    assert (first_run.workdir / "metrics.jsonl").read_bytes() == before


def programs_compiled_by(start: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> list[str]:
    """The programs that JAX compiles in `start` if it has none yet, as its log names them."""
    jax.clear_caches()
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING, "jax"):
        start()
    return [told.split()[1] for told in caplog.messages if told.startswith("Compiling ")]


def test_before_its_first_step_a_run_compiles_nothing_but_its_schedule(
    hand: Callable[..., Handed],
    first_run: Run,
    dataset: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handed = hand()

    def start_anew() -> None:
        start_of(handed, tmp_path / "run")
        loop.log_config(handed.config, handed.program)

    assert len(programs_compiled_by(start_anew, caplog)) == 1
    resumed = programs_compiled_by(
        lambda: loop.train(config_of(dataset), first_run.workdir), caplog
    )
    assert len(resumed) == 1


def test_a_run_without_mixup_does_not_load_scipy() -> None:
    code = "import kkanji_jax.training.loop, sys; print('scipy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "False\n"
