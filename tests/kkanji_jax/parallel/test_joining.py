"""Who runs with whom is read from the environment; who does not come is told to those who did."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kkanji_jax.parallel import joining
from kkanji_jax.parallel.joining import Place, call_roll, find_place

JAX = {
    "JAX_COORDINATOR_ADDRESS": "node001:8476",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
# What srun sets for the second of two tasks on each of two nodes, in a job of eight.
STEP = {
    "SLURM_JOB_ID": "4097",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "node[007-008]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
}


def test_the_environment_says_which_process_this_is() -> None:
    assert find_place({}) is None
    assert find_place(JAX) == Place("node001", 8476, 3, 4)
    assert find_place(STEP) == Place("node007", 61441, 1, 4, device_ids=(1,))
    alone = find_place(STEP | {"SLURM_STEP_NUM_TASKS": "2"})
    assert alone == Place("node007", 61441, 1, 2)  # on its node: it takes all devices
    named = find_place(STEP | {"JAX_LOCAL_DEVICE_IDS": "2, 3", "JAX_COORDINATOR_PORT": "99"})
    assert named == Place("node007", 99, 1, 4, device_ids=(2, 3))
    assert find_place(JAX | STEP) == find_place(JAX)
    assert find_place(JAX | {"JAX_COORDINATOR_ADDRESS": "[::1]:8476"}) == Place("::1", 8476, 3, 4)
    assert Place("::1", 8476, 3, 4).address == "[::1]:8476"


def test_a_shell_in_an_allocation_of_eight_tasks_is_one_process() -> None:
    assert find_place(STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None
    batch = {name: value for name, value in STEP.items() if "STEP" not in name}
    assert find_place(batch) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node001", "node001"),
        ("node001,other2", "node001"),
        ("node[001-015],other2", "node001"),
        ("node[001,007-015]", "node001"),
        ("a,node[001-002]", "a"),
    ],
)
def test_the_first_node_of_a_step_has_process_0(nodes: str, first: str) -> None:
    place = find_place(STEP | {"SLURM_STEP_NODELIST": nodes})
    assert place is not None and place.host == first


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("JAX_COORDINATOR_ADDRESS", "node001", "must be HOST:PORT"),
        ("JAX_COORDINATOR_ADDRESS", ":8476", "must be HOST:PORT"),
        ("JAX_COORDINATOR_ADDRESS", "node001:http", "must be HOST:PORT"),
        ("JAX_COORDINATOR_ADDRESS", "node001:65536", "must be HOST:PORT"),
        ("JAX_COORDINATOR_ADDRESS", "::1:8476", "must be HOST:PORT"),
        ("JAX_COORDINATOR_ADDRESS", "", "must be set too"),
        ("JAX_COORDINATOR_BIND_ADDRESS", "8476", "must be HOST:PORT"),
        ("JAX_NUM_PROCESSES", "two", "must be a whole number of at least 1, not 'two'"),
        ("JAX_NUM_PROCESSES", "0", "must be a whole number of at least 1, not '0'"),
        ("JAX_NUM_PROCESSES", "", "must be set too"),
        ("JAX_PROCESS_ID", "4", "must be one of 0 to 3, not '4'"),
        ("JAX_PROCESS_ID", "-1", "must be one of 0 to 3, not '-1'"),
        ("JAX_PROCESS_ID", "", "must be set too"),
        ("JAX_LOCAL_DEVICE_IDS", "0,a", "must be numbers"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"{name} {told}"):
        find_place(JAX | {name: value})


@pytest.mark.parametrize("name", ["SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"])
def test_a_wrong_variable_of_slurm_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*, not 'x'"):
        find_place(STEP | {name: "x"})


@pytest.mark.parametrize("value", ["soon", "0", "-3", "inf", "nan"])
def test_a_wrong_time_to_wait_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, each in JAX.items():
        monkeypatch.setenv(name, each)
    monkeypatch.setenv("KKANJI_JOIN_TIMEOUT_S", value)
    with pytest.raises(ValueError, match="KKANJI_JOIN_TIMEOUT_S must be seconds"):
        joining.join()


# --- the roll call: threads in the place of processes, real connections --------------------------


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    yield number
    # JAX must be able to listen there next, at once.
    socket.create_server(("", number)).close()


def come(port: int, *numbers: int, counts: dict[int, int] | None = None, timeout_s: float = 20.0):
    """What each of the processes is told, in order: None where all is well; the seconds it took."""
    told: list[str | None] = ["never came back"] * len(numbers)

    def work(row: int) -> None:
        number = numbers[row]
        place = Place("127.0.0.1", port, number, (counts or {}).get(number, 3))
        try:
            call_roll(place, timeout_s)
        except ValueError as err:
            told[row] = str(err)
        else:
            told[row] = None

    threads = [threading.Thread(target=work, args=(row,)) for row in range(len(numbers))]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told, time.monotonic() - began_s


def test_all_come_and_none_waits(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    told, took_s = come(port, 2, 0, 1)
    assert told == [None, None, None] and took_s < 15
    said = sorted(capsys.readouterr().err.splitlines())
    where = f"at 127.0.0.1:{port}, 20 s at most"
    assert said == [
        f"process 0 of 3 waits for processes 1, 2 {where}",
        f"process 1 of 3 waits for process 0 {where}",
        f"process 2 of 3 waits for process 0 {where}",
    ]


def test_the_others_may_come_first(port: int) -> None:
    later: list[Any] = []
    thread = threading.Thread(target=lambda: later.append(come(port, 1, 2)[0]))
    thread.start()
    time.sleep(1.0)
    assert come(port, 0)[0] == [None]
    thread.join()
    assert later == [[None, None]]


def test_whoever_comes_is_told_who_does_not(port: int) -> None:
    told, took_s = come(port, 0, 1, timeout_s=1.0)
    expected = (
        f"process 2 of 0 to 2 did not come to process 0 at 127.0.0.1:{port} within 1 s: see its"
    )
    assert all(each and each.startswith(expected) for each in told), told
    assert all(each and "KKANJI_JOIN_TIMEOUT_S" in each for each in told)
    assert 0.9 < took_s < 15


def test_without_process_0_the_others_say_so(port: int) -> None:
    told, _ = come(port, 1, 2, timeout_s=1.0)
    for number, each in zip((1, 2), told, strict=True):
        assert each and each.startswith(f"process {number} of 0 to 2 did not find process 0 at"), (
            each
        )
        assert "(Connection refused)" in each


def test_another_count_is_refused_in_all(port: int) -> None:
    told, _ = come(port, 0, 1, counts={0: 2, 1: 4})
    assert told[0] == told[1] and told[0] is not None
    assert "process 1 counts 4 processes, process 0 counts 2" in told[0]


def test_two_of_one_number_are_refused_in_all(port: int) -> None:
    told, _ = come(port, 0, 1, 1)
    assert set(told) == {
        "two processes say that they are number 1: give each its own JAX_PROCESS_ID"
    }


def test_one_that_was_restarted_takes_its_own_place(port: int) -> None:
    told: list[Any] = []
    thread = threading.Thread(target=lambda: told.append(come(port, 0)[0]))
    thread.start()
    with connected(port) as early:
        joining._send(early, {"from": "kkanji_jax", "number": 1, "count": 3})
        assert joining._receive(early, 10.0)["wait_s"] > 0
    assert come(port, 1, 2)[0] == [None, None]
    thread.join()
    assert told == [[None]]


@pytest.mark.parametrize("text", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"[1]\n", b"{}\n"])
def test_whoever_else_looks_at_the_port_is_passed_over(text: bytes, port: int) -> None:
    told: list[Any] = []
    thread = threading.Thread(target=lambda: told.append(come(port, 0)[0]))
    thread.start()
    with connected(port) as stranger:
        stranger.sendall(text)
        assert come(port, 1, 2)[0] == [None, None]
    thread.join()
    assert told == [[None]]


def test_another_program_at_the_port_is_told(port: int) -> None:
    with socket.create_server(("", port)) as server:
        threading.Thread(target=answer_once, args=(server,), daemon=True).start()
        told, _ = come(port, 0, timeout_s=1.0)
        assert told[0] and f"process 0 cannot listen at port {port}" in told[0]
        told, _ = come(port, 1, timeout_s=1.0)
        assert told[0] and "what listens there is not process 0 of this run" in told[0]


def connected(port: int) -> socket.socket:
    """A connection to process 0, once it listens."""
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port), 1.0)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise TimeoutError("process 0 does not listen")


def answer_once(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"220 ready\r\n")
        time.sleep(2.0)
