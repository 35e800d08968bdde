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
TRAIN = """
import os, threading, time
parent = os.getppid()
def end_with_parent():
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
from kkanji_jax.train import run
run()
"""
LAST_LINES = 20  # of a process that failed


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
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, *told["arguments"]],
        cwd=told["folder"],
        env=os.environ | place_of(number, count, address),
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stderr is not None
    last: list[str] = []
    for line in process.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        last = [*last, line][-LAST_LINES:]
    status = process.wait()
    if status:
        raise RuntimeError(
            f"process {number} of {count} ended with status {status}: {''.join(last)}"
        )


def fit(args: argparse.Namespace) -> None:
    """Trains to the end; ValueError with the last words of a process that kept failing."""
    try:
        with connected(args.address, args.workers * args.cpus if args.address is None else None):
            from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError  # pyright: ignore[reportMissingImports]
            from ray.train.v2.jax import JaxConfig, JaxTrainer  # pyright: ignore[reportMissingImports]

            workdir = _workdir_of(args.arguments)
            needs = {"CPU": float(args.cpus)} | ({"GPU": float(args.gpus)} if args.gpus else {})
            trainer = JaxTrainer(
                train_here,
                train_loop_config={"arguments": args.arguments, "folder": os.getcwd()},
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
                    storage_path=str(workdir.parent / "ray_train"),
                    failure_config=FailureConfig(max_failures=args.max_failures),
                ),
            )
            try:
                trainer.fit()
            except TrainingFailedError as err:
                raise ValueError(f"training failed: {' '.join(str(err).split())}") from err
    except ModuleNotFoundError as err:
        raise ValueError(f'{err}: pip install "kkanji_jax[ray]"') from err


def _workdir_of(arguments: Sequence[str]) -> Path:
    from kkanji_jax.training import flags

    return flags.parse(list(arguments)).workdir.absolute()


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
