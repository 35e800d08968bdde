"""One trainer holds a workdir, and a signal is heard whatever the trainer is doing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kkanji_jax.training.workdir import StopSignal, lock

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
