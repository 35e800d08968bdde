"""What all commands share: parsers, progress, error messages, exit status.

A command is a module with `main(argv) -> status`, made with `make_parser` and `answer`, and `run()
-> NoReturn`, made with `run`, which `python -m` and the console scripts call. Standard library
only, because `predict` works with few packages installed; tqdm is imported on a terminal.
"""

import argparse
import contextlib
import errno
import importlib.util
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from kkanji_jax import __version__
from kkanji_jax.files import DISK_FULL, WriteError, printable

TRACEBACK = "KKANJI_TRACEBACK"  # set it in the environment to see where an error comes from
# What bad input, a full disk or a loss that is not finite end as; anything else is a mistake of
# this project, and shows where it is.
FAILURES = (ValueError, OSError, FloatingPointError, KeyError, MemoryError)
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
TERMINATED = 143  # 128 + SIGTERM
_closed: list[int] = []  # of the standard descriptors, those that were when the process began
_NO_READER = (errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO)  # EIO: a terminal that is gone


# --- how a command is called -------------------------------------------------------------------


def command_name(module: str) -> str:
    """The name by which the command was called: `kkanji-build`, or `python -m data_tools.build`."""
    name = Path(sys.argv[0]).name
    return name if name.startswith("kkanji-") else f"python -m {module}"


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps paragraphs as they are written, and shows every default that is not None or False."""

    def _get_help_string(self, action: argparse.Action) -> str:
        told = action.help or ""
        default = action.default
        is_absent = default is None or default is False or default in ([], argparse.SUPPRESS)
        if "default" in told or is_absent:
            return told
        return f"{told} (default: %(default)s)".lstrip()


def make_parser(module: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser with its command's name, one example, and --version."""
    name = command_name(module)
    parser = argparse.ArgumentParser(
        prog=name,
        description=description,
        epilog=f"example:\n  {name} {example}",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version())
    return parser


def version() -> str:
    """The line that --version prints."""
    return f"kkanji_jax {__version__}"


# --- how it fails and ends ---------------------------------------------------------------------


def answer(work: Callable[[], int | None], *, interrupted: str = "interrupted") -> int:
    """Does a command's work; returns the exit status: what `work` returns, 0 for None.

    Bad input, and any failure that is not a fault of this project, is one line on stderr that says
    what to do, and status 1. Ctrl-C prints the line `interrupted`, and is status 130. If the reader
    of standard output has gone, as `head` does, the work ends without a message, with status 1.
    With KKANJI_TRACEBACK in the environment a failure is raised instead. Characters that the
    console's encoding lacks are written as \\uXXXX.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = work() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        status = 1
    except FAILURES as err:
        if TRACEBACK in os.environ:
            raise
        print(f"error: {describe(err)}", file=sys.stderr)
        status = 1
    else:
        return status
    _flush_or_forget(sys.stdout)
    return status


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C does, with the exit status of the other signal."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated in the block, which unwinds as by Ctrl-C.

    Nothing is changed outside the main thread, or where SIGTERM has a handler already.
    """

    def stop(number: int, frame: object) -> NoReturn:
        raise Terminated

    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def describe(err: BaseException) -> str:
    """The error in one line: which file, what is wrong, what to do."""
    text = str(err)
    if isinstance(err, UnicodeEncodeError) and err.encoding == "utf-8":
        named = printable(err.object)[:300]
        text = f"{named} has bytes that are not UTF-8, which cannot be used here: rename it"
    elif isinstance(err, KeyError):
        text = f"{err.args[0]!r} is missing in what was read: it is of another version, or damaged"
    elif isinstance(err, MemoryError):
        text = f"there is not enough memory: {text or 'end what else is running, or ask for less'}"
    elif isinstance(err, OSError) and err.errno is not None:
        if not isinstance(err, WriteError):
            names = [os.fsdecode(n) for n in (err.filename, err.filename2) if n is not None]
            text = ": ".join([*names, err.strerror or os.strerror(err.errno)])
        if err.errno in DISK_FULL:
            text += ": make room there, then give the same command again"
        elif err.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text += ": change its permissions, or name another place"
        elif err.errno in (errno.EEXIST, errno.ENOTDIR):  # a file where a folder is to be
            text += ": name another place"
    return " ".join(text.split()) or type(err).__name__


def _flush_or_forget(stream: Any) -> None:
    """Discards output that cannot be written; at exit, Python would try again and exit with 120."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Told(io.RawIOBase):
    """A file descriptor for messages to a person. If nobody reads them, the work still goes on.

    What cannot be written is dropped; `failure` is the first error.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        try:
            return os.write(self._descriptor, view)
        except BlockingIOError:
            raise
        except OSError as err:
            self.failure = self.failure or err
            return len(view)


def _reopen_closed() -> list[int]:
    """Opens /dev/null in place of each of stdin, stdout, stderr that is closed; returns which were.

    Otherwise the next file to be opened would get its number, and messages would be written into
    it.
    """
    closed = []
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            closed.append(descriptor)
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            mode = "w" if descriptor else "r"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    return closed


def _wrap(stream: Any, *, is_at_once: bool) -> _Told:
    """Replaces `stream` by a stream over a `_Told` of its descriptor, which is returned."""
    told = _Told(stream.fileno())
    wrapped = io.TextIOWrapper(
        io.BufferedWriter(told),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=is_at_once or stream.isatty(),
        write_through=is_at_once,
    )
    setattr(sys, "stderr" if stream is sys.stderr else "stdout", wrapped)
    return told


def run(main: Callable[[], int], *, is_product: bool = False) -> NoReturn:
    """Runs `main` as the only command of this process, and exits with its status.

    Standard error, and standard output unless it is the command's product, may be closed, full, or
    without a reader: the work goes on. A standard output that is full is reported at the end, with
    status 1.
    """
    _closed[:] = _reopen_closed()
    _wrap(sys.stderr, is_at_once=True)
    out: _Told | None = None
    if not is_product:
        out = _wrap(sys.stdout, is_at_once=False)
    status = main()
    if out is not None:
        sys.stdout.flush()
        if out.failure is not None and out.failure.errno not in _NO_READER:
            print(f"error: standard output: {describe(out.failure)}", file=sys.stderr)
            status = status or 1
    sys.exit(status)


def require_output() -> None:
    """ValueError if standard output is closed (`>&-`): for commands whose product goes there."""
    if 1 in _closed:
        raise ValueError("standard output is closed: open it, or give --out FILE")


# --- how it shows progress ---------------------------------------------------------------------

# What long work calls: what is being done, how much is done, of how much if that is known.
Report = Callable[[str, int, int | None], None]


def say_nothing(what: str, done: int, total: int | None) -> None:
    """A Report that shows nothing."""


class Progress:
    """A Report that shows a bar for each kind of work in turn, but only on a terminal.

    The remaining time is estimated from the first report of a kind on: what was done before it does
    not count towards the speed. Without tqdm nothing is shown.
    """

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
        self._what = ""
        self._bar: Any = None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if not self._is_shown:
            return
        from tqdm import tqdm

        if what != self._what:
            self.close()
            self._what = what
            self._bar = tqdm(
                desc=what,
                total=total,
                initial=done,
                unit="",
                unit_scale=True,
                dynamic_ncols=True,
                file=sys.stderr,
            )
        elif self._bar is not None:
            self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def close(self) -> None:
        """Ends the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
