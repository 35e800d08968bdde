"""The command that builds: what it prints, how it ends, and that it can be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_tools.build import main
from kkanji_jax.data.manifest import load_manifest

ROOT = Path(__file__).parents[2]


def run(*args: object) -> int:
    return main([str(arg) for arg in args])


def contents(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(dataset.iterdir())}


@pytest.fixture
def kanji(source: Any) -> Path:
    for codepoint, count in (("U+6625", 40), ("U+6765", 20), ("U+20B9F", 1)):
        source.add_kanji(codepoint, count)
    return source.folder


def test_the_printed_summary_agrees_with_the_dataset(
    kanji: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    assert run("--source", kanji, "--out", out, "--ratios", "60/20/20", "--workers", 1) == 0
    printed = capsys.readouterr().out
    splits = load_manifest(out)["splits"]
    assert "audit: 61 images found, 61 kept" in printed
    assert "audit: nothing to report" in printed
    for name, split in splits.items():
        line = f"{name}: {split['num_examples']} examples of {split['num_classes']} classes"
        assert line in printed
    assert "3 shards" in printed and str(out / "audit.json") in printed
    assert run("--source", kanji, "--out", out, "--ratios", "60/20/20") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_the_command_in_the_manifest_builds_the_same_again(kanji: Path, tmp_path: Path):
    first, again = tmp_path / "first", tmp_path / "again"
    args = ("--min-images", 2, "--ratios", "70/20/10", "--seed", 9, "--pool-official", "kmnist")
    assert run("--source", kanji, "--out", first, *args) == 0
    command = load_manifest(first)["command"].split()
    words = [{"DIR": kanji, "DATASET": again}.get(word, word) for word in command[3:]]
    assert command[:3] == ["python", "-m", "data_tools.build"]
    assert run(*words) == 0
    assert contents(first) == contents(again)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--source", "nowhere", "--out", "out"], "no folder nowhere"),
        (["--source", ".", "--out", "out"], "nothing to read in ."),
        (["--source", "{kanji}", "--out", "{kanji}"], "is not empty and is no dataset"),
        (["--source", "{kanji}", "--out", "a file"], "--out must be a folder, not the file a file"),
        (["--source", "{kanji}", "--out", "a file/out"], "Not a directory"),
        (["--source", "{kanji}", "--out", "out", "--ratios", "8/1/1"], "ratios must"),
        (
            ["--source", "{kanji}", "--out", "out", "--min-images", "0"],
            "--min-images must be at least 1, not 0",
        ),
        (["--source", "{kanji}", "--out", "out", "--min-images", "99"], "no class of"),
        (["--source", "{kanji}", "--out", "out", "--splits-from", "none.csv"], "no file none.csv"),
        (["--source", "{kanji}", "--out", "out", "--seed", "-1"], "seed"),
        (
            ["--source", "{kanji}", "--out", "out", "--engine", "host"],
            "--engine host varies copies that --per-class writes: give that too",
        ),
        (
            ["--source", "{kanji}", "--out", "out", "--address", "auto"],
            "--address is for --engine ray: leave it out",
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_written(
    kanji: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    reason: str,
):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    Path("a file").write_text("mine")
    assert run(*(arg.format(kanji=kanji) for arg in args)) == 1
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and errors[0] == lines[-1] and reason in errors[0]
    assert [path.name for path in work.iterdir()] == ["a file"]


@pytest.mark.parametrize(
    "args",
    [
        ["--source", "x"],
        ["--source", "x", "--out", "y", "--protocol", "dishonest"],
        ["--workers=two"],
    ],
)
def test_a_wrong_command_line_is_usage(args: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    assert "usage: python -m data_tools.build" in capsys.readouterr().err


def test_every_bad_file_has_a_line_before_the_error(
    source: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source.add_kanji("U+6625", 2)
    for number in range(5):
        source.add_file(f"kkanji2/U+6625/torn{number}.png", b"torn")
    source.add_file("kkanji2/6765/a.png", source.png(source.draw(1)))
    out = tmp_path / "out"
    assert run("--source", source.folder, "--out", out) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "reading" not in line]
    assert len(lines) == 7 and "did you mean U+6765" in lines[5]
    assert all(f"torn{number}.png: is no PNG" in lines[number] for number in range(5))
    assert lines[-1].startswith("error: cannot use 6 files or folders")
    assert not out.exists()
    assert run("--source", source.folder, "--out", out, "--skip-bad") == 0
    assert "1 wrong_name, 5 unreadable" in capsys.readouterr().out


# Killed in earnest, in a process of its own; small shards make a small build long enough.
SMALL_SHARDS = """
import sys
from data_tools import build
from data_tools.plan import shard_contents
shard_contents.CHUNK_SIZE, shard_contents.SHARD_EXAMPLES = 2, 4
sys.exit(build.main(sys.argv[1:]))
"""


def start(*args: object, code: str = SMALL_SHARDS) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_shards(out: Path, process: subprocess.Popen[str], count: int) -> None:
    deadline_s = time.monotonic() + 60
    while len(list(out.glob("*.array_record"))) < count:
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def wait_for_group(process: subprocess.Popen[str]) -> None:
    """Returns when no process of this one's group is left; fails if one stays."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("a worker outlived the build")


@pytest.fixture
def long_build(source: Any, tmp_path: Path) -> Iterator[list[object]]:
    """The arguments of a build of some hundred shards."""
    source.add_kanji("U+6625", 800)
    yield ["--source", source.folder, "--out", tmp_path / "out"]


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_goes_on_to_the_bytes_of_one_never_killed(
    long_build: list[object], tmp_path: Path, workers: int
):
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = start(*long_build, "--workers", workers)
    wait_for_shards(out, process, 3)
    process.kill()
    process.communicate()
    wait_for_group(process)
    assert (out / ".build").is_dir() and not (out / "manifest.json").exists()
    status, output, _ = finish(start(*long_build, "--workers", workers))
    assert status == 0 and "from before" in output
    assert finish(start(*long_build[:2], "--out", whole, "--workers", 1))[0] == 0
    assert contents(out) == contents(whole)
    assert len(contents(out)) > 100


def test_an_interrupted_build_says_how_to_go_on(long_build: list[object], tmp_path: Path):
    process = start(*long_build, "--workers", 2)
    wait_for_shards(tmp_path / "out", process, 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    status, _, errors = finish(process)
    assert status == 130
    assert errors.splitlines()[-1] == "stopped: the same command again goes on from here"
    assert "Traceback" not in errors
    wait_for_group(process)


def test_a_killed_worker_is_one_line_and_the_build_goes_on(
    long_build: list[object], tmp_path: Path
):
    process = start(*long_build, "--workers", 2)
    wait_for_shards(tmp_path / "out", process, 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        finish(process)
        pytest.skip("this system does not list the children of a process")
    for child in children.read_text().split():
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(int(child), signal.SIGKILL)
            break
    status, _, errors = finish(process)
    assert status == 1 and errors.splitlines()[-1].startswith("error: a worker was killed")
    assert finish(start(*long_build))[0] == 0


def test_a_disk_that_takes_no_more_leaves_no_dataset(long_build: list[object], tmp_path: Path):
    # A limit on file sizes stands in for a full disk: writing fails in the same calls.
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))\n"
    for workers in (1, 2):
        process = start(*long_build, "--workers", workers, code=limited + SMALL_SHARDS)
        status, _, errors = finish(process)
        assert status == 1, errors
        last = errors.splitlines()[-1]
        assert last.startswith("error: cannot write ") and ".array_record" in last
        assert not (tmp_path / "out" / "manifest.json").exists()
    assert finish(start(*long_build))[0] == 0
    load_manifest(tmp_path / "out")


def test_a_source_of_official_test_images_alone_is_refused_with_the_remedy(
    source: Any, tmp_path: Path, capsys
):
    source.add_small("kmnist-test", [0, 1, 2, 0, 1, 2])
    assert main(["--source", str(source.folder), "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert "--pool-official kmnist" in err and err.count("error: ") == 1
    assert not (tmp_path / "out" / "manifest.json").exists()
