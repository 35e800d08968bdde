"""The server process: its socket, uvicorn, and how it stops."""

import json
import logging
import signal
import socket
import threading
import time
import warnings
from asyncio import TimerHandle
from collections.abc import Callable
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from kkanji_jax.serving.limits import Limits

HEAD_TIMEOUT_S = 10.0
# Longer than clients and proxies keep an idle connection (60 s in nginx), so that they close it. If
# the server closed it first, a request sent at that moment would be lost.
KEEP_ALIVE_S = 75
MAX_HEAD_BYTES = 65_536  # a list of 3,000 characters in the query string has 27,000
BACKLOG = 512


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a limit on how long a connection may be without a request.

    The head of a request must arrive within HEAD_TIMEOUT_S of the connection, or of its own first
    byte. The same holds for the rest of a body that was refused before its end.
    """

    _began_s: float | None = None  # when bytes came that belong to no request under way

    def connection_made(self, transport: object) -> None:  # pyright: ignore
        """Starts the time limit."""
        super().connection_made(transport)  # pyright: ignore
        self._began_s = time.monotonic()
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Receives data; ends the time limit when a request has begun."""
        if self._began_s is None:
            self._began_s = time.monotonic()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._began_s = None
        elif self.timeout_keep_alive_task is None and not self.transport.is_closing():
            is_between = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
            self._arm(is_between)

    def on_response_complete(self) -> None:
        """Starts the time limit for the next request."""
        self._began_s = None
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request in JSON, as every other error is told; then it closes."""
        line = f"expected HTTP/1.1, and a head of at most {MAX_HEAD_BYTES} bytes"
        content = json.dumps({"error": line}).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
        for event in (
            h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request"),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _arm(self, is_between: bool = False) -> None:
        if is_between:  # the last byte of a body that nobody waited for has come
            self._began_s, remaining_s = None, float(self.timeout_keep_alive)
        else:
            assert self._began_s is not None
            remaining_s = max(self._began_s + HEAD_TIMEOUT_S - time.monotonic(), 0)
        task: TimerHandle = self.loop.call_later(remaining_s, self.timeout_keep_alive_handler)
        self.timeout_keep_alive_task = task


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 means any free one. OSError names the address.

    Its connections send at once. Otherwise the end of an answer would wait until the client has
    confirmed its beginning, 40 ms later on a connection that is used again. (asyncio says so to
    sockets that it makes itself, and not to one that is handed to it.)
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)  # pyright: ignore
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which connections inherit
        return listener
    except OSError as err:
        raise OSError(err.errno, err.strerror or str(err), f"{host} port {port}") from err


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """A server of the application that logs errors and nothing else."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=TimedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,  # uvicorn's own closes the handlers of other libraries
        log_level="error",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(limits.stop_timeout_s)),
    )
    return uvicorn.Server(config)


def silence_parsers() -> None:
    """Switches off the logs of parsers: faults of files and forms are in the answers."""
    for name in ("PIL", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")


def serve_until_stopped(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C, or until `server.should_exit`; then answers open requests.

    A second Ctrl-C does not wait for the answers.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    if is_main:
        # At its end uvicorn raises the signals that it has handled once more, for the handlers from
        # before. Being stopped is not a failure, so these are ignored.
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, _heeded)
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()


def _heeded(number: int, frame: FrameType | None) -> None:
    """Ignores a signal that uvicorn has already acted on."""
