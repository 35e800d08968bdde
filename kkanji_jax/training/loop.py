"""A training run: set up from a config, resumed or started, and run to its end."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from kkanji_jax import __version__
from kkanji_jax.augment.policy import get_policy
from kkanji_jax.compilation_cache import counting_kept_programs, enable_compilation_cache
from kkanji_jax.config import Config, fingerprint, validate
from kkanji_jax.data.batches import BatchShape
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import (
    identity_of,
    is_same_dataset,
    load_index,
    load_manifest,
    refuse_leaky,
)
from kkanji_jax.data.resident import Split, load_split
from kkanji_jax.evaluation.counts import evaluation_scores
from kkanji_jax.evaluation.forward import Evaluator
from kkanji_jax.files import write_json
from kkanji_jax.model.network import make_graphdef
from kkanji_jax.parallel import hosts
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.parallel.joining import join
from kkanji_jax.saved.checkpoint import finished_steps
from kkanji_jax.saved.trained import load_trained
from kkanji_jax.training import host_memory, roofline
from kkanji_jax.training import workdir as workdir_lib
from kkanji_jax.training.checkpoint_store import CheckpointStore
from kkanji_jax.training.feed import Feed, FeedConfig, open_resident, open_streamed
from kkanji_jax.training.metric_log import LogConfig, MetricLog
from kkanji_jax.training.optim import learning_rate_schedule, make_optimizer
from kkanji_jax.training.profiler import Profiler
from kkanji_jax.training.schedule import Pace, check_batch_fits
from kkanji_jax.training.state import TrainState, abstract_state, create_state
from kkanji_jax.training.step import StepConfig, make_train_steps
from kkanji_jax.training.warm_start import warm_state

MEET_EVERY_S = 10.0  # how often the processes of a run ask each other whether to stop
LONG_COMPILE_S = 20.0  # starting anew takes ten: not for a small network, whose steps are short


class CompiledHereError(Exception):
    """The step was compiled in this process, and a new process would take it from the cache.

    No step was logged or saved. Compiling a B0 leaves a heap of some 175,000 free pieces, which
    XLA's allocations search under one lock: on two cores, a step then takes 1.6 times as long.
    """


@dataclass(frozen=True)
class RunData:
    """What a run learns from and is validated on."""

    dataset: Path
    manifest: dict[str, Any]
    identity: dict[str, str]  # of the dataset, see data.manifest.identity_of
    class_index: ClassIndex
    feed: Feed
    val: Split


@dataclass(frozen=True)
class Program:
    """What a run computes: how many steps, by which optimizer, with which compiled functions."""

    mesh: Mesh
    pace: Pace
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    train_steps: Callable[..., Any]
    evaluator: Evaluator


@dataclass(frozen=True)
class Start:
    """Where a run begins: with fresh weights, with another model's, or where it was stopped."""

    state: TrainState  # on the devices of the mesh
    meta: dict[str, Any]  # what every checkpoint of the run says of it
    carried: dict[str, Any] | None  # sums that the log had not written when it was stopped


def train(config: Config, workdir: Path, *, may_start_anew: bool = False) -> None:
    """Runs or resumes the training that `config` describes, in `workdir`.

    However it ends, the workdir is unlocked, and no save is in progress. ValueError says what
    cannot be run, FloatingPointError that the loss or the weights are not finite, OSError what
    cannot be written. If several processes run together, a failure in one of them ends all. With
    `may_start_anew`, one process on a CPU that has compiled for long raises CompiledHereError.
    """
    join()
    enable_compilation_cache()
    with contextlib.ExitStack() as held, hosts.EndingTogether():
        validate(config)
        _train(config, workdir, held, may_start_anew)


def _train(config: Config, workdir: Path, held: contextlib.ExitStack, may_start_anew: bool) -> None:
    mesh = mesh_lib.make_mesh()
    mesh_lib.check_divides(config.batch_size, mesh, config.microbatches)
    data = read_data(config, workdir, held)
    program = make_program(config, data, mesh)
    batches = data.feed.make_iterator(batch_shape(config, program.pace))
    store = CheckpointStore(workdir, max_to_keep=config.max_checkpoints)
    held.callback(store.close)
    start = start_or_resume(config, workdir, data, program, store, batches)
    if hosts.is_first():
        describe_run(workdir, start.meta, data, mesh)
    log = MetricLog(
        workdir,
        log_config(config, program),
        resumed_step=int(start.state.step),
        carried=start.carried,
    )
    held.callback(log.close)
    stop = held.enter_context(contextlib.closing(workdir_lib.StopSignal()))
    profiler = Profiler(workdir / "profile", config.profile)
    held.callback(profiler.close)
    is_alone_on_cpu = jax.process_count() == 1 and mesh_lib.platform(mesh) == "cpu"
    run = _Run(
        config,
        workdir,
        data,
        program,
        start,
        batches,
        store,
        log,
        profiler,
        stop,
        may_start_anew=may_start_anew and is_alone_on_cpu,
    )
    try:
        step = run.to_the_end()
    except FloatingPointError as err:
        store.wait()
        good = finished_steps(workdir)[-1:]
        kept = f"checkpoint {good[0]} in {workdir} is good" if good else "no checkpoint is kept"
        start = f"from the start or with --config.init_from={workdir}" if good else "from the start"
        raise FloatingPointError(
            f"{err}; {kept}: lower optim.lr_peak in another workdir, {start}"
        ) from err
    store.close()
    total_steps = program.pace.total_steps
    done = "trained" if step == total_steps else "told to stop; saved"
    say(f"{done} {step} of {total_steps} steps: {workdir}")


# --- set-up ------------------------------------------------------------------------------------


def read_data(config: Config, workdir: Path, held: contextlib.ExitStack) -> RunData:
    """Opens the dataset that `config` names, and locks `workdir` until `held` is closed.

    ValueError for a dataset that cannot be trained on, before the workdir is touched; and, before
    images are read, if the processes of a run differ.
    """
    dataset = Path(config.data.dataset)
    manifest = load_manifest(dataset)
    allowed = config.data.allow_leaky_protocol
    refuse_leaky(dataset, manifest, allowed, "--config.data.allow_leaky_protocol=legacy")
    class_index = load_index(dataset, manifest)
    if not manifest["splits"]["val"]["num_examples"]:
        raise ValueError(f"{dataset} has no validation images; build it with other --ratios")
    per_class = config.data.per_class if manifest["per_class"] is None else None
    check_batch_fits(config.batch_size, manifest["splits"]["train"], per_class)
    identity = identity_of(dataset, manifest)
    check_processes_agree(config, identity["dataset_digest"])
    if hosts.is_first():
        held.enter_context(workdir_lib.lock(workdir))
    hosts.meet("locked")
    hosts.check_shared(workdir)
    hosts.check_same({f"list of checkpoints in {workdir}": str(finished_steps(workdir))})
    say(f"reading {dataset}")
    choice = FeedConfig(
        per_class=config.data.per_class,
        sampling_exponent=config.data.sampling_exponent,
        fresh_copies=config.data.fresh_copies,
        seed=config.seed,
        photograph_weight=config.data.photograph_weight,
        may_leak=allowed is not None,
    )
    if config.data.reading == "streamed":
        feed = open_streamed(dataset, choice, pool_examples=config.data.pool_examples)
    else:
        feed = open_resident(dataset, choice)
    return RunData(
        dataset=dataset,
        manifest=manifest,
        identity=identity,
        class_index=class_index,
        feed=feed,
        val=load_split(dataset, "val"),
    )


def check_processes_agree(config: Config, dataset_digest: str) -> None:
    """Raises ValueError, in all processes, if one of them would train something else."""
    fields = config.to_dict()
    # Paths, which may be other ones on another machine: what is there is compared.
    del fields["data"]["dataset"]
    fields["init_from"] = fields["init_from"] is not None
    hosts.check_same(
        {
            "version of kkanji_jax or JAX": f"{__version__} {jax.__version__}",
            "config": fingerprint(fields),
            "dataset": dataset_digest,
        }
    )


def make_program(config: Config, data: RunData, mesh: Mesh) -> Program:
    """The steps of the run, not compiled yet."""
    pace = Pace.of(
        data.feed.num_examples,
        batch_size=config.batch_size,
        epochs=config.epochs,
        per_dispatch=config.steps_per_dispatch,
        log_every=config.log_every_steps,
        eval_every=config.eval_every_steps,
        ckpt_every=config.ckpt_every_steps,
    )
    model, num_classes, optim = config.model.to_dict(), len(data.class_index), config.optim
    schedule = learning_rate_schedule(
        optim.schedule,
        optim.lr_peak,
        round(optim.warmup_epochs * pace.steps_per_epoch),
        pace.total_steps,
        optim.lr_final_fraction,
    )
    optimizer = make_optimizer(
        schedule,
        b1=optim.b1,
        b2=optim.b2,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        grad_clip_norm=optim.grad_clip_norm,
    )
    step_config = StepConfig(
        policy=get_policy(config.augment.policy),
        seed=config.seed,
        image_px=config.model.image_px,
        label_smoothing=config.loss.label_smoothing,
        mixup_alpha=config.augment.mixup_alpha,
        ema_decay=config.ema_decay,
    )
    graphdef = make_graphdef(model, num_classes)
    # Validation holds at a time what training does.
    at_a_time = config.batch_size // config.microbatches
    return Program(
        mesh=mesh,
        pace=pace,
        schedule=schedule,
        optimizer=optimizer,
        train_steps=make_train_steps(graphdef, optimizer, mesh, step_config),
        evaluator=Evaluator(model, num_classes, mesh=mesh, batch_size=at_a_time),
    )


def batch_shape(config: Config, pace: Pace) -> BatchShape:
    """How the examples are cut into the batches of this process."""
    return BatchShape(
        batch_size=config.batch_size,
        steps_per_dispatch=pace.per_dispatch,
        num_dispatches=pace.total_steps // pace.per_dispatch,
        microbatches=config.microbatches,
        process_index=jax.process_index(),
        num_processes=jax.process_count(),
    )


def start_or_resume(
    config: Config,
    workdir: Path,
    data: RunData,
    program: Program,
    store: CheckpointStore,
    batches: Any,
) -> Start:
    """The state of the newest checkpoint, with `batches` at its position; otherwise a fresh one.

    A fresh state has the weights of `init_from` if the config names a model there.
    """
    meta: dict[str, Any] = {
        "config": config.to_dict(),
        "class_index": data.class_index.to_json(),
        **data.identity,
        "train_counts": data.manifest["original_counts"],
        "package_version": __version__,
        "warm_start": None,
    }
    model, num_classes = config.model.to_dict(), len(data.class_index)
    abstract = abstract_state(model, num_classes, program.optimizer)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(abstract.params))
    resumed = store.restore_latest(abstract, batches, program.mesh, meta)
    if resumed is not None:
        state, saved = resumed
        meta["warm_start"] = saved.get("warm_start")
        start = Start(state, meta, saved["log"])
        say(f"resuming {workdir} at step {int(state.step)}")
    else:
        fresh = create_state(model, num_classes, program.optimizer, config.seed)
        if config.init_from is not None:
            source = load_trained(config.init_from)
            fresh, meta["warm_start"] = warm_state(fresh, source, data.class_index)
            hosts.check_same({"model of init_from": _digest((fresh.params, fresh.batch_stats))})
            say(f"starting from the weights of {source.path}")
            if not is_same_dataset(source.identity, data.identity):
                say(
                    f"warning: they were trained on another build than {data.dataset}, perhaps on "
                    "images that are held out here"
                )
        start = Start(mesh_lib.replicate(fresh, program.mesh), meta, None)
    say(
        f"{config.model.variant}: {num_params:,} parameters, {num_classes} classes, "
        f"{data.feed.num_images:,} training images, {program.pace.total_steps} steps of "
        f"{config.batch_size} on {program.mesh.size} x {mesh_lib.platform(program.mesh)}; "
        f"compiling {_told(mesh_lib.compiler_options(program.mesh))}"
    )
    return start


def _told(options: dict[str, Any]) -> str:
    """XLA's options as XLA_FLAGS would have them."""
    words = (f"--{name}={str(value).lower()}" for name, value in options.items())
    return f"with {' '.join(words)}" if options else "with XLA's own options"


def _digest(variables: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def describe_run(workdir: Path, meta: dict[str, Any], data: RunData, mesh: Mesh) -> None:
    """Writes config.json and index.json if they are missing, and env.json for this start."""
    if not (workdir / "config.json").exists():
        write_json(workdir / "config.json", meta["config"])
    if not (workdir / "index.json").exists():
        data.class_index.save(workdir / "index.json")
    devices = [str(device) for device in jax.devices()]
    told = {
        "dataset_fingerprint": data.manifest["fingerprint"],
        "compiler_options": mesh_lib.compiler_options(mesh),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    write_json(workdir / "env.json", workdir_lib.environment(devices) | told)


def log_config(config: Config, program: Program) -> LogConfig:
    """What the log needs to know of the run."""
    steps = np.arange(program.pace.total_steps)
    return LogConfig(
        total_steps=program.pace.total_steps,
        steps_per_epoch=program.pace.steps_per_epoch,
        batch_size=config.batch_size,
        learning_rates=jax.device_get(jax.jit(jax.vmap(program.schedule))(steps)),
        images_per_s_limit=roofline.images_per_s_limit(
            config.model.to_dict(), jax.devices()[0].device_kind, program.mesh.size
        ),
        has_tensorboard=config.tensorboard,
        is_writer=hosts.is_first(),
    )


# --- the loop ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """Everything that the loop works with."""

    config: Config
    workdir: Path
    data: RunData
    program: Program
    start: Start
    batches: Any
    store: CheckpointStore
    log: MetricLog
    profiler: Profiler
    stop: workdir_lib.StopSignal
    may_start_anew: bool

    def to_the_end(self) -> int:
        """Trains until the last step, or until it is told to stop; the step that it reached."""
        pace, mesh, state = self.program.pace, self.program.mesh, self.start.state
        step = int(state.step)
        data = mesh_lib.replicate(self.data.feed.data, mesh)
        meetings = hosts.Meetings(every_s=MEET_EVERY_S)
        is_first_dispatch, is_stopping = True, False
        with jax.transfer_guard("disallow"), contextlib.ExitStack() as compiling:
            compiling.enter_context(host_memory.collector_paused())
            kept = compiling.enter_context(counting_kept_programs())
            while step < pace.total_steps and not is_stopping:
                with self.log.waiting_for_data():
                    part = self.data.feed.batch(**next(self.batches))
                    batch = mesh_lib.to_global(part, mesh, axis=2)
                state, metrics = self.program.train_steps(state, data, batch)
                step += pace.per_dispatch
                self.log.add(metrics)
                if is_first_dispatch:
                    jax.block_until_ready(metrics)
                    took_s = self.log.compiled(step)
                    is_first_dispatch = False
                    compiling.close()
                    is_long = bool(kept) and took_s >= LONG_COMPILE_S
                    if is_long and self.may_start_anew and self.stop.received is None:
                        raise CompiledHereError
                    host_memory.give_back()
                self.store.check()
                if pace.is_due(step, pace.log_every):
                    self.log.write(step)
                self.profiler.advance(step, state)
                is_scored = pace.is_due(step, pace.eval_every)
                scores = None
                if is_scored:
                    with self.log.pause():
                        scores = self.validation_scores(state)
                    self.log.write_scores(step, scores)
                # A scored step is saved as well: the best may be any of them.
                is_saved = is_scored or pace.is_due(step, pace.ckpt_every)
                # Alone, a process stops at once; together, where all of them meet.
                is_told = self.stop.received is not None
                is_stopping = meetings.any_says(is_told, is_meeting=is_saved)
                if is_saved or is_stopping:
                    with self.log.pause():
                        meta = self.start.meta | {"log": self.log.carry()}
                        self.store.save(step, state, self.batches, meta, scores)
        return step

    def validation_scores(self, state: TrainState) -> dict[str, Any]:
        """Scores of the weights that inference uses: the average if the run keeps one."""
        is_averaged = bool(self.config.ema_decay)
        params, batch_stats = (
            (state.ema_params, state.ema_batch_stats)
            if is_averaged
            else (state.params, state.batch_stats)
        )
        val = self.data.val
        predictions = self.program.evaluator.predictions(
            params, batch_stats, val.images, val.labels
        )
        return {"weights": "ema" if is_averaged else "raw"} | evaluation_scores(
            predictions.labels,
            predictions.top_ids,
            predictions.losses,
            len(self.data.class_index),
        )


def say(text: str) -> None:
    """Prints a message for the person at the terminal; of several processes only the first does."""
    if hosts.is_first():
        print(text, file=sys.stderr, flush=True)
