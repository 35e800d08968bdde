"""A file appears when it is whole, and what stood there before stays until then."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.answers.partial_rows import PartialRows
from kkanji_jax.answers.row_formats import RowFormat
from kkanji_jax.files import (
    check_sums,
    is_foreign,
    read_json,
    write_json,
    write_sums,
    written_whole,
)


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with written_whole(path) as unfinished:
        unfinished.write_text("{}")
        assert not path.exists() and unfinished.parent == tmp_path
    assert path.read_text() == "{}" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), written_whole(path) as unfinished:
        unfinished.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_two_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with written_whole(path) as one, written_whole(path) as other:
        one.write_text("one")
        other.write_text("other, and longer")
        assert one != other
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_folders_on_the_way_are_created(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a" / "b" / "c.json") as unfinished:
        unfinished.write_text("{}")
    assert (tmp_path / "a" / "b" / "c.json").read_text() == "{}"


def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    for before in (None, "old"):  # a link to nothing yet, and to a file
        if before:
            target.write_text(before)
        else:
            link.symlink_to("elsewhere/target")
        with written_whole(link) as unfinished:
            unfinished.write_text(f"after {before}")
        assert link.is_symlink() and target.read_text() == f"after {before}"
    assert {path.name for path in tmp_path.rglob("*")} == {"elsewhere", "target", "link"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("loop", "symbolic links lead to themselves"),
        ("a file/below/x.csv", "a file is no folder"),
        ("folder", "is a folder"),
    ],
)
def test_a_name_that_no_file_can_have_is_told_and_nothing_is_replaced(
    name: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "loop").symlink_to("other")
    (tmp_path / "other").symlink_to("loop")
    (tmp_path / "a file").write_text("kept")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    rows = PartialRows(tmp_path / name, RowFormat("csv"), {})
    for writer in (written_whole(tmp_path / name), rows):
        with pytest.raises(OSError) as told, writer:
            raise AssertionError("it was opened")
        assert name in str(told.value) and reason in str(told.value)
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "loop").is_symlink()
    assert (tmp_path / "a file").read_text() == "kept"


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755, 0o440])
def test_the_mode_of_what_was_there_stays(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    path.chmod(mode)
    with written_whole(path) as unfinished:
        unfinished.write_text("new")
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_text() == "new"


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with written_whole(tmp_path / "new") as unfinished:
        unfinished.write_text("")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_pipe_is_written_to_and_not_replaced(is_linked: bool, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = pipe
    if is_linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, a=np.arange(3))  # which seeks
    reader.join(timeout=20)
    assert read and read[0].startswith(b"PK")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_to_and_its_failure_names_it() -> None:
    before = Path("/dev/full").stat()
    with written_whole(Path("/dev/null")) as unfinished:
        unfinished.write_text("x")
    with pytest.raises(OSError, match="cannot write /dev/full: No space left") as raised:
        with written_whole(Path("/dev/full")) as unfinished:
            unfinished.write_text("x" * 100_000)
    assert raised.value.errno == errno.ENOSPC
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert Path("/dev/full").stat().st_rdev == before.st_rdev


def test_standard_output_is_written_to_even_where_it_goes_to_a_file(tmp_path: Path) -> None:
    code = (
        "import pathlib\nfrom kkanji_jax.files import written_whole\n"
        "with written_whole(pathlib.Path('/dev/stdout')) as path:\n    path.write_text('two\\n')"
    )
    with (tmp_path / "log").open("wb") as log:
        log.write(b"one\n")
        log.flush()
        subprocess.run([sys.executable, "-c", code], stdout=log, check=True)
        log.seek(0, os.SEEK_END)
        log.write(b"three\n")
    assert (tmp_path / "log").read_text().splitlines()[-1] == "three"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def write_text(path: Path) -> None:
    path.write_text("x" * 1_000_000)


def write_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(1_000_000))  # its error has no number


def write_picture(path: Path) -> None:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000), np.uint8)
    Image.fromarray(noise).save(path, format="png")


@pytest.mark.parametrize("write", [write_text, write_array, write_picture])
def test_a_full_disk_names_the_file_and_keeps_what_was_there(
    write: Callable[[Path], None], mount: Callable[[str], Path]
) -> None:
    disk = mount("size=256k")
    path = disk / "scores.json"
    path.write_text("old")
    with pytest.raises(OSError, match=f"cannot write {path}: No space left") as raised:
        with written_whole(path) as unfinished:
            write(unfinished)
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(path)
    assert path.read_text() == "old" and list(disk.iterdir()) == [path]


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, written_whole(tmp_path / "out"):
        (tmp_path / "source").read_text()
    assert raised.value.filename == str(tmp_path / "source")


def test_what_killed_writers_left_goes_after_a_day_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    code = (
        "import os, pathlib, sys\nfrom kkanji_jax.files import written_whole\n"
        "with written_whole(pathlib.Path(sys.argv[1])) as path:\n"
        "    path.write_text('half')\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    (left,) = tmp_path.iterdir()
    theirs = [tmp_path / name for name in (".scores.json.swp", ".scores.json.x.unfinished")]
    for each in theirs:
        each.write_text("mine")
        os.utime(each, (0, 0))
    for age_s, is_kept in ((3600.0, True), (25 * 3600.0, False)):
        then_s = time.time() - age_s
        os.utime(left, (then_s, then_s))
        with written_whole(path) as unfinished:
            unfinished.write_text("{}")
        assert left.exists() is is_kept
    assert all(each.exists() for each in theirs)


def test_a_long_name_a_name_with_brackets_and_a_name_that_is_not_utf8_are_written(
    tmp_path: Path,
) -> None:
    for name in ("x" * 250, "a[1]*?.json", "春" * 80, os.fsdecode(b"caf\xe9.json")):
        with written_whole(tmp_path / name) as unfinished:
            unfinished.write_text(name, errors="surrogateescape")
        assert os.fsdecode((tmp_path / name).read_bytes()) == name


def test_json_holds_a_path_that_is_not_utf8_and_gives_it_back(tmp_path: Path) -> None:
    content = {"model": os.fsdecode(b"runs/caf\xe9"), "character": "春"}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert json.loads(text) == content and "春" in text


def test_foreign_files_are_not_listed_and_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "array").write_text("1")
    theirs = [".DS_Store", "state/._array", "state/.nfs000000000012", "state/Thumbs.db"]
    for name in theirs:
        (tmp_path / name).write_text("mine")
    write_sums(tmp_path)
    assert check_sums(tmp_path) == ["state/array"]
    for name in theirs:  # the system takes them away, or writes others
        (tmp_path / name).unlink()
    (tmp_path / "state" / "array (conflicted copy)").write_text("2")
    assert check_sums(tmp_path) == ["state/array"]
    (tmp_path / "state" / "array").write_text("3")
    with pytest.raises(ValueError, match="state/array is damaged"):
        check_sums(tmp_path)


def test_what_this_project_writes_is_not_foreign() -> None:
    ours = ["params.npz", "_METADATA", "manifest.ocdbt", "d", "index.json", "SHA256SUMS"]
    assert not any(map(is_foreign, ours))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is damaged: Expecting"),
        (b'{"step": "\xe6"}', "is damaged: .*utf-8"),
        (b"[3]", "expected a JSON object"),
        (b'{"split": 1}', "lacks 'step'"),
    ],
)
def test_a_json_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"state.json {reason}|state.json is damaged: {reason}"):
        read_json(path, having=("step",))
    path.write_bytes(b'{"step": 3}')
    assert read_json(path, having=("step",)) == {"step": 3}


def test_a_folder_that_a_killed_export_left_does_not_stop_a_writer(tmp_path: Path):
    left = tmp_path / f".b0.{'0' * 16}.unfinished"
    left.mkdir()
    os.utime(left, (1, 1))
    with written_whole(tmp_path / "b0") as unfinished:
        unfinished.write_text("new")
    assert (tmp_path / "b0").read_text() == "new" and left.is_dir()
