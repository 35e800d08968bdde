"""The demo corpus as it ships, and the script that made it (where the fonts are at hand)."""

import csv
import hashlib
import io
import os
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

DEMO = Path(str(files("kkanji_jax"))) / "demo"
FONTS = os.environ.get("KKANJI_FONTS", "")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with open(DEMO / "splits.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    """Every image by sample_id, as a dataset holds it, read without the project's own readers."""
    found = {}
    with tarfile.open(DEMO / "kkanji.tar") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            picture = Image.open(io.BytesIO(file.read()))
            assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (64, 64))
            sample_id = member.name.replace("kkanji2/", "kkanji/").removesuffix(".png")
            found[sample_id] = np.asarray(picture)
    for half in ("train", "test"):
        for row, image in enumerate(np.load(DEMO / f"k49-{half}-imgs.npz")["arr_0"]):
            big = Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)
            found[f"k49-{half}/{row:06d}"] = np.asarray(big)
    return found


@pytest.fixture
def maker(load_script: Callable[[str], ModuleType]) -> ModuleType:
    pytest.importorskip("cv2")
    return load_script("demo/make_demo")


def test_the_folder_is_at_most_four_megabytes() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir() if path.is_file()) <= 4e6


def test_the_tar_names_its_members_as_codh_does_and_carries_no_clock_or_owner() -> None:
    with tarfile.open(DEMO / "kkanji.tar", "r:") as archive:
        members = archive.getmembers()
    for member in members:
        assert re.fullmatch(r"kkanji2/U\+[0-9A-F]{4,5}/[0-9a-f]{16}\.png", member.name)
        assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
    assert [member.name for member in members] == sorted(member.name for member in members)


def test_kanji_classes_have_a_long_tail() -> None:
    with tarfile.open(DEMO / "kkanji.tar") as archive:
        sizes = Counter(member.name.split("/")[1] for member in archive.getmembers())
    assert 90 <= len(sizes) <= 110
    assert min(sizes.values()) == 8 and max(sizes.values()) == 60
    assert np.median(list(sizes.values())) < np.mean(list(sizes.values()))


def test_the_kana_arrays_have_the_shapes_and_labels_of_kuzushiji_49() -> None:
    with open(DEMO / "k49_classmap.csv", newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["index", "codepoint", "char"]
        classes = list(reader)
    assert [row["index"] for row in classes] == [str(i) for i in range(len(classes))]
    assert all(row["codepoint"] == f"U+{ord(row['char']):04X}" for row in classes)
    for half in ("train", "test"):
        pixels = np.load(DEMO / f"k49-{half}-imgs.npz")["arr_0"]
        labels = np.load(DEMO / f"k49-{half}-labels.npz")["arr_0"]
        assert pixels.dtype == labels.dtype == np.uint8
        assert pixels.shape == (len(labels), 28, 28)
        assert set(labels.tolist()) == set(range(len(classes)))


def test_splits_name_every_image_once_with_its_pixels_and_its_label(
    rows: list[dict[str, str]], images: dict[str, np.ndarray]
) -> None:
    assert [row["sample_id"] for row in rows] == sorted(images)
    with open(DEMO / "k49_classmap.csv", newline="", encoding="utf-8") as file:
        kana = [row["codepoint"] for row in csv.DictReader(file)]
    labels = {half: np.load(DEMO / f"k49-{half}-labels.npz")["arr_0"] for half in ("train", "test")}
    for row in rows:
        sample_id = row["sample_id"]
        assert row["parent_id"] == sample_id
        assert row["pixels_sha256"] == hashlib.sha256(images[sample_id].tobytes()).hexdigest()
        source, _, rest = sample_id.partition("/")
        if source == "kkanji":
            assert rest.startswith(row["codepoint"] + "/")
        else:
            assert kana[labels[source.removeprefix("k49-")][int(rest)]] == row["codepoint"]


def test_no_two_images_have_the_same_pixels_and_none_is_blank(
    rows: list[dict[str, str]], images: dict[str, np.ndarray]
) -> None:
    assert len({row["pixels_sha256"] for row in rows}) == len(rows)
    for sample_id, image in images.items():
        share_of_ink = (image > 127).mean()
        assert 0.01 < share_of_ink < 0.5, f"{sample_id}: white ink on black, {share_of_ink}"


def test_every_class_is_in_every_split_and_kana_test_rows_are_the_test_arrays(
    rows: list[dict[str, str]],
) -> None:
    splits_of = defaultdict(set)
    for row in rows:
        splits_of[row["codepoint"]].add(row["split"])
        if row["sample_id"].startswith("k49-"):
            assert row["sample_id"].startswith("k49-test/") == (row["split"] == "test")
    assert all(splits == {"train", "val", "test"} for splits in splits_of.values())
    shares = Counter(row["split"] for row in rows)
    assert 0.68 < shares["train"] / len(rows) < 0.72
    assert 0.18 < shares["test"] / len(rows) < 0.22


def test_the_readme_says_that_the_corpus_is_synthetic_and_in_the_public_domain() -> None:
    text = " ".join((DEMO / "README.md").read_text(encoding="utf-8").lower().split())
    assert "synthetic" in text and "public domain" in text


def test_no_book_stands_in_two_splits(maker: ModuleType) -> None:
    shelves = maker.make_shelves(0)
    numbers = [book.number for shelf in shelves.values() for book in shelf.books]
    assert len(numbers) == len(set(numbers)) == 36
    for label, size in (("一", 60), ("海", 8), ("か", 160)):
        examples = maker.plan_class(0, label, size, shelves)
        assert len(examples) == size
        for example in examples:
            assert example.book in shelves[example.split].books


def test_no_kanji_class_is_also_written_for_a_kana(maker: ModuleType) -> None:
    parents = "".join(maker.KANA.values())
    assert not set(parents) & set(maker.KANJI)
    assert len(set(parents)) == len(parents) and len(set(maker.KANJI)) == len(maker.KANJI)


def test_the_png_encoder_is_read_back_by_pillow(maker: ModuleType) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(maker.encode_png(image)))), image)


def test_a_missing_font_is_one_line_and_status_one(
    maker: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert maker.main(["--fonts", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: expected the font") and error.count("\n") == 1


@pytest.mark.skipif(not FONTS, reason="KKANJI_FONTS names no folder with the brush fonts")
def test_an_image_depends_on_its_address_only_and_a_copy_differs(maker: ModuleType) -> None:
    shelves = maker.make_shelves(0)
    example = maker.plan_class(0, "春", 10, shelves)[0]
    other = maker.plan_class(0, "の", 10, shelves)[0]
    first = maker.draw(maker.Brush([Path(FONTS)]), 0, example)
    brush = maker.Brush([Path(FONTS)])
    maker.draw(brush, 0, other)
    assert np.array_equal(maker.draw(brush, 0, example), first)
    copy = maker.draw(brush, 0, example._replace(copy=example.copy + 1))
    assert not np.array_equal(copy, first)


@pytest.mark.slow
@pytest.mark.skipif(not FONTS, reason="KKANJI_FONTS names no folder with the brush fonts")
def test_the_script_writes_the_pixels_and_splits_that_ship(
    maker: ModuleType, tmp_path: Path
) -> None:
    assert maker.main(["--fonts", FONTS, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "splits.csv").read_bytes() == (DEMO / "splits.csv").read_bytes()
