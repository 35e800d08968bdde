"""One folder of CODH's files, in whichever of their forms, becomes one catalogue."""

import gzip
import hashlib
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_tools.read.catalogue import (
    BadFilesError,
    Catalogue,
    read_catalogue,
    stack_images,
    to_64px,
)


def findings(catalogue: Catalogue, rule: str) -> list[str]:
    return [finding.name for finding in catalogue.findings if finding.rule == rule]


def tar_of(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(folder, folder.name)
    return path


def test_originals_come_in_code_point_order_with_ids_that_say_where_from(source: Any):
    for codepoint in ("U+20B9F", "U+3402", "U+FA19"):  # not their order as text
        source.add_kanji(codepoint, 2)
    images = source.add_small("k49-test", [2, 0])
    source.add_small("k49-train", [1], first_seed=9)
    catalogue = read_catalogue(source.folder)
    assert [(o.sample_id, o.codepoint) for o in catalogue.originals] == [
        ("kkanji/U+3402/00", "U+3402"),
        ("kkanji/U+3402/01", "U+3402"),
        ("kkanji/U+FA19/00", "U+FA19"),
        ("kkanji/U+FA19/01", "U+FA19"),
        ("kkanji/U+20B9F/00", "U+20B9F"),
        ("kkanji/U+20B9F/01", "U+20B9F"),
        ("k49-train/000000", "U+304A"),
        ("k49-test/000000", "U+309D"),
        ("k49-test/000001", "U+3042"),
    ]
    first = catalogue.originals[0]
    assert first.pixels == source.draw(0x3402 * 1000).tobytes()
    assert first.pixels_sha256 == hashlib.sha256(first.pixels).hexdigest()
    last = catalogue.originals[-1]
    assert last.pixels == images[1].tobytes()
    assert last.pixels_sha256 == hashlib.sha256(to_64px(last.pixels)).hexdigest()
    assert [each["name"] for each in catalogue.sources] == ["kkanji", "k49-train", "k49-test"]
    assert catalogue.findings == []


def test_the_folder_and_the_tar_of_it_give_the_same_originals(source: Any, tmp_path: Path):
    for codepoint in ("U+20B9F", "U+6625"):
        source.add_kanji(codepoint, 3)
    source.add_file("kkanji2/U+6625/.DS_Store", b"x")
    from_folder = read_catalogue(source.folder)
    other = tmp_path / "other"
    other.mkdir()
    tar_of(source.folder / "kkanji2", other / "kkanji.tar")
    from_tar = read_catalogue(other)
    assert from_tar.originals == from_folder.originals
    assert findings(from_tar, "ignored") == ["kkanji2/U+6625/.DS_Store"]
    assert from_tar.findings == from_folder.findings
    (described,) = from_tar.sources
    assert described["files"][0]["file"] == "kkanji.tar"
    assert described["files"][0]["is_as_published"] is False


def test_where_folder_and_tar_are_both_there_the_folder_is_read_and_a_line_says_so(source: Any):
    source.add_kanji("U+6625", 1)
    source.add_file("kkanji.tar", b"never looked at")
    catalogue = read_catalogue(source.folder)
    assert len(catalogue.originals) == 1
    assert "the folder is read" in catalogue.notes[0]
    assert findings(catalogue, "ignored") == ["kkanji.tar"]


def test_idx_files_are_kmnist_in_another_form(source: Any):
    images = source.add_small("kmnist-test", [0, 1, 2, 1])
    from_npz = read_catalogue(source.folder)
    labels = np.array([0, 1, 2, 1], np.uint8)
    for name, array in (("t10k-images-idx3", images), ("t10k-labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        source.add_file(f"{name}-ubyte.gz", gzip.compress(header + array.tobytes()))
    both = read_catalogue(source.folder)
    assert both.originals == from_npz.originals
    assert "kmnist-test-imgs.npz is read, not its idx form" in both.notes[0]
    for path in source.folder.glob("*.npz"):
        path.unlink()
    assert read_catalogue(source.folder).originals == from_npz.originals


def test_junk_beside_the_images_is_ignored_and_counted(source: Any):
    source.add_kanji("U+6625", 1)
    for name in (
        "kkanji2/U+6625/._00.png",
        "kkanji2/U+6625/.DS_Store",
        "kkanji2/U+6625/Thumbs.db",
        "kkanji2/U+6625/notes.txt",
        "kkanji2/__MACOSX/U+6625/00.png",
        "kkanji2/.DS_Store",
        "kkanji2/stray.png",
        "labels_only/k49-train-labels.npz",
        "._k49-test-imgs.npz",
    ):
        source.add_file(name, b"junk")
    catalogue = read_catalogue(source.folder)
    assert len(catalogue.originals) == 1
    assert len(findings(catalogue, "ignored")) == 9
    assert "labels_only" in findings(catalogue, "ignored")


def test_upper_case_suffixes_are_images_too_but_one_id_cannot_be_two_files(source: Any):
    source.add_kanji("U+6625", 1)
    source.add_file("kkanji2/U+6625/01.PNG", source.png(source.draw(5)))
    ids = [original.sample_id for original in read_catalogue(source.folder).originals]
    assert ids == ["kkanji/U+6625/00", "kkanji/U+6625/01"]
    source.add_file("kkanji2/U+6625/00.PNG", source.png(source.draw(6)))
    with pytest.raises(BadFilesError, match="same sample id as another file, kkanji/U\\+6625/00"):
        read_catalogue(source.folder)


def test_every_bad_file_is_listed_before_anything_else_is_done(source: Any):
    source.add_kanji("U+6625", 3)
    whole = source.png(source.draw(1))
    for number, content in enumerate((b"", b"<html>", whole[:-20], whole[:-5] + b"xxxxx")):
        source.add_file(f"kkanji2/U+6765/bad{number}.png", content)
    source.add_file("kkanji2/U+6765/deep/er.png", whole)
    with pytest.raises(BadFilesError, match="cannot use 5 files or folders: .*--skip-bad") as err:
        read_catalogue(source.folder)
    names = [problem.partition(": ")[0] for problem in err.value.problems]
    assert names == [f"kkanji2/U+6765/bad{n}.png" for n in range(4)] + [
        "kkanji2/U+6765/deep/er.png"
    ]
    assert "\n" not in str(err.value)
    catalogue = read_catalogue(source.folder, skip_bad=True)
    assert findings(catalogue, "unreadable") == names
    assert len(catalogue.originals) == 3


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("u+5927", "U+5927"),
        ("5927", "U+5927"),
        ("U+5927 copy", "U+5927"),
        ("大", "U+5927"),
        ("U+D800", "surrogate"),
        ("U+110000", "at most U+10FFFF"),
        ("U+０１", "4 to 6 digits"),
    ],
)
def test_a_folder_that_is_no_code_point_stops_the_build_with_a_suggestion(
    source: Any, name: str, suggestion: str
):
    source.add_kanji("U+6625", 1)
    for number in range(3):
        source.add_file(f"kkanji2/{name}/{number}.png", source.png(source.draw(number)))
    with pytest.raises(BadFilesError) as err:
        read_catalogue(source.folder)
    (problem,) = err.value.problems  # one line a folder, not one a file
    assert problem.startswith(f"kkanji2/{name}: ") and suggestion in problem
    catalogue = read_catalogue(source.folder, skip_bad=True)
    assert findings(catalogue, "wrong_name") == [f"kkanji2/{name}"]
    assert len(catalogue.originals) == 1


def test_wrong_sizes_other_modes_and_empty_classes_are_findings(source: Any):
    source.add_kanji("U+6625", 1)
    source.add_file("kkanji2/U+6625/small.png", source.png(source.draw(1)[:32]))
    colour = Image.fromarray(source.draw(2)).convert("RGB")
    source.add_file("kkanji2/U+6625/colour.png", source.png(np.asarray(colour)))
    (source.folder / "kkanji2" / "U+6765").mkdir()
    catalogue = read_catalogue(source.folder)
    assert findings(catalogue, "wrong_size") == ["kkanji/U+6625/small"]
    assert findings(catalogue, "converted") == ["kkanji/U+6625/colour"]
    assert findings(catalogue, "empty_class") == ["kkanji2/U+6765/"]
    assert [o.sample_id for o in catalogue.originals] == [
        "kkanji/U+6625/00",
        "kkanji/U+6625/colour",
    ]


def test_a_class_folder_may_be_a_link(source: Any, tmp_path: Path):
    source.add_kanji("U+6625", 2)
    linked = tmp_path / "linked" / "kkanji2"
    linked.mkdir(parents=True)
    (linked / "U+6625").symlink_to(source.folder / "kkanji2" / "U+6625")
    assert read_catalogue(linked.parent).originals == read_catalogue(source.folder).originals


@pytest.mark.parametrize("missing", ["k49-test-imgs.npz", "k49-test-labels.npz"])
def test_half_of_a_pair_is_refused_by_the_name_of_the_missing_file(source: Any, missing: str):
    source.add_small("k49-test", [0, 1])
    (source.folder / missing).unlink()
    with pytest.raises(ValueError, match=f"{missing} is missing, but .* is there"):
        read_catalogue(source.folder)


def test_a_missing_class_map_is_refused_by_name(source: Any):
    source.add_small("kmnist-train", [0, 1])
    (source.folder / "kmnist_classmap.csv").unlink()
    with pytest.raises(ValueError, match="kmnist_classmap.csv is missing"):
        read_catalogue(source.folder)


def test_as_many_labels_as_images_are_wanted(source: Any):
    source.add_small("k49-test", [0, 1, 2])
    np.savez(source.folder / "k49-test-labels.npz", np.array([0, 1], np.uint8))
    with pytest.raises(ValueError, match="k49-test-imgs.npz has 3 images, .* 2 labels"):
        read_catalogue(source.folder)


def test_a_folder_of_nothing_is_refused_in_one_line(source: Any, tmp_path: Path):
    with pytest.raises(ValueError, match="nothing to read in .*kkanji.tar"):
        read_catalogue(source.folder)
    with pytest.raises(ValueError, match="no folder"):
        read_catalogue(tmp_path / "nowhere")
    source.add_file("kkanji2/readme.txt", b"x")
    with pytest.raises(ValueError, match="holds no image"):
        read_catalogue(source.folder)


def test_28_px_become_64_px_bicubically_and_clipped(source: Any):
    small = source.draw(3, 28)
    large = np.frombuffer(to_64px(small.tobytes()), np.uint8).reshape(64, 64)
    # Against the definition: the cubic kernel of a = -0.5, on pixel centres, edges renormalised.
    centres = (np.arange(64) + 0.5) * 28 / 64 - 0.5
    t = np.abs(centres[:, None] - np.arange(28))
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t <= 1, near, np.where(t < 2, far, 0))
    weights /= weights.sum(1, keepdims=True)
    across = np.clip(np.round(small @ weights.T), 0, 255)  # Pillow rounds and clips each pass
    expected = np.clip(weights @ across, 0, 255)
    assert np.abs(large - expected).max() <= 1.0
    assert large.min() == 0 and large.max() == 255


def test_different_28_px_images_stay_different_at_64_px(rng: np.random.Generator):
    image = rng.integers(0, 256, (28, 28), dtype=np.uint8)
    for row, column in ((0, 0), (13, 27), (27, 5)):
        other = image.copy()
        other[row, column] ^= 16
        assert to_64px(image.tobytes()) != to_64px(other.tobytes())


def test_images_of_both_sizes_are_stacked_at_64_px(source: Any):
    large, small = source.draw(1), source.draw(2, 28)
    stacked = stack_images([large.tobytes(), small.tobytes()])
    np.testing.assert_array_equal(stacked[0], large)
    assert stacked[1].tobytes() == to_64px(small.tobytes())


def test_the_real_files_hold_what_is_published_of_them(real_source: Path, tmp_path: Path):
    for path in real_source.iterdir():
        if path.is_file():
            (tmp_path / path.name).symlink_to(path)
    catalogue = read_catalogue(tmp_path)
    described = {each["name"]: each for each in catalogue.sources}
    assert described["kmnist-test"]["num_images"] == 10_000
    published = {f["file"]: f["is_as_published"] for f in described["kmnist-test"]["files"]}
    assert published["kmnist-test-imgs.npz"] and published["kmnist_classmap.csv"]
    counts = np.unique([o.codepoint for o in catalogue.originals if o.source == "kmnist-test"])
    assert len(counts) == 10
    at_28 = [o.pixels for o in catalogue.originals]
    assert len(set(at_28)) == len({o.pixels_sha256 for o in catalogue.originals})
