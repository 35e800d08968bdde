"""Kills builds of real files at seeded moments, goes on, and compares with one never killed.

    python tests/soak/kill_builds.py --source DIR --scratch DIR [--kills 10] [-- --per-class 200]

What follows `--` is given to data_tools.build. First the whole is built with one worker, then
again with two workers and as many kills (SIGKILL to the process and its workers): by turns at a
moment drawn over the first third of the first build's length, which is reading, and while a shard
is half written. Prints where every kill hit, and ends with status 1 if one file differs or a kill
came too late.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kkanji_jax.data.manifest import BUILD_STATE_NAME
from kkanji_jax.files import sha256_of

ROOT = Path(__file__).resolve().parents[2]


def start(source: Path, out: Path, workers: int, more: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "data_tools.build", "--source", str(source), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--workers", str(workers), *more],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def cpu_s_of(pid: int) -> float:
    """What a build and its workers have spent, ended ones included; 0 when it is gone."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended since
        if int(fields[2]) == pid:  # the group, which a build leads
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def half_written(out: Path) -> set[str]:
    """The shards that a build is writing, or has left so; each attempt has a name of its own."""
    return {path.name for path in (out / BUILD_STATE_NAME).glob("*.array_record.*.unfinished")}


def state_of(out: Path) -> str:
    """What a killed build has left, in words."""
    finished = len(list(out.glob("*.array_record")))
    unfinished = len(half_written(out))
    if not (out / BUILD_STATE_NAME).exists():
        return "while reading, nothing written yet"
    return f"with {finished} shards in place and {unfinished} half written"


def finish(process: subprocess.Popen[bytes], what: str) -> float:
    """Waits, and returns the CPU seconds that it took."""
    spent_s = 0.0
    while process.poll() is None:
        spent_s = max(spent_s, cpu_s_of(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise ValueError(f"{what} ended with status {process.returncode}")
    return spent_s


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True, help="where both datasets go")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("more", nargs="*", help="after --: further words for data_tools.build")
    args = parser.parse_args(argv)
    whole, killed = args.scratch / "whole", args.scratch / "killed"
    source, rng = args.source.resolve(), random.Random(args.seed)
    length_s = finish(start(source, whole.resolve(), 1, args.more), "the undisturbed build")
    num_shards = len(list(whole.glob("*.array_record")))
    print(f"whole: {num_shards} shards, {length_s:.0f} CPU-s", flush=True)
    num_hits = 0
    for number in range(args.kills):
        left = half_written(killed)
        process = start(source, killed.resolve(), 2, args.more)
        moment_s = rng.uniform(0.02, 0.3) * length_s  # of CPU time: a busy machine is slow
        if number % 2:
            while process.poll() is None and half_written(killed) <= left:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
        else:
            while process.poll() is None and cpu_s_of(process.pid) < moment_s:
                time.sleep(0.02)
        is_hit = process.poll() is None
        if is_hit:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        num_hits += is_hit
        where = state_of(killed) if is_hit else "had ended"
        print(f"kill {number}: {where}", flush=True)
        if (killed / "manifest.json").exists():
            break
    finish(start(source, killed.resolve(), 2, args.more), "the build after the kills")
    first, second = (
        {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
        for folder in (whole, killed)
    )
    different = sorted(name for name in first | second if first.get(name) != second.get(name))
    print(f"{num_hits} kills hit a live build; of {len(first)} files {len(different)} differ")
    print(*different, sep="\n", end="")
    return 1 if different or num_hits < args.kills else 0


if __name__ == "__main__":
    sys.exit(main())
