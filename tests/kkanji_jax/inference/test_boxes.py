"""Boxes as people write them down, and the crops they cut out of a page."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.inference import boxes as boxes_lib
from kkanji_jax.inference.boxes import Box, boxes_of, crops_of, read_boxes
from kkanji_jax.inference.inputs import Found

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
    "image_id,labels\np1,U+306F 1 2 3 4 U+304C 5 6 7 8\nempty,\n": [
        Box(1, 2, 3, 4, "U+306F", "p1"),
        Box(5, 6, 7, 8, "U+304C", "p1"),
    ],
}


@pytest.mark.parametrize("text", WRITTEN)
def test_every_way_of_writing_boxes_is_understood(text: str, tmp_path: Path):
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    assert read_boxes(tmp_path / "boxes.csv") == WRITTEN[text]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"", "no boxes in"),
        (b"x,y,w,h\n", "no boxes in"),
        (b"left,top,width,height\n1,2,3,4\n", "line 2: wanted a CSV file with a heading of x,y"),
        (b"x,y,w,h\n1,2,3,4\n1,2,wide,4\n", "line 3: wanted a number for w, got 'wide'"),
        (b"x,y,w,h\n1,2,3\n", "line 2: wanted a number for h, got ''"),
        (b"x,y,w,h\n1,2,inf,4\n", "wanted a number for w"),
        (b"image_id,labels\np,U+306F 1 2 3\n", "line 2: wanted U+XXXX x y w h"),
        ("id,x,y,w,h\n春,1,2,3,4\n".encode("cp932"), "is not UTF-8"),
    ],
)
def test_what_is_no_list_of_boxes_is_named_with_its_line(text: bytes, wanted: str, tmp_path: Path):
    (tmp_path / "boxes.csv").write_bytes(text)
    with pytest.raises(ValueError) as told:
        read_boxes(tmp_path / "boxes.csv")
    assert wanted in str(told.value) and "boxes.csv" in str(told.value)


def test_boxes_that_name_a_page_belong_to_it_alone():
    boxes = [Box(1, 1, 1, 1, "a", "p1"), Box(1, 1, 1, 1, "b", "p2.jpg"), Box(1, 1, 1, 1, "c")]
    assert [box.id for box in boxes_of(boxes, "scans/p1.png")] == ["a", "c"]
    assert [box.id for box in boxes_of(boxes, "scans/p2.jpg")] == ["b", "c"]


@pytest.fixture
def page(tmp_path: Path, rng: np.random.Generator) -> Path:
    Image.fromarray(rng.integers(0, 256, (60, 90), np.uint8)).save(tmp_path / "page.png")
    return tmp_path / "page.png"


def test_crops_are_the_pages_pixels_and_cut_at_its_edge(page: Path):
    pixels = np.asarray(Image.open(page))
    boxes = [Box(5, 7, 20, 30, "inside"), Box(80, -4, 20, 10, "over the edge")]
    inside, over = crops_of([Found(str(page))], boxes)
    np.testing.assert_array_equal(inside.image, pixels[7:37, 5:25])
    np.testing.assert_array_equal(over.image, pixels[0:6, 80:90])
    assert (inside.id, inside.box, over.box) == ("inside", (5, 7, 20, 30), (80, -4, 20, 10))


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        (Box(90, 0, 5, 5), "outside the page, which is 90 x 60"),
        (Box(-9, 0, 9, 5), "outside the page"),
        (Box(0, 0, 0, 5), "the box is empty"),
        (Box(10, 10, 5, -5), "the box is empty"),
    ],
)
def test_a_box_that_cuts_out_nothing_is_an_error_among_others(box: Box, wanted: str, page: Path):
    bad, good = crops_of([Found(str(page))], [box, Box(0, 0, 9, 9)])
    assert wanted in bad.error and bad.image is None
    assert not good.error and good.image.shape == (9, 9)


def test_a_page_that_cannot_be_read_or_has_no_boxes_is_an_error_among_others(page: Path):
    broken = page.with_name("broken.png")
    broken.write_text("no image")
    pages = [Found(str(broken)), Found("gone.png", "no such file"), Found(str(page))]
    boxes = [Box(0, 0, 9, 9, "", "broken"), Box(0, 0, 9, 9, "", "page"), Box(1, 1, 1, 1, "", "x")]
    told = [(found.path, found.error[:20]) for found in crops_of(pages, boxes)]
    assert told == [
        (str(broken), "wanted an image (PNG"),
        ("gone.png", "no such file"),
        (str(page), ""),
    ]
    (none,) = crops_of([Found(str(page))], [Box(0, 0, 9, 9, "", "other")])
    assert "has none for this page" in none.error


def test_a_large_scan_is_a_page_but_no_single_character(tmp_path: Path):
    from kkanji_jax.glyphs.image_files import load_image

    scan = tmp_path / "scan.png"
    Image.new("1", (5616, 3744), 1).save(scan)
    with pytest.raises(ValueError, match="wanted at most"):
        load_image(scan)
    (found,) = crops_of([Found(str(scan))], [Box(5000, 3000, 100, 100)])
    assert found.image.shape == (100, 100)
    assert boxes_lib.MAX_PAGE_PIXELS < 2 * 89_478_485  # where Pillow itself refuses
