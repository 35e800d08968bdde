"""The command as people start and stop it."""

import logging
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from kkanji_jax.serve import main
from kkanji_jax.serving.limits import Limits
from kkanji_jax.serving.server import listening, make_server

from .conftest import ServerProcess, encoded, picture

GOOD = encoded(picture(1))

# The network takes a second more.
SLOW = """
import time
from kkanji_jax.inference.recogniser import Recogniser
from kkanji_jax.serve import run
outputs = Recogniser.outputs
def slow(self, glyphs):
    time.sleep(1)
    return outputs(self, glyphs)
Recogniser.outputs = slow
run()
"""

WITHOUT_EXTRA = """
import sys
sys.modules["fastapi"] = None
from kkanji_jax.serve import run
run()
"""


def run(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    program = ["-c", code] if code else ["-m", "kkanji_jax.serve"]
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_lets_it_answer_what_it_accepted(start, number: int):
    server: ServerProcess = start(program=("-c", SLOW)).started()
    with ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(httpx.post, f"{server.url}/predict", content=GOOD, timeout=100)
            for _ in range(3)
        ]
        end = time.monotonic() + 60
        while server.count("kkanji_queued_images") < 3:
            assert time.monotonic() < end and not any(one.done() for one in waiting)
        server.process.send_signal(number)
        assert [one.result().status_code for one in waiting] == [200] * 3
    assert server.process.wait(60) == 0
    assert server.text().endswith("stopped\n") and server.text().count("\n") == 2


def test_a_connection_that_is_idle_does_not_hold_up_the_end(start):
    server: ServerProcess = start("--stop-timeout-s", 60).started()
    with server.client() as client:
        assert client.post("/predict", content=GOOD).status_code == 200
        began_s = time.monotonic()
        server.stop_without_a_word()
        assert time.monotonic() - began_s < 30


def test_nothing_that_is_sent_is_logged_or_kept(start, tmp_path: Path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    code = f"import tempfile; tempfile.tempdir = {str(folder)!r}\n" + SLOW.replace(
        "sleep(1)", "sleep(0)"
    )
    server: ServerProcess = start(program=("-c", code)).started()
    with server.client() as client:
        files = [("f", ("secret.png", GOOD + b"x" * 2_000_000))] * 2
        assert client.post("/predict?chars=secret一", files=files).status_code == 200
        assert client.post("/predict?secret=1", content=b"secret").status_code == 422
        assert client.post("/predict", content=b"secret").status_code == 422
    assert list(folder.iterdir()) == []
    server.stop_without_a_word()


def test_without_the_extra_one_line_names_it():
    told = run(code=WITHOUT_EXTRA)
    assert told.returncode == 1 and told.stderr.count("\n") == 1
    assert 'pip install "kkanji_jax[serve]"' in told.stderr


def test_the_log_of_the_server_leaves_the_handlers_of_other_libraries_open():
    class Kept(logging.Handler):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True
            super().close()

    handler = Kept()
    make_server(FastAPI(), Limits())
    assert not handler.is_closed


def test_a_port_that_is_taken_is_told_in_one_line(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"127.0.0.1 port {port}: Address already in use" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "65536"], "--port must be in 0..65535, not 65536"),
        (["--max-bytes", "0"], "--max-bytes must be at least 1, not 0"),
        (["--batch-wait-ms", "nan"], "--batch-wait-ms must be at least 0, not nan"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid port 8000: "),
        (["--model", "nowhere"], "no model at nowhere"),
        (
            ["--port", "65536", "--allow-origin", "https://a.org/"],
            "--allow-origin must be an origin as browsers send",
        ),
        (
            ["--port", "65536", "--allow-origin", "a.org"],
            "--allow-origin must be an origin as browsers send it, as ht",
        ),
        (
            ["--port", "65536", "--allow-origin", "https://A.org:443"],
            "--allow-origin must be an origin as browsers",
        ),
    ],
)
def test_what_it_cannot_serve_is_told_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"error: {expected}" in told


def test_a_damaged_model_is_told_in_one_line(tmp_path: Path):
    import shutil

    from kkanji_jax.saved.trained import PRETRAINED

    bundle = shutil.copytree(PRETRAINED, tmp_path / "b0")
    (bundle / "model.onnx").unlink()
    told = run("--port", 0, "--model", bundle)
    assert told.returncode == 1 and re.search(
        r"\nerror: .*model.onnx is missing\n$", f"\n{told.stderr}"
    )
    assert "Traceback" not in told.stderr


def test_a_run_is_served_and_its_page_says_what_it_wants(start, tiny_run):
    server: ServerProcess = start("--model", tiny_run.workdir, "--max-images", 3).started()
    glyph = sorted((tiny_run.source / "U+6625").iterdir())[0]
    with server.client() as client:
        (row,) = client.post("/predict?top-k=1", content=glyph.read_bytes()).json()
        assert row["character"] in "春夏秋冬山川" and row["verdict"] == ""
        assert "serve the bundle" in client.get("/").text
        files = [("f", ("a.png", glyph.read_bytes()))] * 4
        refused = client.post("/predict", files=files)
        assert refused.status_code == 413 and "at most 3 images" in refused.text
    server.stop_without_a_word()


def test_a_bundle_with_a_page_serves_its_own(start, tmp_path: Path):
    import shutil

    from kkanji_jax.files import write_sums
    from kkanji_jax.saved.trained import PRETRAINED

    bundle = shutil.copytree(PRETRAINED, tmp_path / "b0")
    (bundle / "web").mkdir()
    (bundle / "web" / "index.html").write_text("its own")
    write_sums(bundle)
    server: ServerProcess = start("--model", bundle, "--host", "localhost").started()
    with server.client() as client:
        served = client.get("/")
        assert served.text == "its own" and served.headers["Cache-Control"] == "no-cache"
        assert client.post("/predict", content=GOOD).status_code == 200
    server.stop_without_a_word()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_answer_does_not_wait_for_the_client_to_confirm_its_beginning(host: str):
    """Nagle's algorithm: 40 ms more for each answer but the first on a connection."""
    with listening(host, 0) as listener:
        with socket.create_connection(listener.getsockname()[:2]):
            connection, _ = listener.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
