"""Files and folders in, rows out: every format parses back, and nothing bad stops the rest."""

import csv
import functools
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from kkanji_jax.inference import recogniser
from kkanji_jax.predict import main
from kkanji_jax.saved import trained

COLUMNS = ["path", "rank", "character", "codepoint", "probability", "verdict", "error"]


@pytest.fixture(scope="module")
def pictures(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that are fine, blank and broken, in a folder with other things in it."""
    folder = tmp_path_factory.mktemp("pictures")
    for character in "春夏":
        for name in (f"{0:016x}.png", f"{1:016x}.png"):
            (folder / f"本 {character}").mkdir(exist_ok=True)
            content = (tiny_source / "kkanji2" / f"U+{ord(character):04X}" / name).read_bytes()
            (folder / f"本 {character}" / name).write_bytes(content)
    Image.new("RGB", (90, 70), (230, 220, 200)).save(folder / "empty paper.jpg")
    (folder / "broken.png").write_text("not an image")
    (folder / "._春.png").write_text("what macOS leaves behind")
    (folder / "notes.txt").write_text("no image, and not meant as one")
    return folder


@pytest.fixture(scope="module", autouse=True)
def load_once():
    """The door as it is, but for its model: loaded and compiled once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recogniser, "load", functools.cache(recogniser.load))
        yield


def model_of(tiny_run, backend: str = "onnx") -> list[str]:
    """Flags that name the tiny run. ONNX Runtime starts at once; JAX would compile."""
    return ["--model", str(tiny_run.workdir), "--backend", backend]


def rows_of(tiny_run, *argv: str, form: str = "json") -> tuple[int, list[dict]]:
    """Status and rows, through a file."""
    out = Path(argv[-1] if os.path.isdir(argv[-1]) else os.path.dirname(argv[-1])).parent / "out"
    status = main([*argv, *model_of(tiny_run), "--format", form, "--out", str(out)])
    text = out.read_text(encoding="utf-8-sig")
    out.unlink()
    if form == "csv":
        return status, list(csv.DictReader(io.StringIO(text)))
    if form == "jsonl":
        return status, [json.loads(line) for line in text.splitlines()]
    return status, json.loads(text)


def test_a_folder_gives_rows_in_sorted_order_and_a_row_for_what_is_broken(tiny_run, pictures: Path):
    status, rows = rows_of(tiny_run, "--top-k", "3", str(pictures))
    assert status == 1  # one file is broken
    paths = list(dict.fromkeys(row["path"] for row in rows))
    inside = [os.path.relpath(path, pictures) for path in paths]
    assert inside == sorted(inside) and len(inside) == 6
    by_path = {path: [row for row in rows if row["path"] == path] for path in paths}
    for path, name in zip(paths, inside, strict=True):
        if name == "broken.png":
            assert len(by_path[path]) == 1
            assert "cannot read" in by_path[path][0]["error"]
            assert by_path[path][0]["rank"] is None
            continue
        if "paper" in name:
            told = [(row["rank"], row["character"], row["verdict"]) for row in by_path[path]]
            assert told == [(None, None, "blank")]
            continue
        assert [row["rank"] for row in by_path[path]] == [1, 2, 3]
        assert {row["verdict"] for row in by_path[path]} == {""}
        probabilities = [row["probability"] for row in by_path[path]]
        assert probabilities == sorted(probabilities, reverse=True)
        for row in by_path[path]:
            assert row["character"] in "春夏秋冬山川"
            assert row["codepoint"] == f"U+{ord(row['character']):04X}"


def test_every_format_tells_the_same(tiny_run, pictures: Path):
    _, expected = rows_of(tiny_run, str(pictures), form="json")
    _, lines = rows_of(tiny_run, str(pictures), form="jsonl")
    assert lines == expected
    _, table = rows_of(tiny_run, "--bom", str(pictures), form="csv")
    assert list(table[0])[: len(COLUMNS)] == COLUMNS and len(table) == len(expected)
    for told, row in zip(table, expected, strict=True):
        for name in COLUMNS:
            if name == "probability" and row[name] is not None:
                assert float(told[name]) == pytest.approx(row[name], abs=1e-6)
            else:
                assert told[name] == ("" if row[name] is None else str(row[name]))


def test_text_has_a_line_for_each_candidate(tiny_run, pictures: Path, capsys):
    file = pictures / "本 春" / f"{0:016x}.png"
    assert main([str(file), *model_of(tiny_run), "--top-k", "2"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    _, rows = rows_of(tiny_run, "--top-k", "2", str(file))
    for line, row in zip(lines, rows, strict=True):
        told = [row["path"], str(row["rank"]), row["character"], row["codepoint"]]
        assert line[:5] == [*told, f"{row['probability']:.4f}"]
    assert len(lines) == 2


def test_a_path_that_is_not_there_is_a_row_among_others(tiny_run, pictures: Path):
    file = str(pictures / "本 春" / f"{0:016x}.png")
    missing = str(pictures / "本 春" / "zzz.png")
    status, rows = rows_of(tiny_run, missing, "--top-k", "1", file)
    assert status == 1
    assert [(row["path"], row["error"]) for row in rows] == [(missing, "no such file"), (file, "")]


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--review", "r.html"), ("--annotate", "a.png"), ("--base-url", "https://example.org")],
)
def test_what_a_cluster_does_not_do_is_refused_and_not_left_out(
    flag: str, value: str, tmp_path: Path, capsys
):
    boxes = ["--boxes", "b.csv"] if flag == "--annotate" else []
    out = ["--engine", "ray", "--out", str(tmp_path / "out")]
    assert main(["page.png", flag, value, *boxes, *out]) == 1
    assert f"{flag} is not for --engine ray: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "model", "expected"),
    [
        ("nowhere.png", "run", "nowhere.png: no such file"),
        ("hollow", "run", "no images in this folder"),
        ("hollow/pipe", "run", "neither a file nor a folder"),
        ("", None, "the package's model is missing"),
        ("", "hollow", "is no model"),
    ],
)
def test_what_can_give_nothing_is_one_line(
    path: str,
    model: str | None,
    expected: str,
    tiny_run,
    pictures: Path,
    tmp_path: Path,
    capsys,
    monkeypatch,
):
    monkeypatch.setattr(trained, "PRETRAINED", tmp_path / "gone")
    (tmp_path / "hollow").mkdir()
    os.mkfifo(tmp_path / "hollow/pipe")
    argv = [str(tmp_path / path) if path else str(pictures)]
    if model:
        argv += ["--model", str(tiny_run.workdir if model == "run" else tmp_path / model)]
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and expected in err


def test_a_top_k_of_nothing_is_refused_and_a_large_one_gives_all_classes(
    tiny_run, pictures: Path, capsys
):
    argv = [str(pictures / "本 春" / f"{0:016x}.png"), *model_of(tiny_run)]
    assert main([*argv, "--top-k", "0"]) == 1
    assert "--top-k" in capsys.readouterr().err
    assert main([*argv, "--top-k", "99"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.mark.parametrize("flag", ["--out", "--annotate", "--show-steps", "--review"])
@pytest.mark.parametrize("end", ["/", "//", "/."])
def test_a_name_that_ends_in_a_slash_is_a_folder_and_not_a_file(
    flag: str, end: str, pictures: Path, tmp_path: Path, capsys
):
    out = f"{tmp_path}/new.{'html' if flag == '--review' else 'png'}{end}"
    page = pictures / "empty paper.jpg"
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("id,x,y,width,height\n1,1,1,20,20\n")
    assert main([str(page), "--boxes", str(boxes), flag, out]) == 1
    told = capsys.readouterr()
    assert told.err == f"error: {flag} {out} names a folder: expected the name of a file\n"
    assert told.out == "" and list(tmp_path.iterdir()) == [boxes]


def test_an_empty_name_is_refused_and_not_standard_output(pictures: Path, capsys):
    assert main([str(pictures / "empty paper.jpg"), "--out", ""]) == 1
    assert capsys.readouterr() == ("", "error: --out is empty: expected the name of a file\n")


def test_an_image_without_ink_is_one_line_and_counted(tiny_run, pictures: Path, capsys):
    assert main([str(pictures / "empty paper.jpg"), *model_of(tiny_run)]) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert line.endswith("blank") and "1 of 1 images have no ink" in err


def test_a_result_file_appears_only_when_whole(tiny_run, pictures: Path, tmp_path, monkeypatch):
    def interrupted(*args, **more):
        raise ValueError("stopped")

    monkeypatch.setattr("kkanji_jax.inference.recogniser.Recogniser.readings_of", interrupted)
    argv = [str(pictures), *model_of(tiny_run), "--out", str(tmp_path / "out.csv")]
    assert main(argv) == 1
    assert not list(tmp_path.iterdir())


def in_a_process(without_jax: str, pictures: Path) -> subprocess.Popen:
    """The door in its own process, in a locale that has no Japanese."""
    code = f"{without_jax}\nfrom kkanji_jax.predict import run\nrun()"
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(pictures), "--format", "jsonl"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_output_is_utf8_whatever_the_locale(without_jax: str, pictures: Path):
    process = in_a_process(without_jax, pictures)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err.decode()
    rows = [json.loads(line) for line in out.decode("utf-8").splitlines()]
    assert {row["character"] for row in rows if not row["error"]} == {"春"}
    assert any("本 春" in row["path"] for row in rows)


def test_a_reader_that_leaves_early_gets_no_complaint(without_jax: str, pictures: Path):
    process = in_a_process(without_jax, pictures)
    assert process.stdout and process.stderr
    process.stdout.close()  # before a byte is written, as `| true` does
    err = process.stderr.read().decode()
    assert process.wait(timeout=120) == 1
    process.stderr.close()
    assert "Traceback" not in err and "BrokenPipe" not in err


def test_what_is_passed_over_or_lacking_is_told_once(tiny_run, pictures: Path, capsys, tmp_path):
    (tmp_path / "list.txt").write_text("春 夏 犬 猫", encoding="utf-8")
    argv = [str(pictures), *model_of(tiny_run), "--chars", str(tmp_path / "list.txt")]
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert err.count("passed over in folders, being no images: 1 .txt\n") == 1
    assert "lacks 2 of the characters in" in err and "犬 U+72AC 猫 U+732B\n" in err


def test_boxes_without_their_page_are_rows(tiny_run, pictures: Path, tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "image;x;y;w;h;id\nempty paper;1;1;30;30;a\nEmpty Paper.jpg;1;1;30;30;b\n"
    )
    argv = ["--boxes", str(tmp_path / "boxes.csv"), str(pictures / "empty paper.jpg")]
    status, rows = rows_of(tiny_run, "--top-k", "1", *argv)
    assert status == 1
    assert [(row["id"], bool(row["error"])) for row in rows] == [("a", False), ("b", True)]


def test_pages_of_a_pdf_are_read_and_annotated_by_their_boxes(tiny_run, tmp_path, capsys):
    pytest.importorskip("pypdfium2")
    page = Image.new("L", (200, 300), 255)
    page.paste(0, (50, 50, 60, 100))
    page.save(tmp_path / "a.pdf", save_all=True, append_images=[page], resolution=300)
    (tmp_path / "boxes.csv").write_text("image,x,y,w,h,id\na.pdf#2,40,40,40,70,two\n")
    argv = ["--boxes", str(tmp_path / "boxes.csv"), "--annotate", str(tmp_path / "out.png")]
    assert main([str(tmp_path / "a.pdf"), *argv, *model_of(tiny_run)]) == 1
    assert "--annotate needs one page" in capsys.readouterr().err
    assert main([f"{tmp_path / 'a.pdf'}#2", *argv, *model_of(tiny_run), "--top-k", "1"]) == 0
    assert "a.pdf#2#40,40,40,70 two" in capsys.readouterr().out
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (200, 300)
