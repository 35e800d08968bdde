"""labels.csv is a source: images and boxes on pages, by their lines, which win over folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.read import labelled_images
from data_tools.read.catalogue import BadFilesError, read_catalogue
from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.glyphs.image_files import load_picture


@pytest.fixture
def page(source) -> Image.Image:
    """scans/p1.png: two characters on paper."""
    page = Image.new("L", (300, 200), 220)
    for seed, left in ((1, 20), (2, 180)):
        glyph = Image.fromarray(source.draw(seed)).resize((90, 90))
        page.paste(Image.new("L", (90, 90), 40), (left, 50), glyph)
    (source.folder / "scans").mkdir()
    page.save(source.folder / "scans" / "p1.png")
    return page


def labels(source, *lines: str) -> None:
    source.add_file("labels.csv", "\n".join(["path,box,codepoint", *lines]).encode())


def test_boxes_and_files_are_read_as_predict_reads_them(source, page: Image.Image):
    source.add_file("one.png", source.png(source.draw(5, 100)))
    labels(
        source,
        "scans/p1.png,10 40 110 110,U+6625",
        "scans/p1.png,170 40 200 110,U+590F",
        "one.png,,U+6625",
    )
    found = read_catalogue(source.folder)
    ids = [original.sample_id for original in found.originals]
    assert ids == [
        "images/U+590F/scans/p1.png#170,40,200,110",
        "images/U+6625/one.png",
        "images/U+6625/scans/p1.png#10,40,110,110",
    ]
    pixels = np.frombuffer(found.originals[2].pixels, np.uint8).reshape(64, 64)
    np.testing.assert_array_equal(pixels, glyph_image(page.crop((10, 40, 120, 150))))
    assert pixels.any() and not found.findings


def test_each_box_is_cut_out_of_its_own_page(source, page: Image.Image):
    turned = page.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned.save(source.folder / "scans" / "p2.png")
    places = [f"scans/{name}.png,10 40 110 110,U+6625" for name in ("p1", "p2")]
    labels(source, *places)
    found = {
        o.sample_id.split("/")[-1][:2]: o.pixels for o in read_catalogue(source.folder).originals
    }
    for name, own in (("p1", page), ("p2", turned)):
        expected = glyph_image(own.crop((10, 40, 120, 150)))
        assert found[name] == expected.tobytes()
    assert found["p1"] != found["p2"]


def test_a_line_wins_over_the_folder_of_its_image(source):
    for name in ("a", "b"):
        source.add_file(f"crops/U+6625/{name}.png", source.png(source.draw(ord(name))))
    source.add_file("crops/labels.csv", b"path,codepoint\nU+6625/b.png,U+590F\n")
    found = read_catalogue(source.folder)
    told = {original.sample_id: original.codepoint for original in found.originals}
    assert told == {"crops/U+6625/a.png": "U+6625", "crops/U+590F/U+6625/b.png": "U+590F"}
    assert found.sources[0]["num_images"] == 2


def test_what_cannot_be_cut_out_is_listed_with_its_line(source, page: Image.Image):
    labels(
        source,
        "scans/p1.png,10 40 110 110,U+6625",
        "scans/p1.png,900 40 110 110,U+6625",
        "gone.png,,U+6625",
        "book.pdf#2,1 2 3 4,U+6625",
        ".,,U+6625",
    )
    with pytest.raises(BadFilesError) as told:
        read_catalogue(source.folder)
    problems = "\n".join(told.value.problems)
    assert (
        "line 3: the box (900, 40, 110, 110) is empty, or outside the page (300, 200)" in problems
    )
    assert (
        "line 4: no file gone.png" in problems
        and "line 5: book.pdf#2 is a page of a PDF" in problems
        and "line 6: no file ." in problems
    )
    found = read_catalogue(source.folder, skip_bad=True)
    assert len(found.originals) == 1 and len(found.findings) == 4


def test_a_page_is_opened_once_whatever_its_boxes_hold(
    source, page: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    source.add_file("scans/torn.png", b"torn")
    labels(
        source,
        *(f"scans/torn.png,{left} 0 10 10,U+6625" for left in range(3)),
        "scans/p1.png,900 40 110 110,U+6625",
        "scans/p1.png,901 40 110 110,U+6625",
        "scans/p1.png,10 40 110 110,U+6625",
    )
    opened: list[str] = []

    def load_and_note(file: Path, **options: int):
        opened.append(file.name)
        return load_picture(file, **options)

    monkeypatch.setattr(labelled_images, "load_picture", load_and_note)
    found = read_catalogue(source.folder, skip_bad=True)
    assert opened == ["torn.png", "p1.png"]
    assert len(found.originals) == 1 and len(found.findings) == 5


def test_a_table_of_another_kind_is_refused(source):
    source.add_file("labels.csv", b"who,what\na,b\n")
    with pytest.raises(ValueError, match="labels.csv: expected a heading with path and codepoint"):
        read_catalogue(source.folder)
    assert Path(source.folder).is_dir()
