"""A build on a real cluster has the bytes of one on this machine, whatever is killed meanwhile."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data_tools import build
from data_tools.plan.build_plan import Options
from data_tools.ray_workers import RayWorkers
from data_tools.write.assemble import assemble
from data_tools.write.build_state import naming_in_errors

# Ray leaves sockets and files to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two CPUs."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # else a busy machine lets workers wait for minutes
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    node = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        yield str(made.address)
    finally:
        ray.shutdown()
        made.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def children_of(process: int) -> Iterator[int]:
    """The processes that this one started, and those they did."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(words[1]) == process:
            yield int(path.parent.name)
            yield from children_of(int(path.parent.name))


def busy_workers() -> list[int]:
    """Processes of the cluster that are doing a task now."""
    found = []
    for process in children_of(os.getpid()):
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::_called"):
            found.append(process)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_cluster_builds_the_bytes_of_one_process(cluster: str, source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 30)
    source.add_kanji("U+590F", 12)
    source.add_small("k49-train", [0, 1, 2, 0, 1, 2])
    source.add_file("kkanji2/U+6625/damaged.png", b"no image")
    arguments = ["--source", str(source.folder), "--skip-bad", "--ratios", "60/20/20"]
    assert build.main([*arguments, "--workers", "1", "--out", str(tmp_path / "here")]) == 0
    there = ["--engine", "ray", "--address", cluster, "--out", str(tmp_path / "there")]
    assert build.main([*arguments, *there]) == 0
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_killed_workers_change_no_byte(cluster: str, source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 700)
    source.add_kanji("U+590F", 400)
    options = Options(ratios=(60.0, 20.0, 20.0))
    assemble(source.folder, tmp_path / "here", options)
    killed: set[int] = set()
    is_built = threading.Event()

    def kill_two() -> None:
        while len(killed) < 2 and not is_built.is_set():
            for process in set(busy_workers()[:1]) - killed:
                os.kill(process, signal.SIGKILL)
                killed.add(process)
            time.sleep(0.02)

    killer = threading.Thread(target=kill_two)
    workers = RayWorkers(cluster)
    assert workers.count == 2
    killer.start()
    try:
        assemble(source.folder, tmp_path / "there", options, workers=workers)
    finally:
        is_built.set()
        killer.join()
    assert killed, "no worker was ever seen busy"
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def double(number: int) -> int:
    return 2 * number


def die_at(number: int, marks: Path) -> int:
    """Dies the first time that it is given 3."""
    mark = marks / str(number)
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def die_always(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_to_write(number: int) -> int:
    with naming_in_errors(Path("/somewhere/shard")):
        raise OSError(28, "No space left on device")


def test_results_come_in_order_and_dead_tasks_are_done_again(cluster: str, tmp_path: Path):
    taken = []

    def items() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    with RayWorkers(cluster) as workers:
        results = workers.map(double, items(), most=3)
        assert next(results) == 0
        assert len(taken) == 3, "more is taken than may be held"
        assert list(results) == [2 * number for number in range(1, 12)]
        dying = partial(die_at, marks=tmp_path)
        assert list(workers.map(dying, range(6), most=2)) == [0, 2, 4, 6, 8, 10]
        unordered = workers.map(double, range(6), most=3, in_order=False)
        assert sorted(unordered) == [0, 2, 4, 6, 8, 10]
        with pytest.raises(OSError, match="cannot write /somewhere/shard: No space left"):
            list(workers.map(fail_to_write, [1], most=1))
        with pytest.raises(OSError, match="workers were killed 6 times at one task"):
            list(workers.map(die_always, [1], most=1))
