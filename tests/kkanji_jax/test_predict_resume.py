"""Long readings are stopped and go on; what is written is never what is read."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from kkanji_jax.answers.predict_request import PredictRequest
from kkanji_jax.answers.rows import RowOptions

# The door without JAX. A network that is slow, so that there is a middle to be stopped in.
SLOW = """
import time
from kkanji_jax.answers import partial_rows, rows
rows.BATCH_SIZE = 16
partial_rows.COMMIT_S = 0.05
Spring.outputs = lambda self, glyphs: (time.sleep(0.1), (glyphs, glyphs))[1]
"""
# A network that says when its first batch has come, and waits until standard input ends.
WAITING = """
import sys
def outputs(self, glyphs):
    print("a batch has come", flush=True)
    sys.stdin.read()
    return glyphs, glyphs
Spring.outputs = outputs
"""
RUN = """
from kkanji_jax.predict import run
run()
"""


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "crops"
    folder.mkdir()
    Image.new("L", (64, 64)).save(folder / "0000.png")
    for number in range(1, 600):
        os.link(folder / "0000.png", folder / f"{number:04d}.png")
    return folder


def start(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def run(code: str, *arguments: object) -> tuple[int, str]:
    process = start(code, *arguments)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def wait_for_rows(state: Path, process: subprocess.Popen) -> None:
    while process.poll() is None:
        if state.exists() and json.loads(state.read_text())["tally"]["num_images"]:
            return
        time.sleep(0.01)
    raise AssertionError(f"it ended before it was stopped: {process.communicate()}")


def names_in(out: Path, form: str) -> list[str]:
    with out.open(encoding="utf-8-sig", newline="") as file:
        rows = {
            "csv": lambda: list(csv.DictReader(file)),
            "jsonl": lambda: list(map(json.loads, file)),
            "json": lambda: json.load(file),
        }[form]()
    return [Path(row["path"]).name for row in rows]


@pytest.mark.parametrize(
    ("form", "number", "status"),
    [
        ("csv", signal.SIGTERM, 143),
        ("jsonl", signal.SIGINT, 130),
        ("json", signal.SIGTERM, 143),
        ("csv", signal.SIGKILL, -9),
    ],
)
def test_the_same_command_goes_on_and_reads_each_image_once(
    form: str, number: int, status: int, crops: Path, tmp_path: Path, without_jax: str
):
    out = tmp_path / f"out.{form}"
    partial, state = Path(f"{out}.partial"), Path(f"{out}.partial.json")
    flags = ("--format", form, *(["--bom"] if form == "csv" else []))
    command = (without_jax + SLOW + RUN, crops, *flags, "--out", out)
    process = start(*command)
    wait_for_rows(state, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    done = json.loads(state.read_text())["tally"]["num_images"]
    assert 0 < done < 600 and not out.exists()
    if number != signal.SIGKILL:
        assert f"the rows of {done} images are in {partial}" in err and "Traceback" not in err
        assert partial.stat().st_size == json.loads(state.read_text())["bytes"]

    # What is wrong is one line, and leaves the partial file.
    before = partial.read_bytes()
    status, err = run(*command, "--top-k", "2")
    assert status == 1 and err.count("\n") == 1 and "read with another --top-k" in err, err
    assert partial.read_bytes() == before

    assert run(*command) == (0, "")
    assert names_in(out, form) == [f"{i:04d}.png" for i in range(600)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name]

    whole = tmp_path / f"whole.{form}"
    assert run(without_jax + RUN, crops, *flags, "--out", whole)[0] == 0
    assert whole.read_bytes() == out.read_bytes()


WORKERS = """
from kkanji_jax.inputs import decoding
decoding.WORKERS_AFTER_S = 0.0
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_stopped_command_which_goes_on(
    number: signal.Signals, crops: Path, tmp_path: Path, without_jax: str
):
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    command = (crops, "--format", "csv", "--workers", 2, "--out")
    code = [sys.executable, "-c", without_jax + SLOW + WORKERS + RUN, *map(str, command), str(out)]
    process = subprocess.Popen(code, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_rows(Path(f"{out}.partial.json"), process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to the workers too
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number), err
    assert "Traceback" not in err
    deadline_s = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline_s:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    done = json.loads(Path(f"{out}.partial.json").read_text())["tally"]["num_images"]
    assert 0 < done < 600
    assert run(without_jax + WORKERS + RUN, *command, out) == (0, "")
    assert run(without_jax + RUN, *command, whole) == (0, "")
    assert out.read_bytes() == whole.read_bytes()


def stopped(out: Path, crops: Path, without_jax: str) -> tuple[str, *tuple[object, ...]]:
    """A command that was stopped in the middle."""
    command = (without_jax + SLOW + RUN, crops, "--format", "csv", "--out", out)
    process = start(*command)
    wait_for_rows(Path(f"{out}.partial.json"), process)
    process.terminate()
    process.communicate(timeout=120)
    return command


def test_images_that_came_or_went_in_front_are_told(crops: Path, tmp_path: Path, without_jax: str):
    own = tmp_path / "own"
    own.mkdir()
    for file in crops.iterdir():
        os.link(file, own / file.name)
    out = tmp_path / "out.csv"
    command = stopped(out, own, without_jax)
    # The first image is done, however soon the command was stopped.
    (own / "0000.png").rename(own / "0.png")
    status, err = run(*command)
    assert status == 1 and err.count("\n") == 1 and "came or went" in err, err
    (own / "0.png").rename(own / "0000.png")
    os.link(own / "0000.png", own / "9999.png")  # behind all that is done: read as well
    assert run(*command)[0] == 0
    assert names_in(out, "csv") == [*(f"{i:04d}.png" for i in range(600)), "9999.png"]


def test_two_runs_do_not_write_one_file(crops: Path, tmp_path: Path, without_jax: str):
    out = tmp_path / "out.csv"
    command = (without_jax + WAITING + RUN, crops, "--format", "csv", "--out", out)
    first = start(*command)
    assert first.stdout is not None
    assert first.stdout.readline() == "a batch has come\n", first.communicate()
    status, err = run(*command)
    assert status == 1 and "another process is writing" in err and err.count("\n") == 1
    _, err = first.communicate(timeout=120)  # ends its standard input
    assert first.returncode == 0 and len(names_in(out, "csv")) == 600, err


def test_a_file_of_somebody_else_is_not_taken_for_a_partial_one(
    crops: Path, tmp_path: Path, without_jax: str
):
    out = tmp_path / "out.csv"
    Path(f"{out}.partial").write_text("mine")
    status, err = run(without_jax + RUN, crops, "--format", "csv", "--out", out)
    assert status == 1 and "is not of this program" in err and err.count("\n") == 1
    assert Path(f"{out}.partial").read_text() == "mine"


def test_a_link_s_target_is_written_and_its_mode_kept(
    crops: Path, tmp_path: Path, without_jax: str
):
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    assert run(without_jax + RUN, crops, "--format", "csv", "--out", link)[0] == 0
    assert link.is_symlink() and len(names_in(target, "csv")) == 600
    assert target.stat().st_mode & 0o777 == 0o640


# --- what is written is never what is read ------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some files to name, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Image.new("L", (64, 64)).save("page.png")
    os.link("page.png", "hard.png")
    Path("soft.png").symlink_to("page.png")
    Path("crops").mkdir()
    Path("crops/a.png").symlink_to("../page.png")
    Image.new("L", (64, 64)).save("crops/b.png")
    Path("crops-too").symlink_to("crops", target_is_directory=True)
    Path("boxes.csv").write_text("x,y,w,h\n1,1,9,9\n")
    Path("chars.txt").write_text("春")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        "page.png --out page.png",
        "page.png --out soft.png",
        "soft.png --out ./page.png",
        "page.png --out hard.png",
        "page.png --show-steps page.png",
        "page.png --boxes boxes.csv --annotate page.png",
        "page.png --boxes boxes.csv --annotate crops/../soft.png",
        "page.png --boxes boxes.csv --out boxes.csv",
        "page.png --chars chars.txt --out chars.txt",
        "page.png --boxes boxes.csv --annotate a.png --show-steps a.png",
        "page.png --boxes boxes.csv --annotate a.png --show-steps A.png",
        "page.png --boxes boxes.csv --annotate a.png --out ./a.png",
        "crops --show-steps crops/steps.png",
        "crops --show-steps crops-too/steps.png",
        "crops-too --out crops/b.png",
        "crops --show-steps page.png",
        "gone.pdf#3 --out gone.pdf",
    ],
)
def test_a_file_that_is_read_is_not_written(arguments: str, place: Path, capsys):
    from kkanji_jax.predict import main

    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert main([*arguments.split(), "--model", "nowhere"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "nowhere" not in err and ": name " in err, err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        "page.png --out page.csv",
        "crops --out crops/readings.csv --show-steps steps.png",
        "page.png --out /dev/null",
        "page.png --out Page.png.csv --show-steps steps.png",
    ],
)
def test_other_places_are_written(arguments: str, place: Path, capsys):
    from kkanji_jax.predict import main

    assert main([*arguments.split(), "--model", "nowhere"]) == 1
    assert "no model at nowhere" in capsys.readouterr().err


def test_a_relative_path_is_of_the_folder_in_which_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else the images of two folders would be in one file of rows, if their names are alike."""

    def identity(path: str, folder: str) -> dict[str, str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        return PredictRequest([path], "0.1.0").identity("d", RowOptions())

    assert identity("scans", "a") == identity("scans", "a") != identity("scans", "b")
    for path in ("-", "https://example.org/m.json", str(tmp_path / "scans")):
        assert identity(path, "a") == identity(path, "b")
