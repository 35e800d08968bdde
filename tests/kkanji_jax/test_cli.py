"""Every command under each harm that can come to a process: no traceback, nothing lost, a remedy.

The light commands and one of this file's own run under each in the fast tests, the others in the
slow ones; that all of them end through `cli`, where the harms are met, is looked at in each.
"""

import errno
import json
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from kkanji_jax import cli
from kkanji_jax.files import WriteError

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300


# --- the commands ------------------------------------------------------------------------------


class Inputs(NamedTuple):
    """What the commands read."""

    source: Path
    dataset: Path
    run: Path  # a run that was evaluated
    mirror: Path  # of the archive that PATCHED_DOWNLOAD fetches
    image: Path


class Command(NamedTuple):
    """A command, and what it leaves when all is well."""

    module: str
    arguments: Callable[[Inputs, Path], list[object]]  # that make it write to a path
    product: Callable[[Path], Path]  # one file that is there when all is written
    is_light: bool = False
    is_told_by_product: bool = False  # standard output is its product, and may not be lost


# The archives that CODH publishes are large: one small file stands for them.
PATCHED_DOWNLOAD = """
from data_tools.fetch import sources
sources.ARCHIVES = (sources.Archive("k49/k49_classmap.csv", 6, None, None),)
from data_tools.download import run
run()
"""
# A command of three lines and a file, for what would take the others long.
OWN = """
import argparse, pathlib, sys, time
from kkanji_jax import cli
from kkanji_jax.files import write_json
def main():
    def work():
        for number in range(3):
            print("line", number, flush=True)
            print("progress", number, file=sys.stderr)
        write_json(pathlib.Path(sys.argv[1]) / "a.json", [0] * 100_000)
        print("done")
    return cli.answer(work)
cli.run(main)
"""
B0 = ROOT / "configs" / "b0.py"
COMMANDS = {
    "own": Command("", lambda i, out: [out], lambda out: out / "a.json", True),
    "build": Command(
        "data_tools.build",
        lambda i, out: ["--source", i.source, "--out", out, "--workers", 1],
        lambda out: out / "manifest.json",
        True,
    ),
    "download": Command(
        "data_tools.download",
        lambda i, out: ["--dest", out, "--only", "k49", "--base-url", i.mirror.as_uri()],
        lambda out: out / "k49_classmap.csv",
        True,
    ),
    "inspect": Command(
        "data_tools.inspect",
        lambda i, out: [i.dataset, "--sheet", out / "sheet.png", "--audit", out / "audit.html"],
        lambda out: out / "sheet.png",
        is_told_by_product=True,
    ),
    "verify": Command("data_tools.verify", lambda i, out: [i.dataset], lambda out: ROOT, True),
    "train": Command(
        "kkanji_jax.train",
        lambda i, out: [
            "--config",
            f"{B0}:smoke",
            "--workdir",
            out,
            f"--config.data.dataset={i.dataset}",
            "--config.batch_size=16",
            "--config.epochs=2.0",
            "--config.log_every_steps=1",
            "--config.model.image_px=16",
        ],
        lambda out: out / "checkpoints",
    ),
    "evaluate": Command(
        "kkanji_jax.evaluate",
        lambda i, out: ["--model", i.run, "--dataset", i.dataset, "--out", out],
        lambda out: out / "eval.json",
    ),
    "plots": Command(
        "kkanji_jax.plots",
        lambda i, out: ["--model", i.run, "--out", out],
        lambda out: out / "risk_coverage_test.png",
    ),
    "report": Command(
        "kkanji_jax.report",
        lambda i, out: ["--model", i.run, "--out", out / "report.html"],
        lambda out: out / "report.html",
    ),
    "export": Command(
        "kkanji_jax.export",
        lambda i, out: ["--model", i.run, "--out", out, "--onnx", "--web"],
        lambda out: out / "SHA256SUMS",
    ),
    "predict": Command(
        "kkanji_jax.predict",
        lambda i, out: [i.image, "--model", i.run, "--out", out / "readings.csv"],
        lambda out: out / "readings.csv",
    ),
}
EVERY = [
    pytest.param(name, marks=() if command.is_light else pytest.mark.slow)
    for name, command in COMMANDS.items()
]
WRITING = [each for each in EVERY if each.values[0] != "verify"]


@pytest.fixture(scope="module")
def inputs(
    tiny_source: Path,
    tiny_dataset: Path,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "mirror" / "k49").mkdir(parents=True)
    (folder / "mirror" / "k49" / "k49_classmap.csv").write_text("a,b,c\n")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(folder / "one.png")
    is_slow_run = "not slow" not in (request.config.getoption("-m", default="") or "")
    run = request.getfixturevalue("evaluated_run") if is_slow_run else folder
    return Inputs(tiny_source, tiny_dataset, run, folder / "mirror", folder / "one.png")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return os.environ | {
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("xla")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(ROOT),
    }


def line_of(name: str, inputs: Inputs, out: Path) -> list[str]:
    """The command line that makes a command write to `out`."""
    command = COMMANDS[name]
    code = {"own": ["-c", OWN], "download": ["-c", PATCHED_DOWNLOAD]}
    start = [sys.executable, *code.get(name, ["-m", command.module])]
    return [*start, *map(str, command.arguments(inputs, out))]


class Ended(NamedTuple):
    """How a process ended; `errors` what it said on stderr, where that was heard."""

    status: int
    errors: str = ""


def assert_one_line(ended: Ended) -> None:
    """It failed with one line on stderr that is no traceback, after whatever it told before."""
    assert ended.status == 1, ended
    assert_no_traceback(ended)
    assert ended.errors.rstrip("\n").splitlines()[-1].startswith("error: "), ended.errors
    assert ended.errors.count("error: ") == 1, ended.errors


def assert_no_traceback(ended: Ended) -> None:
    for words in ("Traceback", "Exception ignored", "BrokenPipe", "Errno"):
        assert words not in ended.errors, ended.errors


def assert_sound(name: str, out: Path) -> None:
    """What the command wrote is there, and holds nothing that was meant for a person to read."""
    assert COMMANDS[name].product(out).exists(), sorted(out.rglob("*"))
    for path in out.rglob("*.json") if out.is_dir() else ():
        json.loads(path.read_text(encoding="utf-8"))
    for path in out.rglob("*.jsonl") if out.is_dir() else ():
        for line in path.read_text(encoding="utf-8").splitlines():
            json.loads(line)


# --- the harms ---------------------------------------------------------------------------------


def closed_streams(line: list[str], environment: dict[str, str]) -> Ended:
    """`<&- >&- 2>&-`."""
    shell = ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", *line]
    return Ended(subprocess.run(shell, env=environment, timeout=TIMEOUT_S).returncode)


def closed_errors(line: list[str], environment: dict[str, str]) -> Ended:
    """`2>&-`, with standard output into a file, as a batch system has it."""
    shell = ["bash", "-c", 'exec "$@" 2>&-', "bash", *line]
    done = subprocess.run(
        shell, env=environment, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S
    )
    assert "progress" not in done.stdout and "compiling" not in done.stdout, "stderr went to stdout"
    return Ended(done.returncode)


def no_reader(line: list[str], environment: dict[str, str]) -> Ended:
    """Both go to a pipe that nobody reads, as after a lost connection."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(line, env=environment, stdout=write, stderr=write, timeout=TIMEOUT_S)
    finally:
        os.close(write)
    return Ended(done.returncode)


def full_log(line: list[str], environment: dict[str, str]) -> Ended:
    """Both go to a disk that is full; what is written does not."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(line, env=environment, stdout=full, stderr=full, timeout=TIMEOUT_S)
    return Ended(done.returncode)


def head(line: list[str], environment: dict[str, str]) -> Ended:
    """`| head -1`."""
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    with process.stderr as stderr:
        process.stdout.readline()
        process.stdout.close()
        errors = stderr.read()
    return Ended(process.wait(TIMEOUT_S), errors)


def heard(line: list[str], environment: dict[str, str]) -> Ended:
    """Nothing is wrong with the streams."""
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S
    )
    return Ended(done.returncode, done.stderr)


HARMS: dict[str, tuple[Callable[[list[str], dict[str, str]], Ended], dict[bool, tuple[int, ...]]]]
# The statuses that are right: of a command, and of one whose product is its standard output.
HARMS = {
    "closed streams": (closed_streams, {False: (0,), True: (0,)}),
    "closed stderr": (closed_errors, {False: (0,), True: (0,)}),
    "no reader": (no_reader, {False: (0,), True: (0, 1)}),
    "a full log": (full_log, {False: (0, 1), True: (0, 1)}),
    "head": (head, {False: (0,), True: (0, 1)}),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", EVERY)
def test_a_stream_that_is_closed_full_or_unread_loses_no_work(
    name: str, harm: str, inputs: Inputs, environment: dict[str, str], tmp_path: Path
):
    run, statuses = HARMS[harm]
    ended = run(line_of(name, inputs, tmp_path / "out"), environment)
    assert ended.status in statuses[COMMANDS[name].is_told_by_product], ended
    assert_no_traceback(ended)
    assert_sound(name, tmp_path / "out")


@pytest.mark.parametrize("name", WRITING)
def test_a_missing_folder_is_created(
    name: str, inputs: Inputs, environment: dict[str, str], tmp_path: Path
):
    out = tmp_path / "a" / "b [1]" / "春"
    ended = heard(line_of(name, inputs, out), environment)
    assert ended.status == 0, ended
    assert_sound(name, out)


@pytest.mark.parametrize("name", WRITING)
def test_a_path_that_is_not_utf8_works_or_is_refused_by_name(
    name: str, inputs: Inputs, environment: dict[str, str], tmp_path: Path
):
    out = tmp_path / os.fsdecode(b"caf\xe9")
    ended = heard(line_of(name, inputs, out), environment)
    assert_no_traceback(ended)
    if ended.status == 0:
        assert COMMANDS[name].product(out).exists()
    else:
        assert_one_line(ended)
        assert r"caf\udce9" in ended.errors and "not UTF-8" in ended.errors, ended.errors


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk_names_the_file(
    name: str,
    inputs: Inputs,
    environment: dict[str, str],
    mount: Callable[[str], Path],
):
    disk = mount("size=16m")
    out = disk / "out"
    filler = os.open(disk / "filler", os.O_CREAT | os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        while True:
            os.write(filler, bytes(4096))
    os.close(filler)
    ended = heard(line_of(name, inputs, out), environment)
    assert_one_line(ended)
    last = ended.errors.splitlines()[-1]
    assert str(disk) in last and ("make room" in last), last


@pytest.mark.parametrize("name", WRITING)
def test_a_file_where_a_folder_should_be_is_one_line(
    name: str, inputs: Inputs, environment: dict[str, str], tmp_path: Path
):
    (tmp_path / "file").write_text("mine")
    ended = heard(line_of(name, inputs, tmp_path / "file" / "out"), environment)
    assert_one_line(ended)
    assert str(tmp_path / "file") in ended.errors
    assert (tmp_path / "file").read_text() == "mine"


# --- what is the same in all -------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "own"])
def test_a_command_tells_its_version_and_one_example_and_knows_its_name(name: str):
    module = COMMANDS[name].module
    script = f"import sys; sys.argv[0] = '/x/kkanji-{name}'; from {module} import run; run()"
    if module in ("kkanji_jax.plots", "kkanji_jax.export"):
        script = script.replace(module, f"{module}.__main__")
    asked = {
        flag: subprocess.run(
            [sys.executable, "-c", script, flag], cwd=ROOT, capture_output=True, text=True
        )
        for flag in ("--version", "--help")
    }
    assert asked["--version"].stdout == f"{cli.version()}\n" and not asked["--version"].returncode
    told = asked["--help"].stdout
    assert asked["--help"].returncode == 0 and asked["--help"].stderr == ""
    assert told.startswith(f"usage: kkanji-{name} ")
    assert told.count("example:\n") == 1
    assert told.split("example:\n")[1].startswith(f"  kkanji-{name} ")
    assert max(map(len, told.splitlines())) < 120


def test_help_tells_every_default_and_choice():
    parser = cli.make_parser("x.y", "Does.", "--a 1")
    parser.add_argument("--count", type=int, default=7, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="where it begins")
    parser.add_argument("--quick", action="store_true", help="by half")
    parser.add_argument("--name", default="n", help="whose (default: yours)")
    parser.add_argument("--kind", choices=["red", "blue"], help="which")
    told = parser.format_help()
    assert "how many (default: 7)" in told and "{red,blue}" in told
    assert "where it begins (default: 0)" in told
    assert told.count("default") == 3


# --- how a failure is told ---------------------------------------------------------------------

FAILURES = {
    "no file": (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), "a.csv: No such file"),
    "full": (
        WriteError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.csv"),
        "cannot write a.csv: No space left on device: make room there, then give the same "
        "command again",
    ),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "a"), "a: Disk quota exceeded: make"),
    "permission": (
        PermissionError(errno.EACCES, "Permission denied", b"a"),
        "a: Permission denied: change its permissions, or name another place",
    ),
    "file": (FileExistsError(errno.EEXIST, "File exists", "a"), "a: File exists: name another"),
    "below a file": (
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
        "a/b: Not a directory: name another place",
    ),
    "lines": (ValueError("one\n  two"), "one two"),
    "empty": (ValueError(), "ValueError"),
    "memory": (MemoryError(), "there is not enough memory"),
    "key": (KeyError("top1"), "'top1' is missing in what was read"),
    "loss": (FloatingPointError("the loss is nan"), "the loss is nan"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_line_with_file_and_remedy(name: str, capsys: pytest.CaptureFixture[str]):
    error, expected = FAILURES[name]

    def work() -> None:
        raise error

    assert cli.answer(work) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {expected}") and told.count("\n") == 1


def test_a_traceback_is_there_for_who_asks_for_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KKANJI_TRACEBACK", "1")

    def work() -> None:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        cli.answer(work)


def test_a_mistake_of_this_project_is_not_hidden():
    def work() -> None:
        raise TypeError("ours")

    with pytest.raises(TypeError):
        cli.answer(work)


def test_ctrl_c_is_a_line_and_130(capsys: pytest.CaptureFixture[str]):
    def work() -> None:
        raise KeyboardInterrupt

    assert cli.answer(work, interrupted="stopped: go on") == 130
    assert capsys.readouterr().err == "stopped: go on\n"


def test_ctrl_c_ends_a_process_with_one_line(environment: dict[str, str]):
    code = (
        "import sys, time\nfrom kkanji_jax import cli\n"
        "def work():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "cli.run(lambda: cli.answer(work))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted\n")


@pytest.mark.parametrize("raised", ["ValueError('bad')", "KeyboardInterrupt"])
def test_a_failure_keeps_its_status_where_what_was_printed_cannot_be_written(
    raised: str, environment: dict[str, str]
):
    code = f"""
from kkanji_jax import cli
def work():
    print("a line that is still in the buffer")
    raise {raised}
cli.run(lambda: cli.answer(work), is_product=True)
"""
    environment = {k: v for k, v in environment.items() if k != "PYTHONUNBUFFERED"}
    expected = 130 if raised == "KeyboardInterrupt" else 1
    assert full_log([sys.executable, "-c", code], environment) == Ended(expected)


def test_a_full_standard_output_is_told_at_the_end(environment: dict[str, str], tmp_path: Path):
    line = [sys.executable, "-c", OWN, str(tmp_path)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            line, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1 and (tmp_path / "a.json").exists()
    assert "error: standard output: No space left on device: make room" in done.stderr


# --- progress ----------------------------------------------------------------------------------

WORK = """
import time
from kkanji_jax import cli
def main():
    def work():
        with cli.Progress() as report:
            report("reading", 500, 1000)
            for done in range(500, 1001, 100):
                time.sleep(0.12)
                report("reading", done, 1000)
            report("writing", 0, None)
            report("writing", 5, None)
    return cli.answer(work)
cli.run(main)
"""


def test_progress_is_shown_on_a_terminal(environment: dict[str, str]):
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    process = subprocess.Popen([sys.executable, "-c", WORK], env=environment, stderr=slave)
    os.close(slave)
    told = b""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if select.select([master], [], [], 0.1)[0]:
            try:
                piece = os.read(master, 4096)
            except OSError:  # the terminal's other end is closed
                break
            told += piece
    assert process.wait(60) == 0
    os.close(master)
    text = told.decode()
    assert "reading: 100%" in text and "1.00k/1.00k" in text and "writing: 5.00" in text, text


def test_progress_is_silent_without_a_terminal(environment: dict[str, str]):
    done = subprocess.run(
        [sys.executable, "-c", WORK], env=environment, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_time_left_does_not_count_what_was_there_before(monkeypatch: pytest.MonkeyPatch):
    shown: list[Any] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = cli.Progress()
    progress("writing", 500, 1000)
    shown.append(progress._bar)
    progress("writing", 600, 1000)
    assert (shown[0].initial, shown[0].n, shown[0].total) == (500, 600, 1000)
    progress("writing", 1000, 1000)
    assert progress._bar is None


def test_a_terminal_that_is_gone_does_not_stop_the_work(
    environment: dict[str, str], tmp_path: Path
):
    master, slave = os.openpty()
    code = OWN.replace('print("line"', 'time.sleep(0.3); print("line"')
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=slave, stderr=slave
    )
    os.close(slave)
    threading.Timer(0.1, os.close, [master]).start()
    assert process.wait(60) == 0
    assert (tmp_path / "a.json").exists()
