"""One trainer holds a workdir, and a signal is heard whatever the trainer is doing."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kkanji_jax.training import workdir as workdir_lib
from kkanji_jax.training.workdir import StopSignal, commit_of, environment, lock

# Deep in a C function that takes minutes, as compiling a network does; Python's handlers wait.
BUSY = """
import hashlib
from kkanji_jax.training.workdir import StopSignal
stop = StopSignal()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
"""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_at_once_even_inside_a_library(second: signal.Signals):
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None, "the first signal only asks"
    process.send_signal(second)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + second and errors == ""


def test_the_first_signal_is_received_and_the_handlers_before_come_back():
    before = {number: signal.getsignal(number) for number in StopSignal.NUMBERS}
    stop = StopSignal()
    assert stop.received is None
    signal.raise_signal(signal.SIGINT)
    assert stop.received is signal.SIGINT
    stop.close()
    assert {number: signal.getsignal(number) for number in StopSignal.NUMBERS} == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path):
    code = (
        "import sys, time, pathlib\nfrom kkanji_jax.training.workdir import lock\n"
        "held = lock(pathlib.Path(sys.argv[1]))\nprint('held', flush=True)\ntime.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"another trainer is running in {tmp_path}"):
        lock(tmp_path)
    holder.kill()
    holder.communicate()
    assert (tmp_path / "LOCK").exists()  # stale, and no hindrance
    lock(tmp_path).close()


GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of a package's folder, in no repository."""
    folder = tmp_path / "root" / "kkanji_jax"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    return folder


def commit_all(repository: Path) -> str:
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all", "--allow-empty"]):
        subprocess.run([*GIT, *words], cwd=repository, check=True)
    done = subprocess.run(
        [*GIT, "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_commit_is_that_of_the_checkout(package: Path):
    assert commit_of(package) is None
    commit = commit_all(package.parent)
    assert commit_of(package) == commit


def test_the_commit_of_a_repository_around_the_environment_is_not_taken(
    package: Path, monkeypatch: pytest.MonkeyPatch
):
    (package.parent.parent / ".gitignore").write_text("root\n")
    commit_all(package.parent.parent)
    assert commit_of(package) is None
    # Nor that of a repository whose root holds it by chance, untracked; nor that of GIT_DIR.
    commit_all(package.parent.parent)
    (package.parent / ".gitignore").write_text("*\n")
    commit_all(package.parent)
    assert commit_of(package) is None
    monkeypatch.setenv("GIT_DIR", str(package.parent.parent / ".git"))
    assert commit_of(package) is None


def test_the_commit_of_a_vendored_copy_is_not_that_of_its_repository(package: Path):
    commit_all(package.parent.parent)  # tracked, but not at its root
    assert commit_of(package) is None


@pytest.mark.parametrize("is_this", [True, False])
def test_the_commit_that_pip_installed_from_is_taken(is_this: bool, package: Path):
    site = package.parent if is_this else package.parent.parent / "other"
    info = site / "kkanji_jax-9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kkanji_jax\nVersion: 9\n")
    origin = {"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        assert commit_of(package) == ("abc" if is_this else None)


@pytest.mark.parametrize("git", ["none", "fails", "hangs", "is no program"])
def test_a_record_without_git_has_no_commit(
    git: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if git != "none":
        program = tmp_path / "git"
        body = {"fails": "#!/bin/sh\nexit 128\n", "hangs": "#!/bin/sh\nexec sleep 60\n"}
        program.write_text(body.get(git, "\0"))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if git == "hangs" else str(tmp_path))
    monkeypatch.setattr(workdir_lib, "_GIT_TIMEOUT_S", 0.2)
    record = environment(["cpu:0"])
    assert record["commit"] is None
    assert record["devices"] == ["cpu:0"] and record["versions"]["numpy"]
