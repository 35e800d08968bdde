"""Progress of long steps on stderr: counts and the time left."""

import io
import sys
import time
from collections.abc import Callable
from typing import Any

# What a long-running room calls: what is being done, how much is done, of how much if known.
Report = Callable[[str, int, int | None], None]


def say_nothing(what: str, done: int, total: int | None) -> None:
    """A Report that shows nothing."""


def accept_any_console() -> None:
    """Lets a door print any character: what the console's encoding lacks comes as `\\uXXXX`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"


class ProgressLines:
    """A Report that prints: one line rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self, stream: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._on_terminal = self._stream.isatty()
        self._every_s = 0.2 if self._on_terminal else 10.0
        self._what = ""
        self._started_s = self._shown_s = 0.0
        self._first_done = 0

    def __call__(self, what: str, done: int, total: int | None) -> None:
        now = self._clock()
        if what != self._what:
            self._what, self._started_s, self._shown_s, self._first_done = what, now, now, done
        is_last = done == total
        if not is_last and now - self._shown_s < self._every_s:
            return
        self._shown_s = now
        elapsed = now - self._started_s
        text = f"{what}: {done:,}" + (f" of {total:,}" if total is not None else "")
        if is_last:
            text += f", {_duration(elapsed)}"
        elif total is not None and done > self._first_done:
            left = elapsed * (total - done) / (done - self._first_done)
            text += f", {_duration(left)} left"
        if self._on_terminal:
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if is_last else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
