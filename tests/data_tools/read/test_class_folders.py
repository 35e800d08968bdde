"""Any folder of U+XXXX/ images, and CODH's character shapes: read, named, and built end to end."""

import errno
import io
import json
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data_tools import build
from data_tools.plan.split import read_splits
from data_tools.read.catalogue import BadFilesError, Catalogue, read_catalogue
from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.glyphs.glyph_image import glyph_image


def findings(catalogue: Catalogue, rule: str) -> list[str]:
    return [finding.name for finding in catalogue.findings if finding.rule == rule]


def crop(source: Any, seed: int, kind: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    """Brown ink on yellowish paper with a shadow, as CODH's colour crops are, of uneven size."""
    ink = Image.fromarray(source.draw(seed)).resize((90 + seed % 7, 110)).crop((3, 0, 90, 110))
    ink = np.asarray(ink.filter(ImageFilter.GaussianBlur(1)), np.float64)[..., None] / 255
    paper = np.array([222, 205, 170]) - np.linspace(0, 30, ink.shape[0])[:, None, None]
    noise = np.random.default_rng(seed).normal(0, 4, ink.shape)
    colours = np.clip(paper * (1 - ink) + np.array([60, 45, 40]) * ink + noise, 0, 255)
    data = io.BytesIO()
    Image.fromarray(colours.astype(np.uint8)).convert(mode).save(data, kind, **options)
    return data.getvalue()


def add_book(source: Any, book: str, codepoint: str, count: int, first_seed: int = 0) -> None:
    for number in range(count):
        name = f"{codepoint}_{book}_{number // 4:05d}_1_X{number:04d}_Y0{number}12"
        path = f"{book}/characters/{codepoint}/{name}.jpg"
        source.add_file(path, crop(source, first_seed + number, quality=95))


def test_images_of_any_format_are_read_under_ids_that_are_their_paths(source: Any):
    own = source.draw(1)
    source.add_file("scans/U+6625/a.png", source.png(own))
    source.add_file("scans/U+6625/a.jpg", crop(source, 2))
    source.add_file("scans/U+6625/c.TIF", crop(source, 3, "TIFF", "CMYK"))
    source.add_file("scans/U+20B9F/d.webp", crop(source, 4, "WEBP"))
    source.add_file("scans/U+20B9F/e.png", crop(source, 5, "PNG", "P"))
    catalogue = read_catalogue(source.folder)
    assert [(o.sample_id, o.codepoint, o.source, o.book) for o in catalogue.originals] == [
        ("scans/U+6625/a.jpg", "U+6625", "scans", ""),
        ("scans/U+6625/a.png", "U+6625", "scans", ""),
        ("scans/U+6625/c.TIF", "U+6625", "scans", ""),
        ("scans/U+20B9F/d.webp", "U+20B9F", "scans", ""),
        ("scans/U+20B9F/e.png", "U+20B9F", "scans", ""),
    ]
    for original in catalogue.originals:
        expected = glyph_image(source.folder / original.sample_id)
        assert original.pixels == expected.tobytes()
        assert (np.frombuffer(original.pixels, np.uint8) > 128).mean() < 0.4  # white on black
    assert catalogue.originals[1].pixels == own.tobytes()  # taken as it is
    (described,) = catalogue.sources
    assert (described["num_images"], described["num_through_glyph_image"]) == (5, 4)


def test_class_folders_right_in_the_source_are_the_folder_images(source: Any, tmp_path: Path):
    source.add_file("U+6625/a.png", source.png(source.draw(1)))
    source.add_file("U+6625/deep.txt", b"x")
    source.add_file("notes/readme.md", b"x")
    catalogue = read_catalogue(source.folder)
    assert [o.sample_id for o in catalogue.originals] == ["images/U+6625/a.png"]
    assert findings(catalogue, "ignored") == ["images/U+6625/deep.txt", "notes"]
    assert "no rights.json" in catalogue.notes[0]
    moved = source.folder.rename(tmp_path / "elsewhere")
    assert (
        read_catalogue(moved).originals == catalogue.originals
    )  # ids do not name the machine's folder
    source.folder = moved
    source.add_file("images/U+6625/a.png", source.png(source.draw(2)))
    with pytest.raises(ValueError, match="the same sample ids"):
        read_catalogue(moved)


def test_a_folder_that_would_take_codh_s_ids_or_lose_the_book_is_refused(source: Any):
    png = source.png(source.draw(1))
    source.add_file("k49-test/U+6625/a.png", png)
    with pytest.raises(ValueError, match="named like a source of CODH.*rename it"):
        read_catalogue(source.folder)
    source.add_file("books/b1/characters/U+6625/U+6625_b1_1_X0_Y0.png", png)
    for part in ("books/b1", "books/b1/characters"):
        with pytest.raises(ValueError, match="give the folder that holds"):
            read_catalogue(source.folder / part)
    source.add_kanji("U+6625", 1)
    with pytest.raises(ValueError, match="give the folder that holds kkanji2/"):
        read_catalogue(source.folder / "kkanji2")


def test_crops_of_codh_s_layout_know_their_book(source: Any):
    add_book(source, "200003076", "U+6625", 3)
    add_book(source, "brsk00000", "U+20B9F", 2, first_seed=50)
    add_book(source, "brsk00000", "U+6625", 1, first_seed=60)
    source.add_file("200003076/images/200003076_00002_1.jpg", b"a page, never opened")
    source.add_file("200003076/200003076_coordinate.csv", b"x")
    source.add_kanji("U+6625", 1)
    catalogue = read_catalogue(source.folder)
    assert [(o.sample_id, o.book) for o in catalogue.originals] == [
        ("kkanji/U+6625/00", ""),
        ("char-shape/U+6625/U+6625_200003076_00000_1_X0000_Y0012", "200003076"),
        ("char-shape/U+6625/U+6625_200003076_00000_1_X0001_Y0112", "200003076"),
        ("char-shape/U+6625/U+6625_200003076_00000_1_X0002_Y0212", "200003076"),
        ("char-shape/U+6625/U+6625_brsk00000_00000_1_X0000_Y0012", "brsk00000"),
        ("char-shape/U+20B9F/U+20B9F_brsk00000_00000_1_X0000_Y0012", "brsk00000"),
        ("char-shape/U+20B9F/U+20B9F_brsk00000_00000_1_X0001_Y0112", "brsk00000"),
    ]
    described = catalogue.sources[-1]
    assert described["books"] == ["200003076", "brsk00000"]
    assert described["num_images"] == described["num_through_glyph_image"] == 6
    assert findings(catalogue, "ignored") == []


def test_crops_that_contradict_their_folders_are_all_listed(source: Any):
    add_book(source, "b1", "U+6625", 1)
    image = crop(source, 1)
    for name in ("U+6765_b1_1_X0_Y0", "U+6625_b2_1_X0_Y0", "U+6625_b1_1_X0", "春_b1_1_X0_Y0"):
        source.add_file(f"b1/characters/U+6625/{name}.jpg", image)
    with pytest.raises(BadFilesError) as err:
        read_catalogue(source.folder)
    assert len(err.value.problems) == 4
    assert "is named U+6765 of the book b1, but lies in U+6625 of b1" in err.value.problems[2]
    catalogue = read_catalogue(source.folder, skip_bad=True)
    assert len(findings(catalogue, "wrong_name")) == 4 and len(catalogue.originals) == 1


def bad_images(source: Any) -> dict[str, tuple[bytes, str]]:
    """Name -> content and the reason that is told."""
    png, jpeg = source.png(source.draw(1)), crop(source, 1)
    frames = [Image.fromarray(source.draw(n)) for n in range(3)]
    animation, bomb = io.BytesIO(), io.BytesIO()
    frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:])
    Image.new("1", (5000, 4000)).save(bomb, "TIFF", compression="group4")
    return {
        "empty.png": (b"", "is empty"),
        "html.jpg": (b"<!DOCTYPE html>", "expected an image"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "is damaged"),
        "cut.png": (png[:-14], "is cut short"),
        "flipped.png": (png[:60] + bytes([png[60] ^ 1]) + png[61:], "wrong checksum"),
        "animated.gif": (animation.getvalue(), "holds 3 frames"),
        "bomb.tif": (bomb.getvalue(), "expected at most 16777216 pixels"),
        "line\nbreak.png": (png, "no plain text"),
        "deep/er.png": (png, "inside its class folder"),
    }


def test_every_unusable_image_is_listed_with_its_reason(source: Any):
    source.add_file("mine/U+6625/good.png", source.png(source.draw(9)))
    bad = bad_images(source)
    for name, (content, _) in bad.items():
        source.add_file(f"mine/U+6625/{name}", content)
    source.add_file("mine/U+6625/._good.png", b"junk")
    with pytest.raises(BadFilesError) as err:
        read_catalogue(source.folder)
    told = dict(problem.split(": ", 1) for problem in err.value.problems)
    assert told.keys() == {f"mine/U+6625/{name}" for name in bad}
    for name, (_, reason) in bad.items():
        assert reason in told[f"mine/U+6625/{name}"]
    catalogue = read_catalogue(source.folder, skip_bad=True)
    assert len(catalogue.originals) == 1 and len(findings(catalogue, "unreadable")) == 7
    assert findings(catalogue, "ignored") == ["mine/U+6625/._good.png"]


@pytest.mark.parametrize(
    ("name", "suggestion"), [("u+5927", "U+5927"), ("U+０１", "4 to 6"), ("U+D800", "surrogate")]
)
def test_a_misnamed_class_folder_anywhere_stops_the_build(source: Any, name: str, suggestion: str):
    source.add_file(f"mine/{name}/a.png", source.png(source.draw(1)))
    with pytest.raises(BadFilesError, match=re.escape(f"mine/{name}: ")) as err:
        read_catalogue(source.folder)
    assert suggestion in str(err.value)


def test_books_are_built_end_to_end_and_every_image_is_traceable(source: Any, tmp_path: Path):
    for number, book in enumerate(("200003076", "brsk00000")):
        add_book(source, book, "U+6625", 6, first_seed=100 * number)
        add_book(source, book, "U+20B9F", 4, first_seed=100 * number + 50)
    source.add_file("mine/U+FA19/one.png", source.png(source.draw(7)))
    out = tmp_path / "out"
    assert build.main(["--source", str(source.folder), "--out", str(out), "--workers", "1"]) == 0
    manifest = load_manifest(out)
    assert [each["name"] for each in manifest["sources"]] == ["mine", "char-shape"]
    assert "10.20676/00000340" in manifest["attribution"]
    rows = (out / "splits.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(rows) == 21
    for row in rows:
        sample_id, codepoint, *_ = row.split(",")
        origin, folder, name = sample_id.split("/")
        path = source.folder / "mine" / folder / name
        if origin == "char-shape":
            book = name.split("_")[1]
            path = source.folder / book / "characters" / folder / f"{name}.jpg"
        assert folder == codepoint and path.is_file()
    index = json.loads((out / "index.json").read_text(encoding="utf-8"))["codepoint_to_id"]
    assert list(index) == ["春 (U+6625)", "\ufa19 (U+FA19)", "\U00020b9f (U+20B9F)"]


@pytest.mark.parametrize("where", ["kkanji2/U+6625", "mine/U+6625", "B1/characters/U+6625"])
def test_a_folder_that_cannot_be_listed_stops_the_build_and_is_no_empty_class(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "source" / where
    folder.mkdir(parents=True)
    scandir = os.scandir

    def refuse(path: Any) -> Any:  # root may list any folder, so the refusal is played
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    argv = ["--source", str(tmp_path / "source"), "--out", str(tmp_path / "out"), "--skip-bad"]
    assert build.main([*argv, "--workers", "1"]) == 1
    assert f"error: {folder}: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "rule"),
    [
        ("kkanji2/U+6625", "unreadable"),
        ("mine/U+6625", "wrong_name"),
        ("B1/characters/U+6625", "wrong_name"),
    ],
)
def test_a_link_to_a_folder_inside_a_class_folder_is_listed(source: Any, where: str, rule: str):
    png = source.png(source.draw(1))
    name = "U+6625_B1_1_X0_Y0.png"
    source.add_file(f"{where}/{name}", png)
    source.add_file("elsewhere/more/b.png", png)
    for link in ("more", ".hidden"):
        (source.folder / where / link).symlink_to(source.folder / "elsewhere/more")
    with pytest.raises(BadFilesError, match=f"{re.escape(where)}/more/: is a link to a folder"):
        read_catalogue(source.folder)
    catalogue = read_catalogue(source.folder, skip_bad=True)
    assert len(catalogue.originals) == 1
    assert findings(catalogue, rule) == [f"{where}/more/"]
    assert f"{where}/.hidden/" in findings(catalogue, "ignored")


def test_a_link_whose_images_a_table_labels_is_no_finding(source: Any):
    png = source.png(source.draw(1))
    source.add_file("elsewhere/more/b.png", png)
    source.add_file("mine/U+6625/a.png", png)
    (source.folder / "mine/U+6625/more").symlink_to(source.folder / "elsewhere/more")
    source.add_file("mine/labels.csv", b"path,codepoint\nU+6625/more/b.png,U+590F\n")
    catalogue = read_catalogue(source.folder)
    assert sorted(o.codepoint for o in catalogue.originals) == ["U+590F", "U+6625"]


@pytest.mark.parametrize("is_tar", [False, True])
@pytest.mark.parametrize("folder", ["kkanji2/U+6625", "mine/U+6625"])
def test_names_that_are_no_plain_text_are_listed_and_left_out(
    source: Any, folder: str, is_tar: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    names = ["a\rb.png", os.fsdecode(b"\xff.png")]
    for codepoint in ("U+6625", "U+5927"):
        source.add_kanji(codepoint, 6)
    for number, name in enumerate(names):
        source.add_file(f"{folder}/{name}", source.png(source.draw(100 + number)))
    if is_tar:
        pack_kkanji(source.folder)
    with pytest.raises(BadFilesError) as err:
        read_catalogue(source.folder)
    assert err.value.problems == [
        f"{folder}/{name}: has a name that is no plain text" for name in names
    ]
    out = tmp_path / "out"
    argv = ["--source", str(source.folder), "--out", str(out), "--workers", "1"]
    assert build.main(argv) == 1
    assert f"{folder}/a" in capsys.readouterr().err
    assert build.main([*argv, "--skip-bad"]) == 0
    found = json.loads((out / "audit.json").read_text("utf-8"))["rules"]["wrong_name"]
    assert [each["name"] for each in found["samples"]] == [f"{folder}/{name}" for name in names]
    rows = read_splits(out / "splits.csv")
    assert len(rows) == 12 and all(row.sample_id.isprintable() for row in rows)


def test_a_full_width_space_is_plain_text(source: Any):
    folder = "写本\u3000一"
    source.add_file(f"{folder}/U+6625/a\u3000b.png", source.png(source.draw(1)))
    source.add_file(f"{folder}/labels.csv", "path,codepoint\nU+6625/a\u3000b.png,U+6625\n".encode())
    (original,) = read_catalogue(source.folder).originals
    assert original.sample_id.endswith("a\u3000b.png")


def pack_kkanji(folder: Path) -> None:
    """Puts kkanji2/ into kkanji.tar."""
    with tarfile.open(folder / "kkanji.tar", "w") as tar:
        tar.add(folder / "kkanji2", "kkanji2")
    shutil.rmtree(folder / "kkanji2")


@pytest.mark.parametrize("inside", ["U+6625", "characters/U+6625"])
def test_a_source_whose_own_name_is_no_plain_text_is_refused(source: Any, inside: str):
    source.add_file(f"mi\rne/{inside}/a.png", source.png(source.draw(1)))
    with pytest.raises(ValueError, match="no plain text: rename it"):
        read_catalogue(source.folder)
