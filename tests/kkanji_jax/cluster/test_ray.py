"""A real cluster of three nodes on this machine, and all that befalls one: same rows in the end."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kkanji_jax import predict
from kkanji_jax.answers.rows import RowOptions
from kkanji_jax.answers.tally import Tally
from kkanji_jax.cluster.collection_reader import CollectionRequest, read_collection
from kkanji_jax.cluster.ray_workers import Resources
from kkanji_jax.cluster.rows_folder import MANIFEST, PROGRESS
from kkanji_jax.inference import recogniser

from .conftest import draw_png, fill_folder, rows_in, rows_of_predict, write_tar

# Ray leaves sockets and files to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NODE = {"object_store_memory": 80_000_000, "include_dashboard": False}
POISON = "poison"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without workers, and two nodes of one CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # else a busy machine lets workers wait for minutes
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    # Workers get this file's functions as they are: they cannot import it.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1, **NODE)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 glyphs, and one damaged file; not to be written into."""
    folder = tmp_path_factory.mktemp("read") / "crops"
    fill_folder(folder, 100)
    return folder


@pytest.fixture(scope="module")
def rows(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process says of them."""
    return rows_of_predict(crops, out=tmp_path_factory.mktemp("rows") / "rows.jsonl")


def load_plain() -> recogniser.Recogniser:
    return recogniser.load(backend="onnx")


def load_slow() -> recogniser.Recogniser:
    made = load_plain()
    run = made._run

    def slow(glyphs):
        time.sleep(1)
        return run(glyphs)

    made._run = slow
    return made


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def take_more_than_allowed() -> None:
    """As a batch system limits memory: an allocation fails, nobody is killed."""
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 100_000_000, resource.RLIM_INFINITY))
    try:
        bytearray(1_000_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def take_all() -> None:
    """Until the node's monitor ends the process; at the last, while 1.5 GB are left."""
    held = []
    while memory_of_machine()[1] > 1_500_000:
        held.append(b"x" * 100_000_000)
        time.sleep(0.05)
    time.sleep(60)


def memory_of_machine() -> tuple[int, int]:
    """All of it, and what is available, KiB."""
    with open("/proc/meminfo") as file:
        total, _, available = (int(line.split()[1]) for line in file.readlines()[:3])
    return total, available


def load_poisoned(fatal: Callable[[], None]) -> recogniser.Recogniser:
    """A recogniser in whose process a file named poison is fatal to open."""
    from kkanji_jax.glyphs import image_files

    load_picture = image_files.load_picture

    def load(source, **options):
        if POISON in str(source):
            fatal()
        return load_picture(source, **options)

    image_files.load_picture = load
    return load_plain()


def read(
    cluster: Any,
    source: Path,
    out: Path,
    load: Callable[[], recogniser.Recogniser] = load_plain,
    on_partition: Callable[[int], None] = lambda done: None,
    num_workers: int = 1,
) -> Tally:
    def report(what: str, done: int, total: int | None) -> None:
        on_partition(done)

    request = CollectionRequest([str(source)], out, {}, load, RowOptions(), partition_images=16)
    return read_collection(request, Resources(cluster.address, num_workers), Counter(), report)


def told_without(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in rows if name not in row["path"]]


def test_two_nodes_have_the_rows_of_one_process(cluster, crops: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    arguments = [str(crops), "--top-k", "3", "--chars", "kanji"]
    where = ["--engine", "ray", "--address", cluster.address, "--partition", "16"]
    assert predict.main([*arguments, *where, "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert "error" not in told, told
    assert rows_in(out) == rows_of_predict(*arguments, out=tmp_path / "rows.jsonl")
    assert told == capsys.readouterr().err, "predict tells something else on standard error"
    assert len(list(out.glob("part-*.parquet"))) == 7
    assert predict.main([*arguments, *where, "--out", str(out), "--invert", "no"]) == 1
    assert "holds rows of another --invert" in capsys.readouterr().err


def test_images_that_lie_turned_have_the_rows_of_one_process(cluster, crops: Path, tmp_path: Path):
    arguments = [str(crops), "--top-k", "2", "--orient", "auto"]
    where = ["--engine", "ray", "--address", cluster.address, "--partition", "16"]
    assert predict.main([*arguments, *where, "--out", str(tmp_path / "out")]) == 1
    rows = rows_in(tmp_path / "out")
    assert rows == rows_of_predict(*arguments, out=tmp_path / "rows.jsonl")
    assert any("turning it" in row["remark"] for row in rows)


def test_tars_and_parquet_have_the_rows_of_their_images(cluster, tmp_path: Path):
    images = [(f"{n:03d}.png", draw_png(n)) for n in range(40)]
    source = tmp_path / "source"
    source.mkdir()
    write_tar(source / "a.tar", images[:20])
    table = pa.table({"image": [content for _, content in images[20:]]})
    pq.write_table(table, source / "b.parquet", row_group_size=8)
    tally = read(cluster, source, tmp_path / "out")
    assert tally.num_images == 40
    (tmp_path / "crops").mkdir()
    for name, content in images:
        (tmp_path / "crops" / name).write_bytes(content)
    expected = rows_of_predict(tmp_path / "crops", out=tmp_path / "rows.jsonl")
    rows = rows_in(tmp_path / "out")
    assert rows[0]["path"] == f"{source}/a.tar/000.png"
    assert rows[-1]["path"] == f"{source}/b.parquet#20"
    nameless = [{**row, "path": ""} for row in rows]
    assert nameless == [{**row, "path": ""} for row in expected]


def test_boxes_of_pages_have_the_rows_of_one_process(cluster, crops: Path, tmp_path: Path):
    boxes = tmp_path / "boxes.csv"
    lines = [f"{n:04d}.png,{n % 9},3,50,55,b{n}" for n in range(30)]
    boxes.write_text("\n".join(["image,x,y,w,h,id", *lines, "gone.png,0,0,1,1,x"]))
    arguments = [str(crops / "inner"), "--boxes", str(boxes)]
    out = tmp_path / "out"
    where = ["--engine", "ray", "--address", cluster.address, "--partition", "4"]
    assert predict.main([*arguments, *where, "--out", str(out)]) == 1
    assert rows_in(out) == rows_of_predict(*arguments, out=tmp_path / "rows.jsonl")


def test_a_node_killed_in_mid_job_changes_no_row(cluster, crops: Path, rows: Any, tmp_path: Path):
    killed = []

    def kill_once(done: int) -> None:
        if done and not killed:
            killed.append(cluster.worker_nodes.copy().pop())
            cluster.remove_node(killed[0], allow_graceful=False)

    try:
        tally = read(cluster, crops, tmp_path / "out", load_slow, kill_once, num_workers=2)
    finally:
        if killed:
            cluster.add_node(num_cpus=1, **NODE)
    assert killed
    assert tally.num_images == 101
    assert rows_in(tmp_path / "out") == rows


@pytest.mark.parametrize(
    ("fatal", "reason", "names"),
    [
        (die, "its process was killed", [f"0050 {POISON}.png", f"0052 {POISON}.png"]),
        (take_more_than_allowed, "not enough memory", [f"0052 {POISON}.png"]),
    ],
)
def test_images_that_end_workers_are_rows_with_errors(
    cluster, tmp_path: Path, fatal: Callable[[], None], reason: str, names: list[str]
):
    crops = tmp_path / "crops"
    fill_folder(crops, 60)
    expected = rows_of_predict(crops, out=tmp_path / "rows.jsonl")
    for name in names:
        (crops / name).write_bytes(draw_png(999))
    tally = read(cluster, crops, tmp_path / "out", partial(load_poisoned, fatal))
    rows = rows_in(tmp_path / "out")
    errors = [row for row in rows if POISON in row["path"]]
    assert [row["path"] for row in errors] == [str(crops / name) for name in names]
    assert {row["error"] for row in errors} == {f"ended 2 workers: {reason}"}
    assert told_without(rows, POISON) == expected
    assert (tally.num_images, tally.num_errors) == (61 + len(names), 1 + len(names))


def test_workers_that_keep_dying_end_the_job_in_one_line(cluster, crops: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"5 workers died at .*0001.png to .*: give workers more"):
        read(cluster, crops, tmp_path / "out", die)  # pyright: ignore[reportArgumentType]


def test_the_memory_monitor_ends_workers_and_not_the_job(tmp_path: Path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    fill_folder(tmp_path / "crops", 20)
    expected = rows_of_predict(tmp_path / "crops", out=tmp_path / "rows.jsonl")
    (tmp_path / "crops" / f"9 {POISON}.png").write_bytes(draw_png(999))
    total, available = memory_of_machine()
    # At half of what is available now: other tests take some of it meanwhile, and with less
    # room their memory would end workers that take none.
    share = 1 - available / 2 / total
    settings = {"memory_usage_threshold": share, "memory_monitor_refresh_ms": 100}
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": settings, **NODE}
    )
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        load = partial(load_poisoned, take_all)
        read(made, tmp_path / "crops", tmp_path / "out", load)
    finally:
        ray.shutdown()
        made.shutdown()
    rows = rows_in(tmp_path / "out")
    assert told_without(rows, POISON) == expected
    (poison,) = (row for row in rows if POISON in row["path"])
    assert poison["error"] == "ended 2 workers: not enough memory"


def test_a_full_disk_ends_the_job_in_one_line_and_it_goes_on(
    cluster, crops: Path, rows: Any, tmp_path: Path, capsys
):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk wants the right to mount one")
    try:
        arguments = [str(crops), "--engine", "ray", "--address", cluster.address]
        arguments += ["--partition", "16", "--out", str(disk / "out")]
        assert predict.main(arguments) == 1
        told = capsys.readouterr().err
        assert told.count("\n") == 1, told
        assert "No space left on device: make room there, then give the same command" in told
        num_kept = len(list((disk / "out").glob("part-*.parquet")))
        assert 1 <= num_kept < 7
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        assert predict.main(arguments) == 1
        assert rows_in(disk / "out") == rows
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_killed_job_goes_on_and_reads_nothing_twice(cluster, tmp_path: Path):
    crops, out = tmp_path / "crops", tmp_path / "out"
    fill_folder(crops, 2000)
    arguments = [str(crops), "--engine", "ray", "--address", cluster.address]
    arguments += ["--partition", "64", "--out", str(out)]
    command = [sys.executable, "-m", "kkanji_jax.predict", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (out / PROGRESS).exists() or (out / PROGRESS).read_text().count("\n") < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    lines = [json.loads(line) for line in (out / PROGRESS).read_text().splitlines()]
    kept = {out / line["file"]: (out / line["file"]).stat().st_mtime_ns for line in lines}
    assert 3 <= len(kept) < 32
    assert predict.main(arguments) == 1
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert rows_in(out) == rows_of_predict(crops, out=tmp_path / "rows.jsonl")
    assert json.loads((out / MANIFEST).read_text())["num_images"] == 2001
