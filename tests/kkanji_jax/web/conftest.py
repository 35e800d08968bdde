"""Node for the page's modules, and a browser for the page: Chromium, told over a pair of pipes.

No driver and no package is needed: with --remote-debugging-pipe, Chromium reads commands of the
DevTools protocol from file descriptor 3 and answers on 4, each a JSON text that ends with a zero.
"""

import base64
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kkanji_jax.web import web_page as web

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --disable-dev-shm-usage "
    "--remote-debugging-pipe --lang=en-GB"
).split()
WITHIN_S = 90  # for any one thing to happen, on a machine that is busy with others


class NavigatedError(RuntimeError):
    """The page was left while it was asked: what it would have answered is gone with it."""


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        to_them, self._out = os.pipe()
        self._in, from_them = os.pipe()
        # Descriptors 3 and 4 must be these very numbers, and only a process of its own can say so.
        launch = (
            f"import os,sys; r,w=os.dup({to_them}),os.dup({from_them}); "
            "os.dup2(r,3); os.dup2(w,4); os.set_inheritable(3,True); os.set_inheritable(4,True); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        command = [sys.executable, "-c", launch, program, *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"],
            pass_fds=(to_them, from_them),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_them)
        os.close(from_them)
        self._buffer, self._last_id = b"", 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Does one command and returns its result; events that come meanwhile are kept."""
        own_id = self._post(method, session, params)
        while True:
            answer = self._next()
            if answer.get("id") == own_id:
                if "error" in answer:
                    message = answer["error"]["message"]
                    is_left = "navigated" in message or "context was destroyed" in message
                    raise (NavigatedError if is_left else RuntimeError)(f"{method}: {message}")
                return answer["result"]
            self._take(answer)

    def _take(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event.get("method") == "Target.attachedToTarget":
            found = event["params"]
            if found["targetInfo"]["type"] == "worker":  # it waits: record its requests too
                self._post("Network.enable", found["sessionId"], {})
                self._post("Runtime.runIfWaitingForDebugger", found["sessionId"], {})

    def _post(self, method: str, session: str | None, params: dict[str, Any]) -> int:
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._out, content) :]
        return self._last_id

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], WITHIN_S)[0]:
                raise TimeoutError(f"the browser said nothing for {WITHIN_S} s")
            chunk = os.read(self._in, 1 << 20)
            if not chunk:
                raise RuntimeError("the browser ended")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._out)
        os.close(self._in)


class Page:
    """A tab of it at `url`, `width` pixels wide, its requests recorded from the first."""

    def __init__(self, browser: Browser, url: str, width: int, height: int = 900) -> None:
        self.browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.send("Target.attachToTarget", targetId=target, flatten=True)
        self.target, self.session = target, attached["sessionId"]
        self.first_event = len(browser.events)
        self.send("Page.enable")
        self.send("Network.enable")
        self.send("Runtime.enable")
        self.send("Log.enable")
        self.send(
            "Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True
        )
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Page.navigate", url=url)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.send(method, self.session, **params)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression[:80]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Waits until it is true, in whatever page a navigation under way ends in."""
        end = time.monotonic() + WITHIN_S
        while not self._is_true(expression):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{expression} is still false; the page says "
                    f"{self.ask('document.body.innerText')!r}"
                )
            time.sleep(0.05)

    def _is_true(self, expression: str) -> bool:
        try:
            return self.ask(f"Boolean({expression})")
        except NavigatedError:
            return False

    def drag(self, points: list[tuple[float, float]]) -> None:
        """A stroke of the mouse through places in the window."""
        for step, (x, y) in enumerate([*points, points[-1]]):
            kind = "mousePressed" if step == 0 else "mouseMoved"
            kind = "mouseReleased" if step == len(points) else kind
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left",
                buttons=1,
                clickCount=1,
            )

    def place_of(self, selector: str) -> dict[str, float]:
        """Left, top, width and height of an element in the window, scrolled into view."""
        return self.ask(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const {x, y, width, height} ="
            "e.getBoundingClientRect(); return {x, y, width, height}; })()"
        )

    def screenshot(self, path: Path) -> None:
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def events(self, method: str) -> list[dict[str, Any]]:
        seen = self.browser.events[self.first_event :]
        return [event["params"] for event in seen if event.get("method") == method]

    def close(self) -> None:
        self.browser.send("Target.closeTarget", targetId=self.target)


@pytest.fixture
def node(tmp_path: Path) -> Callable[..., Any]:
    """Runs an ES module beside the assets; its last expression, `answer`, comes back."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("no node on the path: nothing to run the page's JavaScript with")
    folder = tmp_path / "page"
    shutil.copytree(web.ASSETS, folder)
    (folder / "package.json").write_text('{"type": "module"}')

    def run(script: str, images: Sequence[np.ndarray] = (), model: Path | None = None) -> Any:
        content = b"".join(np.array(i.shape[1::-1], "<u4").tobytes() + i.tobytes() for i in images)
        (folder / "images.bin").write_bytes(content)
        head = f'import fs from "node:fs";\nconst folder = {json.dumps(str(folder))};\n'
        head += f"const model = {json.dumps(str(model))};\n"
        (folder / "script.js").write_text(head + script + "\nconsole.log(JSON.stringify(answer));")
        done = subprocess.run(
            [program, str(folder / "script.js")], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    program = os.environ.get("CHROMIUM") or next(filter(None, found), None)
    if program is None:
        pytest.skip("no chromium on the path (nor CHROMIUM=its program): no browser to test in")
    browser = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def open_page(browser: Browser) -> Callable[..., Page]:
    return functools.partial(Page, browser)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a folder as `python -m http.server` does; gives its address."""
    servers = []

    def start(folder: Path) -> str:
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
