"""The door as people start it: in its own process, offline, on any console, on very many files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

# Every network call ends the process; what was tried is named.
OFFLINE = """
import os, sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        os.write(2, f"NETWORK: {event} {args!r}\\n".encode())
        os._exit(97)
sys.addaudithook(refuse)
from kkanji_jax.predict import run
run()
"""

# The door without JAX, which tells at the end how much memory it all took.
MANY = """
import resource
from kkanji_jax.predict import main
status = main()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = os.environ | environment
    return subprocess.run(command, env=env, capture_output=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def bundle(tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kkanji_jax.export.__main__ import main as export

    out = tmp_path_factory.mktemp("bundles") / "tiny"
    assert export(["--model", str(tiny_run.workdir), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("backend", ["onnx", pytest.param("jax", marks=pytest.mark.slow)])
def test_nothing_is_asked_of_the_network(backend: str, tiny_run, bundle: Path):
    folder = tiny_run.source / "U+6625"
    told = run(OFFLINE, folder, "--model", bundle, "--backend", backend, "--format", "jsonl")
    assert told.returncode == 0, told.stderr.decode()
    assert len(told.stdout.decode().splitlines()) == 24 * 5


def test_the_blockade_stops_what_does_ask():
    asking = OFFLINE.partition("from kkanji_jax")[0]
    asking += "import socket; socket.create_connection(('127.0.0.1', 9))"
    told = run(asking)
    assert told.returncode == 97 and b"NETWORK" in told.stderr


@pytest.mark.parametrize(
    "console", [{"PYTHONIOENCODING": "cp932"}, {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}]
)
def test_a_console_of_another_encoding_gets_utf8(console: dict, tiny_run, without_jax: str):
    folder = tiny_run.source / "U+6625"
    told = run(without_jax + MANY, folder, "--format", "csv", "--bom", PYTHONUTF8="0", **console)
    assert told.returncode == 0, told.stderr.decode()
    assert told.stdout.startswith(b"\xef\xbb\xbfpath,rank,")
    assert told.stdout.decode("utf-8-sig").count("春,U+6625") == 24


@pytest.mark.slow
def test_a_hundred_thousand_files_take_no_more_memory_than_a_thousand(
    without_jax: str, tmp_path: Path
):
    used_kb = {}
    for count in (1_000, 100_000):
        folder = tmp_path / str(count)
        for number in range(count):
            inside = folder / f"{number // 10_000:02d}"
            if number % 10_000 == 0:  # file systems allow a file some tens of thousands of links
                inside.mkdir(parents=True)
                Image.new("L", (64, 64)).save(inside / f"{number:06d}.png")
            else:
                first = inside / f"{number // 10_000 * 10_000:06d}.png"
                os.link(first, inside / f"{number:06d}.png")
        told = run(without_jax + MANY, folder, "--format", "jsonl", "--out", tmp_path / "out")
        assert told.returncode == 0, told.stderr.decode()
        used_kb[count] = int(told.stderr.split()[-1])
        with (tmp_path / "out").open() as rows:
            names = [os.path.basename(json.loads(row)["path"]) for row in rows]
        assert len(names) == count and names == sorted(names)
    # A folder's names are sorted in memory: 10,000 of them at a time here.
    assert used_kb[100_000] < used_kb[1_000] + 20_000
