"""Boxes as people write them down, and the crops they cut out of a page."""

import csv
import io
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.answers.row_formats import RowFormat, write_rows
from kkanji_jax.answers.rows import Row
from kkanji_jax.inputs import box_crops as boxes_lib
from kkanji_jax.inputs.box_crops import BoxesByPage, crops_of
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages.box import Box
from kkanji_jax.pages.box_files import read_boxes

WRITTEN = {
    "x,y,w,h\n10,20,30,40\n": [Box(10, 20, 30, 40)],
    "\ufeffID,X,Y,W,H\n 7 ,1,2,3,4\n\n=a,5,6,7,8\n": [
        Box(1, 2, 3, 4, " 7 "),
        Box(5, 6, 7, 8, "=a"),
    ],
    "x1,y1,x2,y2,char\n1467,1750,1581,1851,む\n": [Box(1467, 1750, 114, 101)],
    "image,x,y,w,h\np 1.jpg,1.4,2.6,3,4\n": [Box(1, 3, 3, 4, "", "p 1.jpg")],
    "Unicode,Image,X,Y,Block ID,Char ID,Width,Height\nU+306F,p1,3,4,B1,C9,5,6\n": [
        Box(3, 4, 5, 6, "C9", "p1")
    ],
    "U+306F 1231 3465 133 53 U+304C 275 1652 84 69": [
        Box(1231, 3465, 133, 53, "U+306F"),
        Box(275, 1652, 84, 69, "U+304C"),
    ],
    "X;Y;W;H;id\n1,5;2;3;4,4;a,b\n": [Box(2, 2, 3, 4, "a,b")],
    "image\txmin\tymin\txmax\tymax\tid\np1\t1\t2\t11\t22\t'=1 \n": [
        Box(1, 2, 10, 20, "'=1 ", "p1")
    ],
    "filename,width,height,class,xmin,ymin,xmax,ymax\np.jpg,99,99,a,1,2,11,22\n": [
        Box(1, 2, 10, 20, "", "p.jpg")
    ],
    '{"images": [{"id": 7, "file_name": "scans/p1.jpg"}], "annotations": [{"id": '
    '123456789012345678901, "image_id": 7, "bbox": [1.5, 2, 3, 4]}, {"id": "\\u3042 ", '
    '"image_id": 7, "bbox": [5, 6, 7, 8.4]}]}': [
        Box(2, 2, 3, 4, "123456789012345678901", "scans/p1.jpg"),
        Box(5, 6, 7, 8, "あ ", "scans/p1.jpg"),
    ],
    '[{"id": 1.50, "image_id": "p1", "bbox": [1, 2, 3, 4]}, {"bbox": [1, 2, 3, 4]}]': [
        Box(1, 2, 3, 4, "1.50", "p1"),
        Box(1, 2, 3, 4),
    ],
    "image_id,labels\np1,U+306F 1 2 3 4 U+304C 5 6 7 8\nempty,\n": [
        Box(1, 2, 3, 4, "U+306F", "p1"),
        Box(5, 6, 7, 8, "U+304C", "p1"),
    ],
}


@pytest.mark.parametrize("text", WRITTEN)
def test_every_way_of_writing_boxes_is_understood(text: str, tmp_path: Path):
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    assert read_boxes(tmp_path / "boxes.csv") == WRITTEN[text]


def test_rows_of_predict_are_boxes_again_one_for_all_candidates(tmp_path: Path):
    rows = [
        Row("scans/p1.jpg", rank, "春", "U+6625", 0.5, "ask", id="=a", box=(3, 4, 50, 60))
        for rank in (1, 2, 3)
    ]
    rows.append(Row("scans/p1.jpg", verdict="blank", id="b", box=(-2, 0, 9, 9)))
    out = tmp_path / "rows.csv"
    with out.open("w", encoding="utf-8") as file:
        write_rows(rows, file, RowFormat("csv"))
    expected = [Box(3, 4, 50, 60, "=a", "scans/p1.jpg"), Box(-2, 0, 9, 9, "b", "scans/p1.jpg")]
    assert read_boxes(out) == expected
    out.write_text("path,rank,box\np1,1,3 4 50\n")
    with pytest.raises(ValueError, match="line 2: expected a number for h"):
        read_boxes(out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "no boxes in"),
        (b"x,y,w,h\n", "no boxes in"),
        (b"left,top,width,height\n1,2,3,4\n", "line 2: expected a CSV file with a heading of x,y"),
        (b"x,y,w,h\n1,2,3,4\n1,2,wide,4\n", "line 3: expected a number for w, got 'wide'"),
        (b"x,y,w,h\n1,2,3\n", "line 2: expected a number for h, got ''"),
        (b"x,y,w,h\n1,2,inf,4\n", "expected a number for w"),
        (b"image_id,labels\np,U+306F 1 2 3\n", "line 2: expected U+XXXX x y w h"),
        (b"id,x,y,w,h\n\xa0\xfd,1,2,3,4\n\x82", "is neither UTF-8 nor CP932"),
        (b'x,y,w,h\n"1,234",2,3,4\n', "line 2: expected a number for x, got '1,234'"),
        (b"{", "is no JSON"),
        (b"{}", "is JSON with nothing in it, of no program known here"),
        (b'{"annotations": 7}', "has no list of annotations"),
        (b'[{"bbox": [1, 2, 3]}]', "annotation 0: expected a bbox of [x, y, width, height]"),
        (b'[{"bbox": [1, 2, 3, "x"]}]', "annotation 0: expected a number for h, got 'x'"),
        (b"[7]", "annotation 0: expected an object with bbox"),
        (
            b'{"images": [{"id": 1, "file_name": "a"}], "annotations": '
            b'[{"bbox": [1, 2, 3, 4], "image_id": 2}]}',
            "image_id 2 is not among the images",
        ),
    ],
)
def test_what_is_no_list_of_boxes_is_named_with_its_line(
    text: bytes, expected: str, tmp_path: Path
):
    (tmp_path / "boxes.csv").write_bytes(text)
    with pytest.raises(ValueError) as told:
        read_boxes(tmp_path / "boxes.csv")
    assert expected in str(told.value) and "boxes.csv" in str(told.value)


@pytest.mark.parametrize("encoding", ["cp932", "utf-16", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("name", ["春", " 0012", "'=a", 'a"b', "１", "a\rb", "#"])
def test_ids_are_untouched_in_every_encoding(name: str, encoding: str, tmp_path: Path):
    content = io.StringIO(newline="")
    csv.writer(content, quoting=csv.QUOTE_ALL).writerows([["id", *"xywh"], [name, 1, 2, 3, 4]])
    (tmp_path / "boxes.csv").write_bytes(content.getvalue().encode(encoding))
    assert read_boxes(tmp_path / "boxes.csv") == [Box(1, 2, 3, 4, name)]


def test_a_cell_beyond_the_usual_limit_is_read(tmp_path: Path):
    labels = " ".join(["U+306F 1 2 3 4"] * 20_000)
    (tmp_path / "boxes.csv").write_text(f"image_id,labels\np1,{labels}\n")
    assert len(read_boxes(tmp_path / "boxes.csv")) == 20_000


def test_boxes_that_name_a_page_belong_to_it_alone():
    boxes = [
        Box(1, 1, 1, 1, "a", "p1"),
        Box(1, 1, 1, 1, "b", "p2.jpg"),
        Box(1, 1, 1, 1, "c"),
        Box(1, 1, 1, 1, "d", "scans/p1.png"),
        Box(1, 1, 1, 1, "e", "other/p1.png"),
    ]
    by_page = BoxesByPage(boxes)
    assert [box.id for box in by_page.of("/all/scans/p1.png")] == ["a", "c", "d"]
    assert [box.id for box in by_page.of("scans/p2.jpg")] == ["b", "c"]
    assert [(box.id, error) for box, error in by_page.unmet()] == [
        (
            "e",
            "the file of boxes names a page that is not among those given; there is p1.png",
        )
    ]


def test_boxes_of_a_page_that_does_not_come_are_rows_with_an_error(page: Path):
    named = ["page", "PAGE.png", "page.jpg", "elsewhere/page.png", "other", "日本"]
    boxes = [Box(0, 0, 9, 9, str(number), name) for number, name in enumerate(named)]
    good, *bad = crops_of([ImageInput(str(page))], boxes)
    assert good.id == "0" and not good.error
    assert [(f.path, f.id, f.box) for f in bad] == [
        (name, str(number), (0, 0, 9, 9)) for number, name in enumerate(named) if number
    ]
    assert ["there is page.png" in f.error for f in bad] == [True, True, True, False, False]
    assert all("not among those given" in f.error for f in bad)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["がく.jpg", "がく", "本/がく.jpg"])
def test_a_page_is_found_however_unicode_composes_its_name(name: str, form: Literal["NFC", "NFD"]):
    other = "NFD" if form == "NFC" else "NFC"
    by_page = BoxesByPage([Box(1, 1, 1, 1, "a", unicodedata.normalize(form, name))])
    page = unicodedata.normalize(other, "scans/本/がく.jpg")
    for _ in range(2):  # a page may be given twice
        assert [box.id for box in by_page.of(page)] == ["a"]
    assert not list(by_page.unmet())


def test_names_that_differ_only_by_composition_are_two_pages_where_both_are_there():
    nfc, nfd = (unicodedata.normalize(form, "がく.jpg") for form in ("NFC", "NFD"))
    by_page = BoxesByPage([Box(1, 1, 1, 1, "a", nfc), Box(1, 1, 1, 1, "b", nfd)])
    assert [box.id for box in by_page.of(nfc)] == ["a"]
    assert [box.id for box in by_page.of(nfd)] == ["b"]
    alone = BoxesByPage([Box(1, 1, 1, 1, "b", nfd)])
    assert [box.id for box in alone.of(nfd)] == ["b"] and not alone.of(nfc)


def test_the_hint_names_a_page_whose_name_is_composed_otherwise():
    by_page = BoxesByPage([Box(1, 1, 1, 1, "", unicodedata.normalize("NFC", "がく.png"))])
    page = unicodedata.normalize("NFD", "がく.jpg")
    assert not by_page.of(page)
    ((_, error),) = by_page.unmet()
    assert error.endswith(f"; there is {page}")


def test_pages_that_no_box_names_take_no_memory():
    by_page = BoxesByPage([Box(1, 1, 1, 1, "a", "P7.png"), Box(1, 1, 1, 1, "b", "book_3/p0000009")])
    tracemalloc.start()
    try:
        for number in range(2000):
            by_page.of(f"/shared/scans/library/book_{number}/p{number:07d}.jpg")
        by_page.of("scans/p7.png")
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 2000 * 10
    told = [error.partition("; ")[2] for _, error in by_page.unmet()]
    assert told == ["there is p7.png", "there is p0000009.jpg"]


@pytest.fixture
def page(tmp_path: Path, rng: np.random.Generator) -> Path:
    Image.fromarray(rng.integers(0, 256, (60, 90), np.uint8)).save(tmp_path / "page.png")
    return tmp_path / "page.png"


def test_crops_are_the_pages_pixels_and_cut_at_its_edge(page: Path):
    pixels = np.asarray(Image.open(page))
    boxes = [Box(5, 7, 20, 30, "inside"), Box(80, -4, 20, 10, "over the edge")]
    inside, over = crops_of([ImageInput(str(page))], boxes)
    np.testing.assert_array_equal(inside.image, pixels[7:37, 5:25])
    np.testing.assert_array_equal(over.image, pixels[0:6, 80:90])
    assert (inside.id, inside.box, over.box) == ("inside", (5, 7, 20, 30), (80, -4, 20, 10))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(90, 0, 5, 5), "outside the page, which is 90 x 60"),
        (Box(-9, 0, 9, 5), "outside the page"),
        (Box(0, 0, 0, 5), "the box is empty"),
        (Box(10, 10, 5, -5), "the box is empty"),
    ],
)
def test_a_box_that_cuts_out_nothing_is_an_error_among_others(box: Box, expected: str, page: Path):
    bad, good = crops_of([ImageInput(str(page))], [box, Box(0, 0, 9, 9)])
    assert expected in bad.error and bad.image is None
    assert not good.error and good.image.shape == (9, 9)


def test_a_page_that_cannot_be_read_or_has_no_boxes_is_an_error_among_others(page: Path):
    broken = page.with_name("broken.png")
    broken.write_text("no image")
    pages = [ImageInput(str(broken)), ImageInput("gone.png", "no such file"), ImageInput(str(page))]
    boxes = [Box(0, 0, 9, 9, "", "broken"), Box(0, 0, 9, 9, "", "page"), Box(1, 1, 1, 1, "", "x")]
    told = [(found.path, found.error[:22]) for found in crops_of(pages, boxes)]
    assert told == [
        (str(broken), "expected an image (PNG"),
        ("gone.png", "no such file"),
        (str(page), ""),
        ("x", "the file of boxes name"),
    ]
    none, _ = crops_of([ImageInput(str(page))], [Box(0, 0, 9, 9, "", "other")])
    assert "has none for this page" in none.error


def test_a_large_scan_is_a_page_but_no_single_character(tmp_path: Path):
    from kkanji_jax.glyphs.image_files import load_image

    scan = tmp_path / "scan.png"
    Image.new("1", (5616, 3744), 1).save(scan)
    with pytest.raises(ValueError, match="expected at most"):
        load_image(scan)
    (found,) = crops_of([ImageInput(str(scan))], [Box(5000, 3000, 100, 100)])
    assert found.image.shape == (100, 100)
    assert boxes_lib.MAX_PAGE_PIXELS < 2 * 89_478_485  # where Pillow itself refuses
