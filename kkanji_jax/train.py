"""Trains a recogniser: `python -m kkanji_jax.train --config configs/b0.py [--workdir DIR]`.

The same command again resumes from the last checkpoint, to the bit on the same machine. Any field
is overridden as --config.FIELD=VALUE. SIGTERM and Ctrl-C save and exit; a second one exits at once.
"""

import contextlib
import hashlib
import sys
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from kkanji_jax import command_line


def train(config: Any, workdir: Path) -> None:
    """Runs or resumes the training that `config` describes, in `workdir`.

    However it ends, the workdir is free again, and no save is under way.
    """
    with contextlib.ExitStack() as held:
        _train(config, workdir, held)


def _train(config: Any, workdir: Path, held: contextlib.ExitStack) -> None:
    from kkanji_jax.config import validate

    validate(config)

    import jax
    import jax.numpy as jnp

    from kkanji_jax import __version__
    from kkanji_jax.augment.policy import get_policy
    from kkanji_jax.data.manifest import load_index, load_manifest, refuse_leaky
    from kkanji_jax.data.resident import load_split
    from kkanji_jax.evaluation.metrics import evaluation_scores
    from kkanji_jax.evaluation.scores import predict_split
    from kkanji_jax.parallel import hosts
    from kkanji_jax.parallel import mesh as mesh_lib
    from kkanji_jax.saved.checkpoint import finished_steps
    from kkanji_jax.saved.trained import load_trained
    from kkanji_jax.training import roofline
    from kkanji_jax.training import workdir as workdir_lib
    from kkanji_jax.training.checkpoint_store import CheckpointStore
    from kkanji_jax.training.feed import open_resident, open_streamed
    from kkanji_jax.training.metric_log import MetricLog
    from kkanji_jax.training.optim import learning_rate_schedule, make_optimizer
    from kkanji_jax.training.profiler import Profiler
    from kkanji_jax.training.schedule import Pace, check_batch_fits
    from kkanji_jax.training.state import create_state, make_graphdef
    from kkanji_jax.training.step import make_eval_step, make_train_steps
    from kkanji_jax.training.warm_start import warm_state

    # --- the data, and the plan of which example comes when
    hosts.join()
    dataset = Path(config.data.dataset)
    manifest = load_manifest(dataset)
    allowed = config.data.allow_leaky_protocol
    refuse_leaky(dataset, manifest, allowed, "--config.data.allow_leaky_protocol=legacy")
    class_index = load_index(dataset, manifest)
    per_class = config.data.per_class if manifest["per_class"] is None else None
    check_batch_fits(config.batch_size, manifest["splits"]["train"], per_class)
    mesh = mesh_lib.make_mesh()
    mesh_lib.check_divides(config.batch_size, mesh, config.microbatches)
    if hosts.is_first():
        held.enter_context(workdir_lib.lock(workdir))
    hosts.meet("locked")
    _say(f"reading {dataset}")
    choice: dict[str, Any] = {
        "per_class": config.data.per_class,
        "sampling_exponent": config.data.sampling_exponent,
        "photograph_weight": config.data.photograph_weight,
        "fresh_copies": config.data.fresh_copies,
        "seed": config.seed,
        "may_leak": allowed is not None,
    }
    if config.data.reading == "streamed":
        feed = open_streamed(dataset, pool_examples=config.data.pool_examples, **choice)
    else:
        feed = open_resident(dataset, **choice)
    val_split = load_split(dataset, "val")
    if not len(val_split.labels):
        raise ValueError(f"{dataset} has no validation images; build it with other --ratios")
    pace = Pace.of(
        feed.num_examples,
        batch_size=config.batch_size,
        epochs=config.epochs,
        per_dispatch=config.steps_per_dispatch,
        log_every=config.log_every_steps,
        eval_every=config.eval_every_steps,
        ckpt_every=config.ckpt_every_steps,
    )
    batches = feed.make_iterator(
        batch_size=config.batch_size,
        steps_per_dispatch=pace.per_dispatch,
        num_dispatches=pace.total_steps // pace.per_dispatch,
        microbatches=config.microbatches,
        process_index=jax.process_index(),
        num_processes=jax.process_count(),
    )

    # --- the network, the optimizer, the compiled steps
    model, num_classes, optim = config.model.to_dict(), len(class_index), config.optim
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
    graphdef = make_graphdef(model, num_classes)
    train_steps = make_train_steps(
        graphdef,
        optimizer,
        mesh,
        policy=get_policy(config.augment.policy),
        seed=config.seed,
        image_px=config.model.image_px,
        label_smoothing=config.loss.label_smoothing,
        mixup_alpha=config.augment.mixup_alpha,
        ema_decay=config.ema_decay,
    )
    eval_step = make_eval_step(graphdef, mesh, config.model.image_px)

    # --- resume, or start
    meta = {
        "config": config.to_dict(),
        "class_index": class_index.to_json(),
        "manifest_sha256": hashlib.sha256((dataset / "manifest.json").read_bytes()).hexdigest(),
        "train_counts": manifest["original_counts"],
        "package_version": __version__,
    }
    store = CheckpointStore(workdir, max_to_keep=config.max_checkpoints)
    held.callback(store.close)
    fresh = create_state(model, num_classes, optimizer, config.seed)
    resumed = store.restore_latest(fresh, batches, mesh, meta)
    if resumed is None:
        carried, meta["warm_start"] = None, None
        if config.init_from is not None:
            source = load_trained(config.init_from)
            fresh, meta["warm_start"] = warm_state(fresh, source, class_index)
            _say(f"starting from the weights of {source.path}")
            if meta["warm_start"]["manifest_sha256"] != meta["manifest_sha256"]:
                _say(
                    f"warning: they were trained on another build than {dataset}, perhaps on "
                    "images that are held out here"
                )
        state = mesh_lib.replicate(fresh, mesh)
        if hosts.is_first():
            workdir_lib.write_json(workdir / "config.json", meta["config"])
            class_index.save(workdir / "index.json")
    else:
        state, saved = resumed
        carried, meta["warm_start"] = saved["log"], saved.get("warm_start")
        _say(f"resuming {workdir} at step {int(state.step)}")
    step = int(state.step)
    devices = [str(device) for device in jax.devices()]
    if hosts.is_first():
        workdir_lib.write_json(
            workdir / "env.json",
            workdir_lib.environment(devices) | {"dataset_fingerprint": manifest["fingerprint"]},
        )
    log = MetricLog(
        workdir,
        is_writer=hosts.is_first(),
        has_tensorboard=config.tensorboard,
        resumed_step=step,
        total_steps=pace.total_steps,
        batch_size=config.batch_size,
        steps_per_epoch=pace.steps_per_epoch,
        learning_rates=jax.device_get(jax.vmap(schedule)(jnp.arange(pace.total_steps))),
        images_per_s_limit=roofline.images_per_s_limit(
            model, jax.devices()[0].device_kind, mesh.size
        ),
        carried=carried,
    )
    num_params = sum(leaf.size for leaf in jax.tree.leaves(fresh.params))
    _say(
        f"{config.model.variant}: {num_params:,} parameters, {num_classes} classes, "
        f"{feed.num_images:,} training images, {pace.total_steps} steps of "
        f"{config.batch_size} on {mesh.size} x {jax.devices()[0].platform}; compiling"
    )
    data = mesh_lib.replicate(feed.data, mesh)

    # --- the loop
    weights = "ema" if config.ema_decay else "raw"

    def validation_scores() -> dict[str, Any]:
        averaged = (state.ema_params, state.ema_batch_stats)
        params, batch_stats = averaged if config.ema_decay else (state.params, state.batch_stats)
        predictions = predict_split(
            eval_step,
            params,
            batch_stats,
            val_split.images,
            val_split.labels,
            batch_size=config.batch_size // config.microbatches,  # what training holds at a time
            mesh=mesh,
        )
        return {"weights": weights} | evaluation_scores(
            predictions.labels, predictions.top_ids, predictions.losses, num_classes
        )

    stop = held.enter_context(contextlib.closing(workdir_lib.StopSignal()))
    profiler = Profiler(workdir / "profile", config.profile)
    held.callback(profiler.close)
    is_stopping = False
    try:
        with jax.transfer_guard("disallow"):
            while step < pace.total_steps and not is_stopping:
                with log.waiting_for_data():
                    batch = mesh_lib.to_global(feed.batch(**next(batches)), mesh, axis=2)
                state, sums = train_steps(state, data, batch)
                step += pace.per_dispatch
                log.add(sums)
                store.check()
                scores = None
                is_logged = pace.is_due(step, pace.log_every)
                if is_logged:
                    log.write(step)
                profiler.advance(step, state)
                if pace.is_due(step, pace.eval_every):
                    with log.pause():
                        scores = validation_scores()
                    log.write_scores(step, scores)
                # Alone, a process stops at once; together, where all of them wait anyway.
                if jax.process_count() == 1 or is_logged:
                    is_stopping = hosts.any_says(stop.received is not None)
                # A scored step is saved as well: the best may be any of them.
                if scores is not None or pace.is_due(step, pace.ckpt_every) or is_stopping:
                    with log.pause():
                        store.save(step, state, batches, meta | {"log": log.carry()}, scores)
    except FloatingPointError as err:
        store.wait()
        good = finished_steps(workdir)[-1:]
        kept = f"checkpoint {good[0]} in {workdir} is good" if good else "no checkpoint is kept"
        raise FloatingPointError(
            f"{err}; {kept}: lower optim.lr_peak in another workdir, from the start or with "
            f"--config.init_from={workdir}"
        ) from err
    store.close()
    done = "trained" if step == pace.total_steps else "told to stop; saved"
    _say(f"{done} {step} of {pace.total_steps} steps: {workdir}")


def _say(text: str) -> None:
    """To the person at the terminal; one process of several speaks."""
    from kkanji_jax.parallel import hosts

    if hosts.is_first():
        print(text, file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
    """Runs the flags that absl has parsed."""
    values = flags.FLAGS
    if len(argv) > 1:
        raise ValueError(f"wanted flags only, got {' '.join(argv[1:])}; see --help")
    if values.config is None:
        raise ValueError("--config is missing, e.g. --config configs/b0.py")
    logging.set_verbosity(logging.WARNING)  # Orbax tells every file it writes
    default = command_line.default_workdir(values["config"])
    train(values.config, Path(values.workdir) if values.workdir else default)


def run() -> None:
    """Entry point: bad input is one line and exit status 1."""
    try:
        app.run(main, flags_parser=lambda argv: command_line.parse(argv, __doc__))
    except (ValueError, OSError, FloatingPointError) as err:
        command_line.fail(err, 1)
    except KeyboardInterrupt:
        command_line.fail(ValueError("interrupted; the same command goes on or starts"), 130)


if __name__ == "__main__":
    run()
