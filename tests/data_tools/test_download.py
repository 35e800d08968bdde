"""Whatever the server does, the published bytes arrive, or a line says why not."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from data_tools import download
from data_tools.fetch import sources, transfer
from data_tools.fetch.sources import Archive

TAR, IMAGES, CLASSMAP = "kkanji/kkanji.tar", "k49/k49-test-imgs.npz", "k49/k49_classmap.csv"


def table_of(server: Any) -> tuple[Archive, ...]:
    return tuple(
        Archive(path, len(data), hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest())
        for path, data in server.files.items()
    )


@pytest.fixture(autouse=True)
def published(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server has at first is what was published; waits are short."""
    monkeypatch.setattr(sources, "ARCHIVES", table_of(server))
    monkeypatch.setattr(transfer, "FIRST_WAIT_S", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "蔵 書"


def run(dest: Path, server: Any, *args: str) -> int:
    base = ["--dest", str(dest), "--base-url", server.url, "--timeout", "3"]
    return download.main([*base, "--retries", "3", *args])


def contents(dest: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dest.iterdir()}


def all_of(server: Any) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: data for path, data in server.files.items()}


def errors_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("error: ")]


def test_every_file_comes_once_and_a_second_run_asks_for_nothing(
    server: Any, dest: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(dest, server) == 0
    assert contents(dest) == all_of(server)
    printed = capsys.readouterr().out
    assert "kkanji.tar: fetched and verified" in printed
    assert "CC BY-SA 4.0" in printed and "doi:10.20676/00000341" in printed
    assert len(server.requests) == 3
    assert run(dest, server) == 0
    assert len(server.requests) == 3
    assert capsys.readouterr().out.count("there already, as published") == 3


def test_only_the_sets_that_are_named_are_fetched(server: Any, dest: Path):
    assert run(dest, server, "--only", "k49") == 0
    assert sorted(contents(dest)) == ["k49-test-imgs.npz", "k49_classmap.csv"]
    with pytest.raises(SystemExit) as stop:
        run(dest, server, "--only", "k49,mnist")
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        (["cut:3000"], [None, "bytes=3000-"]),
        (["cut:3000", "drop", "cut:2000"], [None, *["bytes=3000-"] * 2, "bytes=5000-"]),
        (["stall:4000"], [None, "bytes=4000-"]),
        (["stall:0", "status:503", "status:429"], [None] * 4),
        (["cut:3000", "no-range"], [None, "bytes=3000-"]),
        (["cut:3000", "lie-range"], [None, "bytes=3000-", None]),
        (["cut:3000", "status:416"], [None, "bytes=3000-", None]),
        (["cut:3000"] * 3, [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]),
    ],
    ids=lambda value: "+".join(map(str, value)),
)
def test_what_can_be_mended_by_trying_again_is(
    server: Any, dest: Path, faults: list[str], ranges: list[str | None]
):
    server.faults[TAR] = faults
    assert run(dest, server, "--only", "kkanji") == 0
    assert contents(dest) == {"kkanji.tar": server.files[TAR]}
    asked = [(expected, validator is not None) for _, expected, validator in server.requests]
    assert asked == [(expected, expected is not None) for expected in ranges]  # If-Range with each


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("html", "is a web page, not the file"),
        ("status:404", "the server says 404 Not Found"),
        ("status:403", "the server says 403 Forbidden"),
        ("longer", "is of 10007 bytes, the published file of 10000"),
        ("shorter", "is of 9993 bytes, the published file of 10000"),
        ("more", "goes on after 10000 bytes"),
    ],
)
def test_what_is_not_the_file_is_refused_and_nothing_of_it_is_kept(
    server: Any, dest: Path, fault: str, reason: str, capsys: pytest.CaptureFixture[str]
):
    server.faults[TAR] = [fault]
    assert run(dest, server) == 1
    (error,) = errors_of(capsys)
    assert server.url + TAR in error and reason in error
    assert sorted(contents(dest)) == ["k49-test-imgs.npz", "k49_classmap.csv"]  # the others came
    assert run(dest, server) == 0
    assert contents(dest) == all_of(server)


def test_wrong_bytes_are_refused_with_both_digests(
    server: Any, dest: Path, capsys: pytest.CaptureFixture[str]
):
    published = server.files[TAR]
    server.files[TAR] = published[:-1] + bytes([published[-1] ^ 1])
    assert run(dest, server, "--only", "kkanji") == 1
    (error,) = errors_of(capsys)
    for data in (published, server.files[TAR]):
        assert hashlib.sha256(data).hexdigest() in error
    assert contents(dest) == {}
    assert len(server.requests) == 1
    server.files[TAR] = published
    assert run(dest, server, "--only", "kkanji") == 0


@pytest.mark.parametrize("has_validator", [True, False])
def test_a_file_that_changed_between_two_tries_is_begun_anew(
    server: Any, dest: Path, has_validator: bool
):
    server.has_validator = has_validator
    published = server.files[TAR]
    server.files[TAR] = bytes(len(published))  # the version of before
    server.faults[TAR] = ["cut:3000", *["drop"] * 3]
    assert run(dest, server, "--only", "kkanji") == 1
    assert (dest / "kkanji.tar.part").read_bytes() == bytes(3000)
    server.files[TAR] = published
    server.requests.clear()
    assert run(dest, server, "--only", "kkanji") == 0
    assert contents(dest) == {"kkanji.tar": published}
    # If-Range spares the second request that the digest asks for otherwise.
    assert len(server.requests) == (1 if has_validator else 2)


def test_a_server_that_is_down_is_one_line_with_every_way_out(
    server: Any, dest: Path, capsys: pytest.CaptureFixture[str]
):
    run(dest, server, "--only", "kkanji")
    capsys.readouterr()
    server.faults[IMAGES] = ["drop"] * 9
    assert run(dest, server) == 1
    assert len([path for path, *_ in server.requests if path == IMAGES]) == 4
    assert CLASSMAP not in [path for path, *_ in server.requests]  # not tried in vain
    (error,) = errors_of(capsys)
    for word in (
        "k49-test-imgs.npz, k49_classmap.csv by hand",
        "http://codh.rois.ac.jp/kmnist/",
        "--base-url",
        str(dest),
        "4 times",
    ):
        assert word in error
    (dest / "k49-test-imgs.npz").write_bytes(server.files[IMAGES])  # as the line says
    assert run(dest, server) == 0
    closed = download.main(
        ["--dest", str(dest / "x"), "--base-url", "http://127.0.0.1:9/", "--retries", "1"]
    )
    assert closed == 1
    assert "Connection refused, 2 times" in errors_of(capsys)[0]


def test_another_file_of_that_name_is_left_alone(
    server: Any, dest: Path, capsys: pytest.CaptureFixture[str]
):
    dest.mkdir()
    (dest / "kkanji.tar").write_bytes(b"mine")
    assert run(dest, server) == 1
    (error,) = errors_of(capsys)
    assert "has 4 bytes, not 10000: move it away" in error
    assert contents(dest)["kkanji.tar"] == b"mine" and len(contents(dest)) == 3


def test_a_mirror_may_be_a_folder(
    server: Any, dest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    mirror = tmp_path / "鏡 1"
    for path, data in server.files.items():
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes(data)
    dest.mkdir()
    (dest / "kkanji.tar.part").write_bytes(b"of another day")
    for url in (mirror.as_uri(), f"file://{mirror}/"):
        assert run(dest, server, "--base-url", url) == 0
        assert contents(dest) == all_of(server)
        (dest / "k49_classmap.csv").unlink()
    assert server.requests == []
    (mirror / CLASSMAP).unlink()
    assert run(dest, server, "--base-url", mirror.as_uri()) == 1
    assert f"no file {mirror / CLASSMAP}" in errors_of(capsys)[0]
    (mirror / CLASSMAP).write_bytes(b"short")
    assert run(dest, server, "--base-url", mirror.as_uri()) == 1
    assert "has 5 bytes, the published file 10200" in errors_of(capsys)[0]
    assert "k49_classmap.csv.part" not in contents(dest)


def test_what_is_no_url_is_usage(dest: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        download.main(["--dest", str(dest), "--base-url", "/a/folder"])
    assert stop.value.code == 2 and not dest.exists()
    assert "expected http://" in capsys.readouterr().err


def test_a_disk_without_room_is_told_before_anything_is_asked_for(
    server: Any, dest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    huge = Archive(TAR, 2**60, "0" * 32, None)
    monkeypatch.setattr(sources, "ARCHIVES", (huge,))
    assert run(dest, server) == 1
    assert "make room" in errors_of(capsys)[0]
    assert server.requests == [] and contents(dest) == {}


def test_a_folder_that_is_a_file_is_one_line(
    server: Any, dest: Path, capsys: pytest.CaptureFixture[str]
):
    dest.write_text("x")
    assert run(dest, server) == 1
    assert str(dest) in errors_of(capsys)[0]


START = """
import json, sys
from data_tools import download
from data_tools.fetch import sources
sources.ARCHIVES = tuple(sources.Archive(*each) for each in json.loads(sys.argv[1]))
sys.exit(download.main(sys.argv[2:]))
"""


def start(server: Any, dest: Path) -> subprocess.Popen[str]:
    args = ["--dest", str(dest), "--base-url", server.url]
    command = [sys.executable, "-c", START, json.dumps(table_of(server)), *args]
    environment = os.environ | {"no_proxy": "127.0.0.1", "PYTHONIOENCODING": "ascii"}
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_part(part: Path, process: subprocess.Popen[str], num_bytes: int) -> None:
    deadline_s = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < num_bytes:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_a_killed_download_goes_on_and_two_at_once_do_not_meet(server: Any, dest: Path):
    server.files[TAR] = server.files[TAR] * 100  # a megabyte, of which each try sees some
    part = dest / "kkanji.tar.part"
    server.pause_s = 0.005
    for number in range(1, 4):
        before = part.stat().st_size if number > 1 else 0
        process = start(server, dest)
        wait_for_part(part, process, before + 50_000)
        if number == 2:
            process.send_signal(signal.SIGSTOP)  # else it may be done before the other has begun
            other = start(server, dest)
            assert "another process is fetching into" in other.communicate(timeout=60)[1]
            assert other.returncode == 1
            process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGKILL if number < 3 else signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert list(contents(dest)) and "kkanji.tar" not in contents(dest)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped: the same command again goes on from here"
    server.pause_s = 0.0
    server.requests.clear()
    output, errors = (process := start(server, dest)).communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "\\u8535 \\u66f8/kkanji.tar: fetched" in output  # the console takes ASCII only
    assert contents(dest) == all_of(server)
    start_byte = int((server.requests[0][1] or "").removeprefix("bytes=").removesuffix("-"))
    assert start_byte >= 150_000
    assert errors == "", "progress is for terminals"


@pytest.mark.parametrize(
    "flags", [["--timeout", "0"], ["--timeout", "nan"], ["--timeout", "x"], ["--retries", "-1"]]
)
def test_numbers_that_no_download_can_use_are_usage_errors(
    flags: list[str], tmp_path: Path, capsys
):
    with pytest.raises(SystemExit) as ended:
        download.main(["--dest", str(tmp_path), *flags])
    assert ended.value.code == 2
    assert f"argument {flags[0]}: expected" in capsys.readouterr().err
