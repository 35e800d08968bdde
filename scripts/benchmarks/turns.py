"""Times several programs in turns, each in a separate process, and compares them pair by pair.

On a shared machine, speeds change with time; measurements that follow each other closely can still
be compared.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
MARK = "turn: "  # before a worker's own lines; libraries print others


class Turn(NamedTuple):
    """What one program spent in one round."""

    cpu_s: float  # of all its threads, in user and system mode
    wall_s: float
    units: int  # images, or whatever the program counts


def serve(work: Callable[[], int], note: str = "") -> None:
    """The worker's side: runs `work`, which returns its units, once for every line of input.

    To be called when everything is built and compiled and has run once. The note is printed.
    """
    print(MARK + note, flush=True)
    for _ in sys.stdin:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        units = work()
        turn = Turn(time.process_time() - cpu_s, time.perf_counter() - wall_s, units)
        print(MARK + json.dumps(turn), flush=True)


def serve_batches(batches: Iterator[Any], num_batches: int, shape: tuple[int, ...]) -> None:
    """`serve` for a loader of (images, labels), whose images are of this shape.

    Takes `num_batches` a turn and counts the images.
    """

    def work() -> int:
        for _ in range(num_batches):
            images, _ = next(batches)
            assert images.shape == shape
        return num_batches * shape[0]

    next(batches)
    serve(work)


def print_rates(found: Mapping[str, Sequence[Turn]], names: Mapping[str, str]) -> None:
    """Prints each program's median rate, by what `names` call it."""
    for name, spent in found.items():
        rate = statistics.median(turn.units / turn.cpu_s for turn in spent)
        print(f"{names.get(name, name):70} {rate:10,.0f} images/CPU-s")


def _next_line(worker: subprocess.Popen[str], name: str) -> str:
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith(MARK):
            return line.removeprefix(MARK)
    raise ValueError(f"the program of {name} ended with status {worker.wait()}")


def take_turns(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    *,
    num_cores: int,
    pythons: Mapping[str, str] | None = None,
) -> dict[str, list[Turn]]:
    """Starts one worker a command; once all are ready, they work one at a time, in rounds.

    All are held to the same `num_cores` cores. `pythons` names other interpreters than this one for
    some of them. Raises ValueError if one of them ends early.
    """
    pythons = pythons or {}
    cores = sorted(os.sched_getaffinity(0))[:num_cores]
    threads = {"OMP_NUM_THREADS": str(num_cores), "JAX_PLATFORMS": "cpu"}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    workers: dict[str, subprocess.Popen[str]] = {}
    turns: dict[str, list[Turn]] = {name: [] for name in commands}
    try:
        for name, command in commands.items():
            workers[name] = subprocess.Popen(
                [pythons.get(name, sys.executable), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | threads | {"PYTHONPATH": path},
            )
            with contextlib.suppress(ProcessLookupError):  # dead already, as the next line tells
                os.sched_setaffinity(workers[name].pid, cores)  # its threads come later
        for name, worker in workers.items():
            note = _next_line(worker, name).strip()
            print(f"{name} is ready. {note}".strip(), flush=True)
        for _ in range(rounds):
            for name, worker in workers.items():
                assert worker.stdin is not None
                print("go", file=worker.stdin, flush=True)
                turns[name].append(Turn(*json.loads(_next_line(worker, name))))
    finally:
        for worker in workers.values():
            worker.kill()
            worker.communicate()  # waits, and closes the pipes
    return turns


def ratios(ours: Sequence[Turn], theirs: Sequence[Turn]) -> list[float]:
    """Round by round, our units per CPU second divided by those of the peer."""
    return [(a.units / a.cpu_s) / (b.units / b.cpu_s) for a, b in zip(ours, theirs, strict=True)]


def comparison(name: str, found: Sequence[float], unit: str = "x") -> str:
    """One line: the median ratio to `name`, its range, and of how many pairs."""
    middle, low, high = statistics.median(found), min(found), max(found)
    return f"against {name}: {middle:.2f} {unit} ({low:.2f} to {high:.2f}, {len(found)} pairs)"
