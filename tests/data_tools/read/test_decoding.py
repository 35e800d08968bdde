"""Any number of workers reads the same, and a stopped reading leaves nothing and says one line."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_tools.read import archives, decoding
from data_tools.read.catalogue import BadFilesError, Catalogue, read_catalogue
from data_tools.write.assemble import Options, assemble
from kkanji_jax.workers import Workers

ROOT = Path(__file__).parents[3]


def add_every_kind(source: Any) -> None:
    """Each kind of source, with files in it that cannot be used."""
    source.add_kanji("U+6625", 7)
    source.add_kanji("U+20B9F", 2)
    source.add_file("kkanji2/U+6625/03b.png", b"torn")
    source.add_file("kkanji2/U+6625/small.png", source.png(source.draw(1)[:32]))
    colour = np.asarray(Image.fromarray(source.draw(2)).convert("RGB"))
    source.add_file("kkanji2/U+6625/colour.png", source.png(colour))
    source.add_file("kkanji2/U+6625/00.PNG", source.png(source.draw(3)))  # the id of 00.png
    source.add_file("kkanji2/U+6625/deep/a.png", source.png(source.draw(4)))
    source.add_file("kkanji2/6765/a.png", source.png(source.draw(5)))
    source.add_file("kkanji2/readme.txt", b"")
    source.add_small("k49-test", [2, 0, 1, 1, 0])
    for number in range(5):
        image, data = Image.fromarray(255 - source.draw(10 + number)), io.BytesIO()
        image.resize((90, 70)).save(data, "JPEG")
        source.add_file(f"scans/U+6625/{number}.jpg", data.getvalue())
        name = f"U+6625_200_0000{number}_1_X0001_Y0002.jpg"
        source.add_file(f"200/characters/U+6625/{name}", data.getvalue()[: 900 if number else None])
    source.add_file("scans/U+6625/own.png", source.png(source.draw(20)))
    source.add_file("scans/U+6625/torn.png", b"torn")


def problems_of(folder: Path, workers: Workers) -> list[str]:
    with pytest.raises(BadFilesError) as err:
        read_catalogue(folder, workers=workers)
    return err.value.problems


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "CHUNK_FILES", 2)
    monkeypatch.setattr(archives, "ROWS_PER_BLOCK", 2)


def test_one_two_and_three_workers_find_the_same_in_the_same_order(
    source: Any, tmp_path: Path, small_chunks: None
):
    add_every_kind(source)
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "kkanji.tar", "w") as archive:
        archive.add(source.folder / "kkanji2", "kkanji2")
    found: list[tuple[list[str], Catalogue, list[str], Catalogue]] = []
    for count in (1, 2, 3):
        with Workers(count) as workers:
            found.append(
                (
                    problems_of(source.folder, workers),
                    read_catalogue(source.folder, skip_bad=True, workers=workers),
                    problems_of(packed, workers),
                    read_catalogue(packed, skip_bad=True, workers=workers),
                )
            )
    assert found[0] == found[1] == found[2]
    problems, from_folder, tar_problems, from_tar = found[0]
    assert len(problems) == 4 and problems == tar_problems  # kkanji stops it before the others
    rules = [finding.rule for finding in from_folder.findings]
    assert rules.count("unreadable") == 4 + 4 and rules.count("wrong_size") == 1
    kkanji = [o for o in from_folder.originals if o.source == "kkanji"]
    assert kkanji == from_tar.originals and len(kkanji) == 10
    assert len(from_folder.originals) == 10 + 5 + 6 + 1


def test_the_dataset_does_not_depend_on_who_read(source: Any, tmp_path: Path, small_chunks: None):
    add_every_kind(source)
    written: list[dict[str, bytes]] = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        assemble(source.folder, out, Options(skip_bad=True), workers=workers)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1] and len(written[0]) > 5


def test_a_chunk_is_bounded_in_files_and_in_bytes(source: Any, monkeypatch: pytest.MonkeyPatch):
    sizes: list[list[int]] = []

    def decode(content: bytes | str) -> decoding.Decoded:
        return decoding.Decoded(bytes(4096), "")

    class Watching(Workers):
        def map(self, function: Any, items: Any, **how: Any) -> Iterator[Any]:
            for item in items:
                sizes.append([len(content) for content in item])
                yield function(item)

    monkeypatch.setattr(decoding, "CHUNK_FILES", 3)
    monkeypatch.setattr(decoding, "CHUNK_BYTES", 100)
    lengths = [10, 10, 10, 10, 200, 60, 50, 1]
    files = [decoding.Unread(f"s/U+6625/{n}", "U+6625", bytes(n), f"{n}") for n in lengths]
    found = list(decoding.read_all(files, decode, Watching(1)))
    assert [each.sample_id for each in found if isinstance(each, decoding.FoundOriginal)] == [
        file.sample_id for file in files
    ]
    assert sizes == [[10, 10, 10], [10, 200], [60, 50], [1]]


# A pipe stands in for a file that is long in coming: its reader is stopped in the middle of it.


class Reading:
    """A build with two workers, one of which is at the bytes of a file that do not come."""

    def __init__(self, source: Any, out: Path) -> None:
        source.add_kanji("U+6625", 3)
        pipe = source.folder / "kkanji2" / "U+6625" / "slow.png"
        os.mkfifo(pipe)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "data_tools.build", "--source", str(source.folder)]
            + ["--out", str(out), "--workers", "2"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline_s = time.monotonic() + 60
        while True:
            try:
                self._writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
                return
            except OSError:  # nobody reads it yet
                assert self.process.poll() is None, self.process.communicate()
                assert time.monotonic() < deadline_s
                time.sleep(0.01)

    def finish(self) -> tuple[int, list[str]]:
        """Status and the lines of stderr, once no process of the build is left."""
        os.close(self._writer)
        errors = self.process.communicate(timeout=60)[1]
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return self.process.returncode, errors.splitlines()
            time.sleep(0.05)
        os.killpg(self.process.pid, signal.SIGKILL)
        raise AssertionError("a worker outlived the build")


def test_a_worker_killed_while_reading_is_one_line_and_nothing_written(source: Any, tmp_path: Path):
    build = Reading(source, tmp_path / "out")
    children = Path(f"/proc/{build.process.pid}/task/{build.process.pid}/children")
    if not children.exists():
        build.process.kill()
        build.finish()
        pytest.skip("this system does not list the children of a process")
    for child in children.read_text().split():
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(int(child), signal.SIGKILL)
    status, errors = build.finish()
    assert status == 1 and errors[-1].startswith("error: a worker was killed, perhaps for memory")
    assert not any("Traceback" in line for line in errors)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_reading_that_is_stopped_leaves_no_process_and_no_file(
    source: Any, tmp_path: Path, number: signal.Signals
):
    build = Reading(source, tmp_path / "out")
    if number == signal.SIGINT:
        os.killpg(build.process.pid, number)  # as a terminal does: to the workers too
    else:
        build.process.send_signal(number)
    status, errors = build.finish()
    assert status == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}[number]
    assert not any("Traceback" in line for line in errors)
    if number == signal.SIGINT:
        assert errors[-1] == "stopped: the same command again goes on from here"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_links_to_nothing_are_listed_with_all_other_bad_files(source: Any, workers: int):
    name = "U+6625_B1_1_X{}_Y0.png"
    folders = ("kkanji2/U+6625", "mine/U+6625", "B1/characters/U+6625")
    for folder in folders:
        source.add_file(f"{folder}/{name.format(0)}", source.png(source.draw(1)))
        source.add_file(f"{folder}/{name.format(1)}", b"torn")
        for number, target in ((2, "nowhere.png"), (3, name.format(3)), (4, f"{name.format(0)}/a")):
            (source.folder / folder / name.format(number)).symlink_to(target)
    with Workers(workers) as pool:
        problems = problems_of(source.folder, pool)
        catalogue = read_catalogue(source.folder, skip_bad=True, workers=pool)
    assert len(problems) == 4 and "is a link to nothing" in problems[1]
    assert len(catalogue.originals) == 3
    told = [f for f in catalogue.findings if f.detail == "is a link to nothing"]
    assert len(told) == 9 and {f.rule for f in told} == {"unreadable"}


def test_a_file_that_goes_while_it_is_read_stops_the_build(source: Any, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        decoding._decode_all(decoding.decode_kkanji, [str(tmp_path / "gone.png")])
