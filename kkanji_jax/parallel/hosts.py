"""Several processes as one run: barriers, agreement, and a common end. joining.py starts them."""

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed  # its key-value store has no public name; Orbax takes it here too

from kkanji_jax.cli import describe
from kkanji_jax.parallel.joining import named

_SHARED_TIMEOUT_S = 10.0  # until a network file system shows a new file elsewhere
_WATCH_EVERY_S = 0.5
_PART_TIMEOUT_S = 30.0
_ENDED = "kkanji_jax/ended"


def is_first() -> bool:
    """Whether this is the process that writes files and prints messages for the run."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Waits until every process has reached this point."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        with jax.transfer_guard("allow"):
            multihost_utils.sync_global_devices(name)


class Meetings:
    """Decides after which steps the processes of a run ask each other whether to stop.

    A process that runs alone asks after every dispatch. Several processes ask where they wait for
    each other anyway, and also every few dispatches: as many as recently took `every_s` seconds in
    the slowest process. To ask, a process waits until everything that was dispatched is done, so
    this is the time that is measured.
    """

    def __init__(self, *, every_s: float) -> None:
        self._every_s = every_s
        self._period = 1
        self._num_since = 0
        self._since_s = time.monotonic()
        self._dispatch_s = every_s  # between the last two askings; that long until it is measured

    def any_says(self, flag: bool, *, is_meeting: bool) -> bool:
        """Whether `flag` holds in any process; False if it is not yet time to ask again.

        The answer is the same in all processes. `is_meeting`: all of them wait for each other here
        anyway.
        """
        if jax.process_count() == 1:
            return flag
        self._num_since += 1
        if not is_meeting and self._num_since < self._period:
            return False
        told = _gather(np.array([flag, self._dispatch_s], np.float32))
        self._period = max(1, int(self._every_s / max(told[:, 1].max(), 1e-3)))
        now_s = time.monotonic()
        self._dispatch_s = (now_s - self._since_s) / self._num_since
        self._since_s, self._num_since = now_s, 0
        return bool(told[:, 0].any())


def check_same(what: Mapping[str, str]) -> None:
    """Raises ValueError, in every process, if one has another `what` than most of them.

    `what` maps the name of a thing, as a message calls it, to a text that identifies its value.
    """
    if jax.process_count() == 1:
        return
    digests = [hashlib.sha256(text.encode(errors="replace")).digest() for text in what.values()]
    held = _gather(np.frombuffer(b"".join(digests), np.uint8).reshape(len(what), -1))
    for number, name in enumerate(what):
        texts = [row.tobytes() for row in held[:, number]]
        (usual, count), *_ = Counter(texts).most_common(1)
        odd = [process for process, text in enumerate(texts) if text != usual]
        if not odd:
            continue
        remedy = "give every process the same files, flags and versions"
        if count == 1:
            raise ValueError(
                f"each process from 0 to {len(texts) - 1} has another {name}: {remedy}"
            )
        raise ValueError(
            f"{named(odd)} of 0 to {len(texts) - 1} has another {name} than the {count} that "
            f"agree: {remedy}"
        )


def check_shared(folder: Path) -> None:
    """Raises ValueError, in every process, unless all of them see the same `folder`.

    A file is written there to find out. If each machine had a folder of that name on its own disk,
    each would hold a part of what the run writes.
    """
    if jax.process_count() == 1:
        return
    name = f".{_gather(np.frombuffer(os.urandom(8), np.uint8))[0].tobytes().hex()}.shared"
    try:
        if is_first():
            (folder / name).touch()
        meet(name)
        until_s = time.monotonic() + _SHARED_TIMEOUT_S
        while not (is_seen := (folder / name).exists()) and time.monotonic() < until_s:
            time.sleep(0.1)
        blind = np.flatnonzero(~_gather(np.bool_(is_seen)))
    finally:
        if is_first():
            (folder / name).unlink(missing_ok=True)
    if len(blind):
        raise ValueError(
            f"{named(blind.tolist())} of 0 to {jax.process_count() - 1} does not see what process "
            f"0 writes in {folder}: name a folder on storage that all processes share"
        )


def _gather(value: Any) -> np.ndarray:
    """`value` of every process, along a new first axis."""
    from jax.experimental import multihost_utils

    with jax.transfer_guard("allow"):
        return np.asarray(multihost_utils.process_allgather(np.asarray(value)))


# --- ending together ---------------------------------------------------------------------------


class EndingTogether:
    """A context in which no process of a run outlives another's failure.

    A process that leaves it with an error tells the others, and its error is raised. The others end
    wherever they wait, with status 1 and a line that says which process failed and why; they lose
    no more than after a kill. JAX alone would let them wait for a process that has gone for a
    minute or two, and then end them from C++ with another reason or none.
    """

    def __enter__(self) -> None:
        # None where this process runs alone.
        self._client: Any = distributed.global_state.client
        self._number = distributed.global_state.process_id
        self._count = distributed.global_state.num_processes
        self._is_left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="other processes", daemon=True)
        if self._client is not None:
            self._thread.start()

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if self._client is None:
            return
        if err is None:
            meet("the end")  # one that comes here may still hear of another's failure
        self._is_left.set()
        self._thread.join()
        if err is None:
            return
        own = describe(err)[:1000]
        number, text = self._tell(own)
        is_first_failure = number == self._number or text == own
        if not self._part():  # another was killed; JAX would abort this one before its line is out
            self._end(own if is_first_failure else self._line(number, text))
        if not is_first_failure:
            raise ValueError(self._line(number, text)) from err

    def _tell(self, text: str) -> tuple[int, str]:
        """The first failure of the run, its process and text; this one, if it is the first."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # it is told
            self._client.key_value_set(_ENDED, json.dumps([self._number, text]))
        return self._first_failure() or (self._number, text)

    def _first_failure(self) -> tuple[int, str] | None:
        try:
            number, text = json.loads(self._client.key_value_try_get(_ENDED))
        except jax.errors.JaxRuntimeError:  # none so far, or process 0 cannot be asked any more
            return None
        return number, text

    def _line(self, number: int, text: str) -> str:
        return f"process {number} of 0 to {self._count - 1} ended first: {text}"

    def _watch(self) -> None:
        while not self._is_left.wait(_WATCH_EVERY_S):
            failure = self._first_failure()
            if failure is not None:
                self._part()
                self._end(self._line(*failure))

    def _end(self, text: str) -> NoReturn:
        print(f"error: {text}", file=sys.stderr, flush=True)
        os._exit(1)

    def _part(self) -> bool:
        """Whether all processes have shut down together; then none waits for another at exit."""
        try:
            self._client.wait_at_barrier(_ENDED, int(_PART_TIMEOUT_S * 1000))
        except jax.errors.JaxRuntimeError:
            return False
        jax.distributed.shutdown()
        return True
