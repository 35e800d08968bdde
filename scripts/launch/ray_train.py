"""Trains on the nodes of a Ray cluster: Ray Train places the processes, and starts them again.

    python scripts/launch/ray_train.py [--address A] --workers 2 --gpus 8 -- \
        --config configs/b0.py --workdir /shared/b0 --config.data.dataset=/shared/kuzushiji

After `--` stand the arguments of `python -m kkanji_jax.train`. A worker is one process with all the
GPUs it is given; give it those of a whole node. Where one process dies, all end, and start again up
to --max-failures times, from the last checkpoint. The workdir and the dataset lie on storage that
all nodes share, and kkanji_jax[ray] is installed on each node.

Run in the tests as two CPU workers; never run on GPUs.
"""

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from kkanji_jax import cli
from kkanji_jax.ray_cluster import connected

# The trainer answers signals, which Python hands to main threads only, and Ray's loops run in
# others. It ends with the worker that started it, however that ends.
PARENT = "KKANJI_PARENT"
TRAIN = """
import os, threading, time
parent = int(os.environ["KKANJI_PARENT"])
def end_with_parent():
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
from kkanji_jax.train import run
run()
"""


def place_of(number: int, count: int, address: str) -> dict[str, str]:
    """The variables by which the trainers of a run find each other."""
    if count == 1:
        return {}
    return {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(number),
    }


def train_here(told: dict[str, Any]) -> None:
    """In each worker: one process of `python -m kkanji_jax.train`. RuntimeError if it fails."""
    import ray.util  # pyright: ignore[reportMissingImports]
    from ray import train  # pyright: ignore[reportMissingImports]
    from ray.train.collective import broadcast_from_rank_zero  # pyright: ignore[reportMissingImports]

    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    address = broadcast_from_rank_zero(f"{ray.util.get_node_ip_address()}:{port}")
    context = train.get_context()
    number, count = context.get_world_rank(), context.get_world_size()
    path = log_of(Path(told["logs"]), number)
    with path.open("ab") as log:
        begin = log.tell()
        status = subprocess.call(
            [sys.executable, "-c", TRAIN, *told["arguments"]],
            cwd=told["folder"],
            env=os.environ | place_of(number, count, address) | {PARENT: str(os.getpid())},
            stdout=log,
            stderr=log,
        )
    if status:
        with path.open("rb") as log:
            log.seek(begin)
            last = log.read().decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeError(
            f"process {number} of 0 to {count - 1} ended with status {status}: {last} ({path})"
        )


def log_of(folder: Path, number: int) -> Path:
    """Where a process writes what it would print."""
    return folder / f"process-{number}.log"


def fit(args: argparse.Namespace) -> None:
    """Trains to the end; ValueError with the last line of a process that kept failing.

    What would fail in every process and at every restart is refused here, before Ray starts.
    """
    workdir = _checked_workdir(args.arguments)
    try:
        with connected(args.address, args.workers * args.cpus):
            import ray  # pyright: ignore[reportMissingImports]
            from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError  # pyright: ignore[reportMissingImports]
            from ray.train.v2.jax import JaxConfig, JaxTrainer  # pyright: ignore[reportMissingImports]

            storage = workdir.parent / "ray_train"
            logs = storage / workdir.name
            logs.mkdir(parents=True, exist_ok=True)
            print(f"what the processes print: {log_of(logs, 0)} and so on", file=sys.stderr)
            needs = {"CPU": float(args.cpus)} | ({"GPU": float(args.gpus)} if args.gpus else {})
            has = ray.cluster_resources()
            for kind, count in needs.items():
                if has.get(kind, 0) < args.workers * count:
                    told = f"it has {has.get(kind, 0):g} {kind}s, expected {args.workers * count:g}"
                    print(f"waiting for the cluster: {told}", file=sys.stderr)
            trainer = JaxTrainer(
                train_here,
                train_loop_config={
                    "arguments": args.arguments,
                    "folder": os.getcwd(),
                    "logs": str(logs),
                },
                # The trainers join each other; Ray would do so in its own process, and give every
                # worker of a node the same GPUs.
                jax_config=JaxConfig(use_gpu=False, use_tpu=False),
                scaling_config=ScalingConfig(
                    num_workers=args.workers,
                    use_gpu=bool(args.gpus),
                    resources_per_worker=needs,
                    placement_strategy="SPREAD",
                ),
                run_config=RunConfig(
                    name=workdir.name,
                    storage_path=str(storage),
                    failure_config=FailureConfig(max_failures=args.max_failures),
                ),
            )
            try:
                trainer.fit()
            except TrainingFailedError as err:
                # Ray tells it with the lines of code in which it was raised.
                told = " ".join(str(err).split()).rpartition("RuntimeError: ")[2]
                raise ValueError(f"training failed: {told}") from err
    except ModuleNotFoundError as err:
        raise ValueError(f'{err}: pip install "kkanji_jax[ray]"') from err


def _checked_workdir(arguments: Sequence[str]) -> Path:
    """Where the run goes; ValueError if its config or its dataset cannot be trained with."""
    from kkanji_jax.config import validate
    from kkanji_jax.data.manifest import load_index, load_manifest, refuse_leaky
    from kkanji_jax.training import flags

    command = flags.parse(list(arguments))
    validate(command.config)
    data = command.config.data
    dataset = Path(data.dataset)
    manifest = load_manifest(dataset)
    refuse_leaky(
        dataset, manifest, data.allow_leaky_protocol, "--config.data.allow_leaky_protocol=legacy"
    )
    load_index(dataset, manifest)
    init_from = command.config.init_from
    if init_from and not Path(init_from).is_dir():
        raise ValueError(f"--config.init_from must be a run or a bundle, not {init_from}")
    return command.workdir.absolute()


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; 0 when trained, or told to stop and saved; else 1 and one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--address",
        metavar="A",
        help="address of the cluster (default: RAY_ADDRESS, or this machine)",
    )
    add("--workers", type=int, default=1, metavar="N", help="processes, one per node (default: 1)")
    add("--cpus", type=int, default=1, metavar="N", help="CPUs of each process (default: 1)")
    add("--gpus", type=int, default=0, metavar="N", help="GPUs of each process (default: 0)")
    add(
        "--max-failures",
        type=int,
        default=3,
        metavar="N",
        help="most restarts, -1: no limit (default: 3)",
    )
    add(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="-- ARGUMENTS",
        help="arguments of kkanji_jax.train",
    )
    args = parser.parse_args(argv)
    args.arguments = [word for word in args.arguments if word != "--"]
    return cli.answer(lambda: fit(args))


def run() -> NoReturn:
    """The process of this script."""
    cli.run(main)


if __name__ == "__main__":
    run()
