"""One process holds a lock, with flock or on a file system that has none."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kkanji_jax import locks
from kkanji_jax.locks import HeldError, Holder, hold, hold_or_refuse

# A process that holds a lock until it is killed; told to, without flock.
HOLD = """
import errno, fcntl, os, pathlib, sys, time
def no_flock(*_):
    raise OSError(int(sys.argv[2]), os.strerror(int(sys.argv[2])))
if sys.argv[2] != "0":
    fcntl.flock = no_flock
from kkanji_jax.locks import hold
held = hold(pathlib.Path(sys.argv[1]), shared=sys.argv[3] == "shared")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=[0, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK], ids=str)
def failure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """With each of these numbers but 0, this process has no flock either."""
    number = request.param
    if number:

        def no_flock(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", no_flock)
    return number


@pytest.fixture
def start(failure: int):
    started = []

    def call(path: Path, kind: str = "alone") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(path), str(failure), kind]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout and process.stdout.readline() == "held\n"
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_second_process_is_refused_until_the_first_is_killed(
    is_folder: bool, start: Start, failure: int, tmp_path: Path
):
    path = tmp_path if is_folder else tmp_path / "lock"
    process = start(path)
    with pytest.raises(HeldError) as refused:
        hold(path)
    if failure:
        assert f"process {process.pid} on " in str(refused.value)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold(path), pytest.raises(HeldError):
        hold(path)
    hold(path).close()
    assert [each.name for each in tmp_path.iterdir()] in ([], ["lock"])


def test_a_refusal_says_who_holds_the_lock_if_that_is_known(
    start: Start, failure: int, tmp_path: Path
):
    path = tmp_path / "lock"
    process = start(path)
    with pytest.raises(ValueError) as refused:
        hold_or_refuse(path, "another process is at it", remedy="wait, or go elsewhere")
    told = str(refused.value)
    assert told.startswith("another process is at it") and told.endswith(": wait, or go elsewhere")
    # With flock the kernel frees it; a file may stay, and then a person must know which.
    named = f" (process {process.pid} on "
    assert (named in told and f"remove {tmp_path / '.lock.held'}" in told) == bool(failure), told


def test_those_that_share_a_lock_hold_it_together_and_nobody_alone(
    start: Start, failure: int, tmp_path: Path
):
    path = tmp_path / "lock"
    process = start(path, "shared")
    with hold(path, shared=True), pytest.raises(HeldError):
        hold(path)
    with pytest.raises(HeldError):
        hold(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold(path), pytest.raises(HeldError):
        hold(path, shared=True)


def test_a_lock_that_is_waited_for_comes_when_its_holder_ends(
    start: Start, failure: int, tmp_path: Path
):
    process = start(tmp_path / "lock")
    os.kill(process.pid, signal.SIGKILL)
    with hold(tmp_path / "lock", wait=True), pytest.raises(HeldError):
        hold(tmp_path / "lock")


def test_without_flock_a_warning_says_so_once(
    failure: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for _ in range(2):
        hold(tmp_path / "lock").close()
    told = capsys.readouterr().err
    assert told.count("warning: ") == bool(failure)
    assert f"the file system of {tmp_path} has no flock" in told or not failure


@pytest.mark.parametrize("failure", [errno.ENOSYS], indirect=True)
@pytest.mark.parametrize(
    ("change", "is_stale"),
    [
        ({}, False),
        # Nobody here can know of another kernel's or container's, whatever its host is called.
        ({"host": "another", "boot": "another", "process": 2**22 + 1}, False),
        ({"boot": "another", "process": 2**22 + 1}, False),
        ({"boot": "", "process": 2**22 + 1}, False),
        ({"started": "1"}, True),  # a later process has its number
        ({"process": 2**22 + 1}, True),  # beyond the largest number that Linux gives
    ],
)
def test_only_a_holder_that_is_known_to_have_ended_is_stale(
    failure: int, change: dict[str, object], is_stale: bool, tmp_path: Path
):
    holder = Holder.here()._replace(**change)  # pyright: ignore[reportArgumentType]
    (tmp_path / ".lock.held").write_text(json.dumps(holder._asdict()))
    if is_stale:
        hold(tmp_path / "lock").close()
        assert [each.name for each in tmp_path.iterdir()] == ["lock"]
    else:
        with pytest.raises(HeldError, match=f"if that has ended, remove {tmp_path}/.lock.held"):
            hold(tmp_path / "lock")
        assert (tmp_path / ".lock.held").exists()


@pytest.mark.parametrize("failure", [errno.ENOSYS], indirect=True)
def test_a_lock_that_another_has_taken_over_meanwhile_is_given_back(
    failure: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / ".lock.held"
    path.write_text(json.dumps(Holder.here()._replace(started="1")._asdict()))
    alive = json.dumps(Holder.here()._asdict())

    class Quicker(Holder):
        def has_ended(self) -> bool:
            path.write_text(alive)  # by the other, between our look and our taking
            return True

    monkeypatch.setattr(locks, "Holder", Quicker)
    with pytest.raises(HeldError):
        hold(tmp_path / "lock")
    assert path.read_text() == alive


@pytest.mark.parametrize("failure", [errno.ENOSYS], indirect=True)
def test_a_file_that_tells_of_nobody_is_not_removed(failure: int, tmp_path: Path):
    (tmp_path / ".lock.held").write_bytes(b"")  # its creator was killed in that moment
    with pytest.raises(HeldError, match=r"\.lock\.held tells of no process: remove it if no other"):
        hold(tmp_path / "lock")
    assert (tmp_path / ".lock.held").exists()


def test_another_failure_of_flock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"):
        hold(tmp_path / "lock")
