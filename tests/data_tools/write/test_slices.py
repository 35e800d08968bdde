"""Slices of a build, made by processes of their own, join to the bytes of a build in one piece."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_tools.build import main
from data_tools.plan import shard_contents
from data_tools.write import build_state
from data_tools.write.assemble import Options, assemble, assemble_slice, parse_slice
from data_tools.write.build_state import building
from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.files import sha256_of

ROOT = Path(__file__).parents[3]
SMALL_SHARDS = """
import sys
from data_tools import build
from data_tools.plan import shard_contents
shard_contents.CHUNK_SIZE, shard_contents.SHARD_EXAMPLES = 2, 4
sys.exit(build.main(sys.argv[1:]))
"""


def contents(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(dataset.iterdir())}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_contents, "CHUNK_SIZE", 2)
    monkeypatch.setattr(shard_contents, "SHARD_EXAMPLES", 4)


@pytest.fixture
def kanji(source: Any) -> Path:
    source.add_kanji("U+6625", 60)
    source.add_kanji("U+6765", 20)
    return source.folder


def start(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SMALL_SHARDS, *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def test_slices_in_any_order_join_to_the_bytes_of_one_build(
    kanji: Path, tmp_path: Path, small_shards: None
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assemble(kanji, whole, Options())
    num_all = len(load_manifest(whole)["shards"])
    assert num_all > 15
    made = [
        assemble_slice(kanji, out, Options(), chosen)
        for chosen in ((10, 99), (0, 4), (3, 10), (0, 4), (99, 120))
    ]
    assert {outcome.num_all for outcome in made} == {num_all}
    assert [outcome.num_shards for outcome in made] == [num_all - 10, 4, 7, 4, 0]
    assert [outcome.num_resumed for outcome in made] == [0, 0, 1, 4, 0]
    with pytest.raises(ValueError, match="the build of .* is unfinished"):
        load_manifest(out)
    outcome = assemble(kanji, out, Options(), finish=True)
    assert outcome.num_resumed == num_all
    assert contents(out) == contents(whole)
    assert assemble_slice(kanji, out, Options(), (0, 4)).num_resumed == 4
    assert contents(out) == contents(whole)


def test_finishing_reads_each_finished_shard_once(
    kanji: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
):
    num_shards = assemble_slice(kanji, tmp_path / "out", Options(), (0, 1000)).num_shards
    read: list[str] = []

    def digest_and_note(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(build_state, "sha256_of", digest_and_note)
    outcome = assemble(kanji, tmp_path / "out", Options(), finish=True)
    assert outcome.num_resumed == num_shards == len(read) == len(set(read))


def test_a_shard_whose_bytes_changed_is_written_again_when_finishing(
    kanji: Path, tmp_path: Path, small_shards: None
):
    out = tmp_path / "out"
    num_shards = assemble_slice(kanji, out, Options(), (0, 1000)).num_shards
    shard = min(out.glob("*.array_record"))
    content = shard.read_bytes()
    shard.write_bytes(bytes(len(content)))
    outcome = assemble(kanji, out, Options(), finish=True)
    assert outcome.num_resumed == num_shards - 1 and shard.read_bytes() == content


def test_finishing_names_the_shards_that_are_missing(
    kanji: Path, tmp_path: Path, small_shards: None, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    args = ["--source", str(kanji), "--out", str(out), "--workers", "1"]
    assert main([*args, "--shards", "0:2"]) == 0
    assert re.search(r"2 of \d+ shards are in --shards 0:2, all written; ", capsys.readouterr().out)
    assert main([*args, "--shards", "1:2"]) == 0
    told = r"1 of \d+ shards are in --shards 1:2, all written, 1 of them from before; --finish "
    assert re.search(told, capsys.readouterr().out)
    assert main([*args, "--shards", "900:901"]) == 0
    assert " 0 of " in (told := capsys.readouterr().out) and " are there" not in told
    (out / "test-00001-of-00003.array_record").unlink(missing_ok=True)
    assert main([*args, "--finish"]) == 1
    (error,) = (li for li in capsys.readouterr().err.splitlines() if li.startswith("error: "))
    assert "are not there yet: give --shards " in error and "2:3, " in error
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize("text", ["", "3", "3:3", "4:3", "-1:2", "a:b", "1:2:3"])
def test_slices_that_are_none_are_refused(text: str):
    with pytest.raises(ValueError, match="--shards must be I:J"):
        parse_slice(text)
    assert parse_slice("0:16") == (0, 16)


def test_a_slice_of_other_options_is_refused(kanji: Path, tmp_path: Path, small_shards: None):
    assemble_slice(kanji, tmp_path / "out", Options(), (0, 2))
    with pytest.raises(ValueError, match=r"unfinished build of other options \(seed: 0 -> 1\)"):
        assemble_slice(kanji, tmp_path / "out", Options(seed=1), (2, 4))


def test_no_slice_is_built_beside_a_whole_build(kanji: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    fingerprint = assemble(kanji, tmp_path / "whole", Options()).manifest["fingerprint"]
    with building(tmp_path / "out", fingerprint):
        with pytest.raises(ValueError, match="another process is building"):
            assemble_slice(kanji, tmp_path / "out", Options(), (0, 1))


@pytest.fixture
def long_source(source: Any) -> Iterator[Path]:
    source.add_kanji("U+6625", 400)
    yield source.folder


def test_a_slice_killed_beside_a_living_one_is_made_good(long_source: Path, tmp_path: Path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    args = ("--source", long_source, "--workers", 1)
    killed = start(*args, "--out", out, "--shards", "0:70")
    living = start(*args, "--out", out, "--shards", "70:500")
    wait_for(out, killed, 3, "t")
    killed.kill()
    killed.communicate()
    again = start(*args, "--out", out, "--shards", "0:70")
    for process in (living, again):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert not list((out / ".build").glob("*.unfinished"))
    last = start(*args, "--out", out, "--finish")
    _, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    one = start(*args, "--out", whole)
    one.communicate(timeout=120)
    assert contents(out) == contents(whole) and len(contents(out)) > 100


def wait_for(out: Path, process: subprocess.Popen[str], count: int, prefix: str = "") -> None:
    deadline_s = time.monotonic() + 60
    while len(list(out.glob(f"{prefix}*.array_record"))) < count:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


@pytest.mark.parametrize("num_kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_seeded_kills_never_cost_a_finished_shard(
    long_source: Path, tmp_path: Path, num_kills: int
):
    out, whole = tmp_path / "out", tmp_path / "whole"
    rng = random.Random(num_kills)
    written: dict[str, tuple[int, int]] = {}  # name -> what the file system knows it by
    for kill in range(num_kills):
        process = start("--source", long_source, "--out", out, "--workers", 1 + kill % 2)
        wait_for(out, process, len(written) + rng.randint(1, 8))
        time.sleep(rng.uniform(0, 0.01))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "manifest.json").exists(), "the kill came after the work"
        stats = {p.name: p.stat() for p in out.glob("*.array_record")}
        now = {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}
        marked = {p.name.removesuffix(".finished.json") for p in (out / ".build").glob("*.json")}
        redone = {name for name, known in written.items() if now.get(name) != known}
        assert not redone, "a finished shard was written again"
        written = {name: known for name, known in now.items() if name in marked}
        assert len(now) - len(written) <= 2  # moved into place, not yet marked: one a worker
    process = start("--source", long_source, "--out", out, "--workers", 2)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"{len(written)} of them from before" in output
    one = start("--source", long_source, "--out", whole, "--workers", 1)
    one.communicate(timeout=120)
    assert contents(out) == contents(whole)
