"""Disks that are full, nearly full or read-only, and paths that are not ASCII; for real."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.build import main
from data_tools.write import assemble, build_state
from kkanji_jax.data.manifest import BUILD_STATE_NAME, load_manifest

ROOT = Path(__file__).parents[3]
Mount = Callable[[str], Path]


@pytest.fixture
def arguments(source: Any) -> list[str]:
    source.add_kanji("U+6625", 400)
    return ["--source", str(source.folder), "--workers", "1"]


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [li for li in capsys.readouterr().err.splitlines() if li.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_disk_too_small_is_refused_before_anything_is_written(
    arguments: list[str], mount: Mount, capsys: pytest.CaptureFixture[str]
):
    disk = mount("size=400k")
    assert main([*arguments, "--out", str(disk / "out")]) == 1
    error = errors(capsys)
    assert f"cannot write {disk / 'out'}: 400 examples take some 0.00 GB" in error
    assert "are free" in error and list(disk.iterdir()) == []


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_disk_that_fills_up_leaves_no_dataset_and_no_garbage_and_the_build_goes_on(
    arguments: list[str], mount: Mount, tmp_path: Path, workers: int
):
    # Somebody else fills the disk after the check: the estimate is told to be nothing.
    code = (
        "import sys\nfrom data_tools import build\n"
        "from data_tools.plan import shard_contents\n"
        "from data_tools.write import assemble\n"
        "shard_contents.CHUNK_SIZE, shard_contents.SHARD_EXAMPLES = 16, 32\n"
        "assemble.BYTES_PER_ORIGINAL = assemble.BYTES_PER_ROW = 0\n"
        "sys.exit(build.main(sys.argv[1:]))"
    )
    disk = mount("size=700k")
    out = disk / "out"

    def build(folder: Path) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--workers", str(workers), "--out", folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr.splitlines()

    status, lines = build(out)
    assert status == 1 and lines[-1].startswith(f"error: cannot write {out}"), lines
    assert "Traceback" not in "\n".join(lines)
    finished = sorted(path.name for path in out.glob("*.array_record"))
    assert finished and not (out / "manifest.json").exists()
    assert not list(out.rglob("*.unfinished")), "what is half written must not take the room"
    with pytest.raises(ValueError, match="unfinished: run the same"):
        load_manifest(out)
    mount("size=16m")
    assert build(out)[0] == 0
    assert build(tmp_path / "whole")[0] == 0
    for path in sorted((tmp_path / "whole").iterdir()):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert load_manifest(out)["splits"]["train"]["num_examples"] > 250


def test_a_small_file_that_no_longer_fits_is_named(mount: Mount):
    disk = mount("size=64k")
    (disk / BUILD_STATE_NAME).mkdir()
    with pytest.raises(OSError, match="No space left"):
        (disk / "filler").write_bytes(bytes(2**17))
    for write, name in (
        (lambda: build_state.write_file(disk / "splits.csv", "x" * 99, "me"), "splits.csv"),
        (lambda: build_state.mark_finished(disk, {"file": "a.array_record"}, "me"), "finished"),
    ):
        with pytest.raises(OSError, match=f"^cannot write {disk}.*{name}.*: No space left"):
            write()


def test_a_read_only_disk_is_one_line(
    arguments: list[str], mount: Mount, capsys: pytest.CaptureFixture[str]
):
    disk = mount("size=16m,ro")
    assert main([*arguments, "--out", str(disk / "out")]) == 1
    assert "Read-only file system" in errors(capsys)


def test_a_path_of_spaces_and_kana_is_a_path(source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 12)
    moved = source.folder.rename(tmp_path / "くずし字 の もと")
    out = tmp_path / "出力 データ (1)" / "春"
    assert main(["--source", str(moved), "--out", str(out), "--workers", "1"]) == 0
    assert load_manifest(out)["splits"]["train"]["num_examples"] > 0


def test_space_is_counted_for_what_is_missing_only(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lines: list[str] = []
    out = tmp_path / "out"
    options = assemble.Options()
    source = Path(arguments[1])
    assemble.assemble_slice(source, out, options, (0, 1), say=lines.append)
    assemble.assemble_slice(source, out, options, (0, 2), say=lines.append)
    first, second = (int(line.split()[1]) for line in lines)
    counts = {path.name[:4]: 0 for path in out.glob("*.array_record")}
    assert len(counts) == 2 and first > 250 > second > 0


# Case 40 and 41 of what may go wrong anywhere: no network, and a console that knows ASCII only.
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
import sys
from importlib import import_module
sys.exit(import_module("data_tools." + sys.argv[1]).main(sys.argv[2:]))
"""


def test_offline_and_with_an_ascii_console_every_tool_works(source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 12)
    source.add_kanji("U+20B9F", 2)
    out, sheet = tmp_path / "out", tmp_path / "sheet.png"
    per_class = ["--per-class", "14", "--engine", "host"]  # albumentations would ask for news
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PYTHON"))}
    environment |= {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment.pop("NO_ALBUMENTATIONS_UPDATE", None)
    for words in (
        ["build", "--source", source.folder, "--out", out, "--workers", 1, *per_class],
        ["verify", out],
        ["inspect", out],
        ["inspect", out, "--counts"],
        ["inspect", out, "--character", "U+20B9F", "--sheet", sheet],
        ["inspect", out, "--audit", tmp_path / "audit.html"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", NO_NETWORK, *map(str, words)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr.decode("utf-8", "replace"))
    assert sheet.stat().st_size > 1000
