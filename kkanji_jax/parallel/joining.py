"""How the processes of a run find each other: the environment, a roll call, then JAX.

If a process does not come, JAX ends the others from C++, without an exception that could be
reported. So the processes first report their numbers to the address that JAX will use, and only
then start JAX.
"""

import contextlib
import json
import math
import os
import socket
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax

TIMEOUT_NAME = "KKANJI_JOIN_TIMEOUT_S"
TIMEOUT_S = 180.0
_SHUTDOWN_TIMEOUT_S = 120  # between the first process that is done and the last
_PATIENCE_S = 3.0  # with one connection that says nothing; others wait behind it
_RETRY_S = 0.3
_LINE_BYTES = 4096
_GREETING = "kkanji_jax"


@dataclass(frozen=True)
class Place:
    """Which process of a run this one is, and the address of process 0."""

    host: str
    port: int
    number: int  # 0 to count - 1
    count: int
    device_ids: tuple[int, ...] | None = None  # of this machine; None: all of them
    bind: tuple[str, int] | None = None  # where process 0 listens, if not at `port` of everywhere

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def others(self) -> set[int]:
        return set(range(self.count)) - {self.number}


def join() -> None:
    """Joins the processes of a run, if the environment describes more than one.

    `find_place` says what describes them. Waits at most KKANJI_JOIN_TIMEOUT_S seconds (180), and
    says for which processes. Must be called before anything else touches a device; a second call
    does nothing. ValueError if a variable is wrong, or if not all processes come: each that did
    come is told which are missing.
    """
    # It would take SIGTERM, and keep it, until the trainer listens.
    jax.config.update("jax_enable_preemption_service", False)
    place = find_place(os.environ)
    if place is None or jax.distributed.is_initialized():
        return
    timeout_s = _timeout_s(os.environ)
    if place.others:
        call_roll(place, timeout_s)
    try:
        jax.distributed.initialize(
            place.address,
            place.count,
            place.number,
            local_device_ids=place.device_ids,
            cluster_detection_method="deactivate",  # it has been detected
            initialization_timeout=math.ceil(timeout_s),
            shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT_S,
        )
    except RuntimeError as err:
        raise ValueError(
            f"process {place.number} cannot join the others at {place.address}: "
            f"{' '.join(str(err).split())[:300]}"
        ) from err


# --- what the environment says -----------------------------------------------------------------


def find_place(environment: Mapping[str, str]) -> Place | None:
    """The place that the environment gives this process; None if it runs alone.

    It is stated by JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID; else by the variables that srun sets for each task of a step. (Those of the job
    do not count: a shell in an allocation of eight tasks is one process.) A process takes all
    devices of its machine, unless SLURM has several tasks there, each with the device of its
    number, or JAX_LOCAL_DEVICE_IDS names some. ValueError names the variable that is missing or
    wrong.
    """
    set_names = [
        name
        for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        if environment.get(name)
    ]
    if set_names:
        return _place_by_jax(environment, set_names)
    if environment.get("SLURM_PROCID") and environment.get("SLURM_STEP_NODELIST"):
        return _place_by_slurm(environment)
    return None


def _place_by_jax(environment: Mapping[str, str], set_names: list[str]) -> Place:
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        if name not in set_names:
            raise ValueError(f"{set_names[0]} is set, so {name} must be set too")
    host, port = _host_and_port(environment, "JAX_COORDINATOR_ADDRESS")
    count = _whole_number(environment, "JAX_NUM_PROCESSES", low=1)
    return Place(
        host=host,
        port=port,
        number=_whole_number(environment, "JAX_PROCESS_ID", high=count - 1),
        count=count,
        device_ids=_device_ids(environment),
        bind=_bind(environment),
    )


def _place_by_slurm(environment: Mapping[str, str]) -> Place | None:
    if not environment.get("SLURM_STEP_NUM_TASKS"):
        return None
    count = _whole_number(environment, "SLURM_STEP_NUM_TASKS", low=1)
    if count == 1:
        return None
    if environment.get("JAX_COORDINATOR_PORT"):
        port = _whole_number(environment, "JAX_COORDINATOR_PORT", low=1, high=65535)
    else:  # as JAX has it: jobs of one node seldom meet
        port = 65535 - 2**12 + 1 + _whole_number(environment, "SLURM_JOB_ID") % 2**12
    device_ids = _device_ids(environment)
    is_alone_on_its_node = environment.get("SLURM_STEP_NUM_NODES") == str(count)
    if device_ids is None and not is_alone_on_its_node:
        device_ids = (_whole_number(environment, "SLURM_LOCALID"),)
    return Place(
        host=_first_node(environment["SLURM_STEP_NODELIST"]),
        port=port,
        number=_whole_number(environment, "SLURM_PROCID", high=count - 1),
        count=count,
        device_ids=device_ids,
        bind=_bind(environment),
    )


def _first_node(nodes: str) -> str:
    """`node001` of `node001`, `node001,other`, `node[001-015],other` and `node[001,007]`."""
    head, bracket, rest = nodes.partition("[")
    if not bracket or "," in head:
        return head.partition(",")[0]
    return head + rest.partition("]")[0].partition(",")[0].partition("-")[0]


def _whole_number(
    environment: Mapping[str, str], name: str, *, low: int = 0, high: int | None = None
) -> int:
    text = environment.get(name, "")
    expected = f"a whole number of at least {low}" if high is None else f"one of {low} to {high}"
    if not text.strip().isdecimal() or int(text) < low or (high is not None and int(text) > high):
        raise ValueError(f"{name} must be {expected}, not {text!r}")
    return int(text)


def _host_and_port(environment: Mapping[str, str], name: str) -> tuple[str, int]:
    text = environment[name]
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    is_port = port.isdecimal() and 0 < int(port) < 65536
    if not (colon and host and is_port) or (":" in host and not is_bracketed):
        raise ValueError(f"{name} must be HOST:PORT, as node001:8476 or [::1]:8476, not {text!r}")
    return host.strip("[]"), int(port)


def _bind(environment: Mapping[str, str]) -> tuple[str, int] | None:
    name = "JAX_COORDINATOR_BIND_ADDRESS"
    return _host_and_port(environment, name) if environment.get(name) else None


def _device_ids(environment: Mapping[str, str]) -> tuple[int, ...] | None:
    text = environment.get("JAX_LOCAL_DEVICE_IDS", "")
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"JAX_LOCAL_DEVICE_IDS must be numbers, as 0,1, not {text!r}")
    return tuple(map(int, parts))


def _timeout_s(environment: Mapping[str, str]) -> float:
    text = environment.get(TIMEOUT_NAME, "")
    if not text:
        return TIMEOUT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise ValueError(f"{TIMEOUT_NAME} must be seconds, up to 86400, not {text!r}")
    return seconds


# --- the roll call -----------------------------------------------------------------------------


def call_roll(place: Place, timeout_s: float) -> None:
    """Returns once all processes of the run have connected to the address of process 0.

    Otherwise ValueError in each process that came. It names the processes that did not come within
    `timeout_s`, or what is wrong: a number that two processes have, another count of processes, an
    address that cannot be used.
    """
    whom = named(place.others) if place.number == 0 else "process 0"
    print(
        f"process {place.number} of {place.count} waits for {whom} at {place.address}, "
        f"{timeout_s:g} s at most",
        file=sys.stderr,
        flush=True,
    )
    if place.number == 0:
        _await_others(place, timeout_s)
    else:
        _come_to_first(place, timeout_s)


def _await_others(place: Place, timeout_s: float) -> None:
    """Process 0's part: waits for a report of each other process, then answers all of them."""
    until = time.monotonic() + timeout_s
    with contextlib.ExitStack() as held:
        server = held.enter_context(_listen(place))
        come: dict[int, socket.socket] = {}
        heard: list[socket.socket] = []  # all of them, also those that came twice
        wrong = None
        while len(come) < place.count - 1 and wrong is None:
            server.settimeout(max(until - time.monotonic(), 1e-3))
            try:
                connection = held.enter_context(server.accept()[0])
            except TimeoutError:
                missing = place.others - come.keys()
                wrong = (
                    f"{named(missing)} of 0 to {place.count - 1} did not come to process 0 at "
                    f"{place.address} within {timeout_s:g} s: {_remedy(missing)}"
                )
                break
            said = _receive(connection, _PATIENCE_S)
            if said.get("from") != _GREETING:
                continue  # somebody else, who looks what is at this port
            wrong = _misfit(said, place, come)
            come[said["number"]] = connection
            heard.append(connection)
            _send(connection, {"from": _GREETING, "wait_s": max(until - time.monotonic(), 0.0)})
        server.close()  # JAX listens there next
        for connection in heard:
            _send(connection, {"wrong": wrong})
        for connection in heard:  # the others close first: the port is free then
            _receive(connection, 1.0)
    if wrong is not None:
        raise ValueError(wrong)


def _misfit(said: Mapping[str, Any], place: Place, come: Mapping[int, socket.socket]) -> str | None:
    """What is wrong with the report of another process."""
    number, count = said["number"], said["count"]
    if count != place.count:
        return (
            f"process {number} counts {count} processes, process 0 counts {place.count}: give all "
            "of them the same number, and each run an address of its own"
        )
    if number in come and not _has_left(come[number]):
        return f"two processes say that they are number {number}: give each its own JAX_PROCESS_ID"
    return None


def _come_to_first(place: Place, timeout_s: float) -> None:
    """The part of all other processes: reports to process 0, and receives its answer."""
    until = time.monotonic() + timeout_s
    problem = "nothing listens there"
    while (left_s := until - time.monotonic()) > 0:
        try:
            with socket.create_connection((place.host, place.port), min(left_s, 10.0)) as server:
                me = {"from": _GREETING, "number": place.number, "count": place.count}
                _send(server, me)
                heard = _receive(server, max(min(left_s, 10 * _PATIENCE_S), 0.1))
                if heard.get("from") == _GREETING:
                    verdict = _receive(server, heard["wait_s"] + 10 * _PATIENCE_S)
                    if "wrong" not in verdict:
                        raise ValueError(
                            f"process 0 at {place.address} ended while it waited for the others: "
                            "see what it says"
                        )
                    if verdict["wrong"] is not None:
                        raise ValueError(verdict["wrong"])
                    return
                problem = "what listens there is not process 0 of this run"
        except OSError as err:  # it has not started yet; its name may not be known yet either
            problem = err.strerror or str(err)
        time.sleep(_RETRY_S)
    raise ValueError(
        f"process {place.number} of 0 to {place.count - 1} did not find process 0 at "
        f"{place.address} within {timeout_s:g} s ({problem}): {_remedy({0})}"
    )


def _listen(place: Place) -> socket.socket:
    host, port = place.bind or ("", place.port)
    is_v6 = ":" in host or (not host and socket.has_dualstack_ipv6())
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            dualstack_ipv6=is_v6 and not host,
            backlog=max(place.count, 16),
        )
    except OSError as err:
        raise ValueError(
            f"process 0 cannot listen at port {port} for the others ({err.strerror or err}): is "
            "another run there? Give this one another port (JAX_COORDINATOR_ADDRESS, under SLURM "
            "JAX_COORDINATOR_PORT)"
        ) from err


def _send(connection: socket.socket, message: Mapping[str, object]) -> None:
    """Sends one line. If the other side has gone, this is noticed when no answer comes."""
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(connection: socket.socket, patience_s: float) -> dict[str, Any]:
    """The next line; empty if none comes in time, or if it is not in this protocol."""
    text = b""
    until = time.monotonic() + patience_s
    try:
        while not text.endswith(b"\n") and len(text) < _LINE_BYTES:
            connection.settimeout(max(until - time.monotonic(), 1e-3))
            byte = connection.recv(1)
            if not byte:
                break
            text += byte
        message = json.loads(text)
    except (OSError, ValueError):
        return {}
    return message if isinstance(message, dict) else {}


def _has_left(connection: socket.socket) -> bool:
    connection.settimeout(0.0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def named(numbers: Collection[int]) -> str:
    """`process 3`, `processes 1, 2`; of more than eight, the first eight and how many more."""
    first = ", ".join(map(str, sorted(numbers)[:8]))
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"process{'es' if len(numbers) > 1 else ''} {first}{more}"


def _remedy(missing: Collection[int]) -> str:
    its = "their" if len(missing) > 1 else "its"
    return (
        f"see {its} output, start one process for each number (srun does), or set {TIMEOUT_NAME} "
        "to wait longer"
    )
