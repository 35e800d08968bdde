"""Files of boxes as other programs write them: small ones of the real shape, written by us."""

import json
from pathlib import Path
from typing import Any

import pytest

from kkanji_jax.answers.row_formats import RowFormat
from kkanji_jax.answers.rows import Row
from kkanji_jax.pages.box import Box, Canvas
from kkanji_jax.pages.box_files import read_boxes

LINE = "this box is {}, not one character: give boxes of single characters"
CANVAS = "https://example.org/iiif/book1/canvas/p1"

# ndlkotenocr-lite, src/ocr.py
KOTEN_LITE = {
    "contents": [
        [
            {
                "boundingBox": [[3717, 738], [3717, 1270], [3902, 738], [3902, 1270]],
                "id": 0,
                "isVertical": "true",
                "text": "春はあけぼの",
                "isTextline": "true",
                "confidence": 0.364,
            },
            {
                "boundingBox": [[1971, 1910], [1971, 2048], [2061, 1910], [2061, 2048]],
                "id": 6,
                "isVertical": "true",
                "text": "田",
                "isTextline": "true",
                "confidence": 0.32,
            },
        ]
    ],
    "imginfo": {
        "img_width": 5120,
        "img_height": 3680,
        "img_path": "../scans/p1.png",
        "img_name": "p1.png",
    },
}
KOTEN_BOXES = [
    Box(3717, 738, 185, 532, "0", "p1.png", trouble=LINE.format("a line of text of 6 characters")),
    Box(1971, 1910, 90, 138, "6", "p1.png"),
]
# ndlkotenocr_cli, cli/core/inference.py: with add_info and without
KOTEN_CLI = {"contents": KOTEN_LITE["contents"][0], "imginfo": {"img_width": 1, "img_height": 1}}
UNNAMED = [box._replace(image="") for box in KOTEN_BOXES]

KOTEN_XML = """<OCRDATASET>
<PAGE IMAGENAME="p1.png" WIDTH="5120" HEIGHT="3680">
  <TEXTBLOCK CONF="0.9"><SHAPE><POLYGON POINTS="1,1,2,1,2,2" /></SHAPE>
  <LINE TYPE="本文" X="3717" Y="738" WIDTH="185" HEIGHT="532" CONF="0.364" ORDER="0"
   STRING="春はあけぼの" />
  </TEXTBLOCK>
  <LINE TYPE="本文" X="1971" Y="1910" WIDTH="90" HEIGHT="138" CONF="0.320" ORDER="6" STRING="田" />
  <BLOCK TYPE="図版" X="1" Y="1" WIDTH="9" HEIGHT="9" CONF="0.9"></BLOCK>
  </PAGE>
</OCRDATASET>"""

# ndlkotenocr-lite, src/tools/ndlkoten2tei.py
KOTEN_TEI = """<?xml version="1.0" encoding="UTF-8"?>
<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader/>
 <facsimile><surface><graphic url="../my%20scans/p1.png" width="5120px" height="3680px" />
  <zone xml:id="L0000_000" ulx="3717" uly="738" lrx="3902" lry="1270" />
  <zone xml:id="L0000_006" ulx="1971" uly="1910" lrx="2061" lry="2048" /></surface></facsimile>
 <text><body><p>
  <pb n="p1.png" facs="#p1.png" />
  <lb n="0" facs="#L0000_000" />春はあけぼの
  <lb n="6" facs="#L0000_006" />田</p></body></text></TEI>"""

PAGE_XML = """<?xml version="1.0" encoding="UTF-8"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15">
 <Metadata><Creator>x</Creator></Metadata>
 <Page imageFilename="images\\p1.jpg" imageWidth="900" imageHeight="900">
  <ReadingOrder><OrderedGroup id="g"><RegionRefIndexed index="1" regionRef="left"/>
   <RegionRefIndexed index="0" regionRef="right"/></OrderedGroup></ReadingOrder>
  <TextRegion id="left"><Coords points="0,0 90,0 90,900 0,900"/>
   <TextLine id="l2"><Coords points="10,10 60,10 60,300"/>
    <TextEquiv><Unicode>あけぼの</Unicode></TextEquiv></TextLine></TextRegion>
  <TextRegion id="right"><Coords points="100,0 190,0 190,900 100,900"/>
   <TextLine id="l1"><Coords points="100,0 190,0 190,900"/>
    <Word id="w1"><Coords points="100,0 190,0 190,200"/>
     <Glyph id="g1"><Coords points="100,0 190,2 188,80 101,81"/>
      <TextEquiv conf="0.9"><Unicode>春</Unicode></TextEquiv></Glyph>
     <Glyph id="g2"><Coords points="100,90 190,90 190,180"/></Glyph></Word>
    <Word id="w2"><Coords points="100,200 180.4,200 180.4,290"/>
     <TextEquiv index="1"><Unicode>けり</Unicode></TextEquiv>
     <TextEquiv index="0"><Unicode>鳧</Unicode></TextEquiv></Word>
   </TextLine></TextRegion>
 </Page></PcGts>"""
PAGE_BOXES = [
    Box(100, 0, 90, 81, "g1", "p1.jpg", "l1"),
    Box(100, 90, 90, 90, "g2", "p1.jpg", "l1"),
    Box(100, 200, 80, 90, "w2", "p1.jpg", "l1"),
    Box(10, 10, 50, 290, "l2", "p1.jpg", "l2", LINE.format("a line of text of 4 characters")),
]
OLD_PAGE_XML = """<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2010-03-19">
<Page imageFilename="p1.tif" imageWidth="9" imageHeight="9"><TextRegion id="r1"><Coords>
<Point x="1" y="2"/><Point x="11" y="2"/><Point x="11" y="22"/></Coords></TextRegion></Page>
</PcGts>"""

ANNOTATION_PAGE = {
    "@context": "http://iiif.io/api/presentation/3/context.json",
    "id": "https://example.org/anno/p1",
    "type": "AnnotationPage",
    "items": [
        {
            "id": "https://example.org/anno/1",
            "type": "Annotation",
            "motivation": "supplementing",
            "body": {"type": "TextualBody", "value": "春", "format": "text/plain"},
            "target": f"{CANVAS}#xywh=265,661,126,123",
        },
        {
            "id": "https://example.org/anno/2",
            "type": "Annotation",
            "motivation": ["supplementing"],
            "body": [{"type": "TextualBody", "value": "<p>はあけ</p>", "format": "text/html"}],
            "target": {
                "type": "SpecificResource",
                "source": {"id": CANVAS, "type": "Canvas"},
                "selector": {
                    "type": "FragmentSelector",
                    "conformsTo": "http://www.w3.org/TR/media-frags/",
                    "value": "xywh=pixel:1.5,2,30,40",
                },
            },
        },
        {
            "id": "https://example.org/anno/3",
            "type": "Annotation",
            "motivation": "commenting",
            "body": {"type": "TextualBody", "value": "is this a す?"},
            "target": {"type": "Canvas", "id": f"{CANVAS}#xywh=5,6,7,8"},
        },
        {"id": "whole", "type": "Annotation", "motivation": "commenting", "target": CANVAS},
    ],
}
ANNOTATED = [
    Box(265, 661, 126, 123, "https://example.org/anno/1", CANVAS),
    Box(
        *(2, 2, 30, 40, "https://example.org/anno/2", CANVAS),
        trouble=LINE.format("a line of text of 3 characters"),
    ),
    Box(5, 6, 7, 8, "https://example.org/anno/3", CANVAS),
]
ANNOTATION_LIST = {
    "@context": "http://iiif.io/api/presentation/2/context.json",
    "@id": "https://example.org/list/p1",
    "@type": "sc:AnnotationList",
    "resources": [
        {
            "@id": "a",
            "@type": "oa:Annotation",
            "motivation": "sc:painting",
            "resource": {"@type": "cnt:ContentAsText", "format": "text/plain", "chars": "春"},
            "on": f"{CANVAS}#xywh=1894,120,236,438",
        },
        {
            "@type": "oa:Annotation",
            "motivation": ["oa:commenting"],
            "resource": [{"@type": "dctypes:Text", "chars": "<p>?</p>", "format": "text/html"}],
            "on": [
                {
                    "@type": "oa:SpecificResource",
                    "full": CANVAS,
                    "selector": {
                        "@type": "oa:Choice",
                        "default": {"@type": "oa:FragmentSelector", "value": "xywh=1,2,3,4"},
                        "item": {"@type": "oa:SvgSelector", "value": "<svg/>"},
                    },
                }
            ],
        },
    ],
}
LISTED = [Box(1894, 120, 236, 438, "a", CANVAS), Box(1, 2, 3, 4, "", CANVAS)]

READ: dict[str, tuple[Any, list[Box]]] = {
    "Koten-OCR lite": (KOTEN_LITE, KOTEN_BOXES),
    "Koten-OCR with add_info": (KOTEN_CLI, UNNAMED),
    "Koten-OCR without it": ([KOTEN_CLI["contents"]], UNNAMED),
    "Koten-OCR's XML": (KOTEN_XML, KOTEN_BOXES),
    "Koten-OCR's TEI": (
        KOTEN_TEI,
        [
            box._replace(id=name)
            for box, name in zip(KOTEN_BOXES, ("L0000_000", "L0000_006"), strict=True)
        ],
    ),
    "PAGE": (PAGE_XML, PAGE_BOXES),
    "PAGE, a group in a group": (
        PAGE_XML.replace(
            '<RegionRefIndexed index="1" regionRef="left"/>',
            '<OrderedGroupIndexed index="1"><RegionRefIndexed index="0" regionRef="left"/>'
            "</OrderedGroupIndexed>",
        ),
        PAGE_BOXES,
    ),
    "PAGE, an unordered group of one": (
        PAGE_XML.replace(
            '<RegionRefIndexed index="1" regionRef="left"/>',
            '<UnorderedGroupIndexed index="1"><RegionRefIndexed index="0" regionRef="left"/>'
            "</UnorderedGroupIndexed>",
        ),
        PAGE_BOXES,
    ),
    "PAGE without an order": (
        PAGE_XML.replace('<RegionRefIndexed index="1" regionRef="left"/>', ""),
        [box._replace(line="") for box in [PAGE_BOXES[3], *PAGE_BOXES[:3]]],
    ),
    "PAGE of 2010": (
        OLD_PAGE_XML,
        [Box(1, 2, 10, 20, "r1", "p1.tif", trouble=LINE.format("a region of text"))],
    ),
    "IIIF 3": (ANNOTATION_PAGE, ANNOTATED),
    "IIIF 3, in a manifest": (
        {
            "id": "m",
            "type": "Manifest",
            "items": [{"id": CANVAS, "type": "Canvas", "annotations": [ANNOTATION_PAGE]}],
        },
        ANNOTATED,
    ),
    "IIIF 2": (ANNOTATION_LIST, LISTED),
    "bare annotations": (ANNOTATION_LIST["resources"], LISTED),
    "CSV with lines": (
        "x,y,w,h,line\n1,2,3,4,a\n5,6,7,8,b\n",
        [Box(1, 2, 3, 4, line="a"), Box(5, 6, 7, 8, line="b")],
    ),
}


def _written(content: Any, folder: Path) -> Path:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    (folder / "boxes").write_text(text, encoding="utf-8")
    return folder / "boxes"


@pytest.mark.parametrize("name", READ)
def test_what_other_programs_write_is_read_by_its_content(name: str, tmp_path: Path):
    content, expected = READ[name]
    assert read_boxes(_written(content, tmp_path)) == expected


BOX = Box(1, 2, 30, 40, "a")
TABLES = {
    "x,y,w,h,id\n1,2,30,40,a\n": [BOX],
    "\n \nsep=;\nx;y;w;h;id\n1;2;30;40;a\n": [BOX],
    "sep=\t\nx\ty\tw\th\tid\n1\t2\t30\t40\ta\n": [BOX],
    "\tx\ty\tw\th\tid\n0\t1\t2\t30\t40\ta\n": [BOX],  # as pandas writes its index
    "id;x;y;w;h\na;1,25;2;30;40\n": [BOX],
    "id;x;y;w;h\na;1.125;2.0;30;40\n": [BOX],  # 2.0 says that points are decimal
    'id,x,y,w,h\n"a\nb",1,2,30,40\nc,1,2,30,40\n': [
        BOX._replace(id="a\nb"),
        BOX._replace(id="c"),
    ],
    'x,y,w,h,id\n1,2,30,40,"a\nb"\n': [BOX._replace(id="a\nb")],
    'x,y,w,h,id\r1,2,30,40,a"\r': [BOX._replace(id='a"')],
    "path,id,box\np.png,'=a,'-1 2 3 4\n": [Box(-1, 2, 3, 4, "=a", "p.png")],
    "x,y,w,h,id\n1,2,30,40,'=a\n": [BOX._replace(id="'=a")],
}


@pytest.mark.parametrize("text", TABLES)
def test_tables_of_spreadsheets_and_programs_are_read(text: str, tmp_path: Path):
    (tmp_path / "boxes").write_bytes(text.encode())
    assert read_boxes(tmp_path / "boxes") == TABLES[text]


def test_a_line_of_one_marked_kana_or_chosen_form_is_a_character(tmp_path: Path):
    for text in ("か\u3099", "辻\U000e0100"):
        line = f'<TextEquiv><Unicode>{text}</Unicode></TextEquiv><Coords points="1,2 9,9"/>'
        xml = f'<PcGts><Page><TextRegion><TextLine id="l">{line}</TextLine></TextRegion></Page>'
        (box,) = read_boxes(_written(f"{xml}</PcGts>", tmp_path))
        assert not box.trouble


def test_lines_beside_a_region_in_a_region_are_read_too(tmp_path: Path):
    outline = '<Coords points="0,0 9,9"/>'
    line = f'<TextLine id="%s">{outline}<TextEquiv><Unicode>春</Unicode></TextEquiv></TextLine>'
    inner = f'<TextRegion id="inner">{outline}{line % "b"}</TextRegion>'
    xml = f'<TextRegion id="outer">{outline}{line % "a"}{inner}</TextRegion>'
    boxes = read_boxes(_written(f"<PcGts><Page>{xml}</Page></PcGts>", tmp_path))
    assert [(box.id, box.trouble) for box in boxes] == [("a", ""), ("b", "")]
    only = f'<TextRegion id="outer">{outline}{inner}</TextRegion>'
    boxes = read_boxes(_written(f"<PcGts><Page>{only}</Page></PcGts>", tmp_path))
    assert [box.id for box in boxes] == ["b"]
    groups = '<OrderedGroup><RegionRefIndexed index="0" regionRef="inner"/>'
    groups += '<RegionRefIndexed index="1" regionRef="outer"/></OrderedGroup>'
    order = f"<ReadingOrder>{groups}</ReadingOrder>"
    boxes = read_boxes(_written(f"<PcGts><Page>{order}{xml}</Page></PcGts>", tmp_path))
    assert [box.id for box in boxes] == ["b", "a"]


def test_a_region_may_be_percent_encoded(tmp_path: Path):
    annotation = {"type": "Annotation", "id": "a", "target": f"{CANVAS}#xywh=1%2C2%2C30%2C40"}
    assert read_boxes(_written(annotation, tmp_path)) == [BOX._replace(image=CANVAS)]


PER_CENT = "xywh=percent:10,12.5,20,25"
OF_PAGE = {"type": "Annotation", "id": "a", "target": f"{CANVAS}#{PER_CENT}"}
IN_PIXELS = {"type": "Annotation", "id": "a", "target": f"{CANVAS}#xywh=1,2,3,4"}
SIZED = {"id": CANVAS, "type": "Canvas", "width": 1001, "height": 2000}


@pytest.mark.parametrize(
    "content",
    [
        {"type": "Manifest", "items": [{**SIZED, "annotations": [OF_PAGE]}]},
        {"type": "Manifest", "items": [{**SIZED, "width": 1001.0}], "annotations": [OF_PAGE]},
        {
            "@type": "sc:Manifest",
            "sequences": [{"canvases": [{"@id": CANVAS, "width": 1001, "height": 2000}]}],
            "otherContent": [OF_PAGE],
        },
        {**OF_PAGE, "target": {**SIZED, "id": f"{CANVAS}#{PER_CENT}"}},
        {**OF_PAGE, "target": {"source": SIZED, "selector": {"value": PER_CENT}}},
        {
            "@type": "oa:Annotation",
            "@id": "a",
            "on": {"full": {**SIZED, "type": "Image"}, "selector": {"value": PER_CENT}},
        },
    ],
)
def test_per_cent_are_of_the_canvas_or_image_that_the_file_tells_the_size_of(
    content: dict[str, Any], tmp_path: Path
):
    assert read_boxes(_written(content, tmp_path)) == [Box(100, 250, 200, 500, "a", CANVAS)]


def test_neighbours_in_per_cent_meet_in_one_pixel(tmp_path: Path):
    thirds = [f"{CANVAS}#xywh=percent:{100 * n / 3},0,{100 / 3},100" for n in range(3)]
    canvas = {**SIZED, "width": 100, "annotations": [{**OF_PAGE, "target": thirds}]}
    boxes = read_boxes(_written(canvas, tmp_path))
    assert [(box.left, box.left + box.width) for box in boxes] == [(0, 33), (33, 67), (67, 100)]


REFUSED: dict[str, tuple[Any, str]] = {
    "ALTO": ("<alto><Layout/></alto>", "is XML of <alto>, expected OCRDATASET"),
    "broken XML": ("<PcGts><Page></PcGts>", "it is no XML: mismatched tag: line 1"),
    "entities": (
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><OCRDATASET>&b;</OCRDATASET>',
        "it has a document type",
    ),
    "a file by an entity": (
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><OCRDATASET>&a;</OCRDATASET>',
        "it has a document type",
    ),
    "JSON of another program": (
        {"shapes": [], "version": 5},
        "is JSON with shapes, version, of no",
    ),
    "a line without a width": (
        KOTEN_XML.replace('WIDTH="90"', ""),
        "line 1 of page p1.png: expected a number for WIDTH",
    ),
    "two numbers for a polygon": (
        PAGE_XML.replace("100,90 190,90", "100 90"),
        "Glyph g2: expected points as x,y x,y",
    ),
    "no outline": (
        PAGE_XML.replace('<Coords points="100,90 190,90 190,180"/>', ""),
        "Glyph g2: expected points of an outline",
    ),
    "a zone without corners": (KOTEN_TEI.replace('lry="1270"', ""), "zone L0000_000: expected a"),
    "boundingBox of words": (
        {"contents": [{"boundingBox": "1 2 3 4", "text": "春"}]},
        "line 0: expected a boundingBox of points",
    ),
    "per cent": (
        {"type": "Annotation", "target": f"{CANVAS}#xywh=percent:1,2,3,4"},
        "annotation 0: expected a region of xywh=x,y,width,height in pixels, got 'xywh=percent:1",
    ),
    "per cent of another canvas": (
        {"type": "Manifest", "items": [{**SIZED, "id": "c2"}], "annotations": [OF_PAGE]},
        f"and no width and height of {CANVAS} in this file",
    ),
    "per cent of two sizes": (
        {"type": "Manifest", "items": [SIZED, {**SIZED, "width": 9}], "annotations": [OF_PAGE]},
        f"and no width and height of {CANVAS} in this file",
    ),
    "per cent of a size in words": (
        {**SIZED, "width": "1001", "annotations": [OF_PAGE]},
        f"and no width and height of {CANVAS} in this file",
    ),
    "per cent of no size": (
        {**SIZED, "width": 0, "annotations": [OF_PAGE]},
        f"and no width and height of {CANVAS} in this file",
    ),
    "more than per cent": (
        {**SIZED, "annotations": [{**OF_PAGE, "target": f"{CANVAS}#xywh=percent:1,2,1e308,4"}]},
        "annotation 0: expected per cent for x,y,width,height, got 1,2,1e308,4",
    ),
    "an outline in SVG": (
        {
            "type": "Annotation",
            "target": {"source": CANVAS, "selector": {"type": "SvgSelector", "value": "<svg/>"}},
        },
        "annotation 0: expected a region of xywh=x,y,width,height in pixels",
    ),
    "a point": (
        {"type": "Annotation", "target": {"source": CANVAS, "selector": {"type": "PointSelector"}}},
        "annotation 0: expected a region of xywh=x,y,width,height in pixels, got a PointSelector",
    ),
    "a baseline alone": (
        '<PcGts><Page><TextRegion><TextLine id="l"><Baseline points="1,2 3,4"/></TextLine>'
        "</TextRegion></Page></PcGts>",
        "TextLine l: it has a baseline and no outline (Coords)",
    ),
    "words for points": (
        PAGE_XML.replace("100,90 190,90", "a,b c,d"),
        "Glyph g2: expected points as x,y x,y, got 'a,b c,d",
    ),
    "an image of two files": (
        {
            "images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}],
            "annotations": [],
        },
        "image 1: expected one file_name for 1, got a.png and b.png",
    ),
    "an image of no file": (
        {"images": [{"id": 1, "file_name": None}], "annotations": []},
        "image 0: expected one file_name for 1, got None",
    ),
    "images that are no list": ({"images": None, "annotations": []}, "has no list of images"),
    "a box of no image": (
        {"images": [{"id": 0, "file_name": "a.png"}], "annotations": [{"bbox": [1, 2, 3, 4]}]},
        "annotation 0: it has no image_id, which must be among the images",
    ),
    "a number of 300 digits": (
        {"annotations": [{"bbox": [1e300, 2, 3, 4]}]},
        "box 0: expected at most 1,000,000,000 pixels, got 1e+300 2 3 4",
    ),
    "thousands between points": (
        "x;y;w;h\n5;6;7;8\n1.234;2;30,5;40\n",
        "line 3: 1.234 may be 1234 or a fraction",
    ),
    "Python's way of thousands": ("x,y,w,h\n1_234,2,3,4\n", "expected a number for x, got '1_234'"),
    "a column twice": ("x,y,w,h,x\n1,2,3,4,99\n", "line 1: the heading has x 2 times"),
    "a quote that stays open": (
        'x,y,w,h,id\n1,2,3,4,a\n1,2,3,4,"b\n5,6,7,8,c\n',
        "line 4: a quote that opens in line 3 never closes",
    ),
    "UTF-16 without a mark": ("x\0,y\0", "neither UTF-8 nor CP932"),
    "annotations elsewhere": (
        {
            "type": "Manifest",
            "items": [{"type": "Canvas", "annotations": [{"id": "L1", "type": "AnnotationPage"}]}],
        },
        "has no annotations in it: save its list L1",
    ),
    "annotations here and elsewhere": (
        {
            "type": "Manifest",
            "items": [
                {"annotations": [{"type": "AnnotationPage", "items": [IN_PIXELS]}]},
                {"type": "Canvas", "annotations": [{"id": "L2", "type": "AnnotationPage"}]},
            ],
        },
        "has boxes in it, and refers to a list of others, L2, that is not in it: put that list",
    ),
    "annotations here and elsewhere, of version 2": (
        {"@type": "sc:Canvas", "otherContent": ["L2"], "annotations": [IN_PIXELS]},
        "refers to a list of others, L2,",
    ),
    "the first page of a collection": (
        {
            "type": "AnnotationCollection",
            "first": {"id": "P1", "type": "AnnotationPage", "items": [IN_PIXELS], "next": "P2"},
        },
        "refers to a list of others, P2,",
    ),
    "the first page of a canvas": (
        {
            "type": "Canvas",
            "annotations": [
                {"id": "P1", "type": "AnnotationPage", "items": [IN_PIXELS], "next": "P2"}
            ],
        },
        "refers to a list of others, P2,",
    ),
    "the name of a collection's first page": (
        {"type": "AnnotationCollection", "first": "P1"},
        "has no annotations in it: save its list P1",
    ),
    "no boxes": ({"type": "AnnotationPage", "items": []}, "no boxes in"),
}


def test_lists_referred_to_by_name_may_be_elsewhere_in_the_file(tmp_path: Path):
    held = {"id": "L1", "type": "AnnotationPage", "items": [IN_PIXELS]}
    manifest = {"@type": "sc:Canvas", "otherContent": ["L1"], "annotations": [held]}
    (box,) = read_boxes(_written(manifest, tmp_path))
    assert box[:4] == (1, 2, 3, 4)


def test_a_page_that_was_saved_alone_may_name_the_next_one(tmp_path: Path):
    page = {"id": "P1", "type": "AnnotationPage", "items": [IN_PIXELS], "next": "P2"}
    (box,) = read_boxes(_written(page, tmp_path))
    assert box[:4] == (1, 2, 3, 4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_said_in_one_line(name: str, tmp_path: Path):
    content, expected = REFUSED[name]
    with pytest.raises(ValueError) as told:
        read_boxes(_written(content, tmp_path))
    assert expected in str(told.value)
    assert str(tmp_path / "boxes") in str(told.value) and "\n" not in str(told.value)


def test_deep_json_is_refused_and_not_a_crash(tmp_path: Path):
    with pytest.raises(ValueError, match="is no JSON"):
        read_boxes(_written("[" * 100_000, tmp_path))


def test_a_box_on_a_canvas_lies_on_the_same_place_of_its_picture():
    canvas = Canvas("c", 1000, 500)
    assert canvas.in_pixels(Box(10, 20, 30, 40, "a"), 2000, 1500) == Box(20, 60, 60, 120, "a")


def test_what_predict_and_the_review_sheet_quote_for_spreadsheets_is_read(tmp_path: Path):
    row = Row("=p.png", 1, "春", "U+6625", 0.9, "accept", id="+1", box=(-3, 5, 10, 10))
    form = RowFormat("csv", is_for_excel=True)
    path = tmp_path / "rows.csv"
    path.write_text(form.head() + form.text_of(row, True), encoding="utf-8")
    assert "'-3" in path.read_text(encoding="utf-8")
    assert read_boxes(path) == [Box(-3, 5, 10, 10, "+1", "=p.png")]


def test_zones_of_characters_come_in_the_order_of_the_text_and_those_of_lines_not_at_all(
    tmp_path: Path,
):
    tei = """<TEI><facsimile><surface><graphic url="p.png"/>
    <zone xml:id="l1" ulx="1" uly="2" lrx="9" lry="90"/>
    <zone xml:id="c2" ulx="1" uly="50" lrx="9" lry="90"/>
    <zone xml:id="c1" ulx="1" uly="2" lrx="9" lry="40"/></surface></facsimile>
    <text><lb facs="#l1"/><c facs="#c1">春</c><c facs="#c2">は</c></text></TEI>"""
    first, second = read_boxes(_written(tei, tmp_path))
    assert first == Box(1, 2, 8, 38, "c1", "p.png", "l1")
    assert second == Box(1, 50, 8, 40, "c2", "p.png", "l1")


SURFACE = (
    '<surface><graphic url="p.png"/><zone xml:id="l1" ulx="1" uly="2" lrx="9" lry="9">{}</zone>'
    "</surface>"
)
FACSIMILE = f"<facsimile>{SURFACE.format('')}</facsimile>"
LINE_1 = '<lb facs="#l1"/>田'


@pytest.mark.parametrize(
    "content",
    [
        f"<TEI><text>{LINE_1}</text><facsimile>{SURFACE.format('田の図')}</facsimile></TEI>",
        f"<TEI><text>{LINE_1}</text><sourceDoc>{SURFACE.format('田の図')}</sourceDoc></TEI>",
        f"<TEI><text><group><text>{LINE_1}</text><text>前</text></group></text>{FACSIMILE}</TEI>",
        f"<TEI><TEI>{FACSIMILE}<text>{LINE_1}</text></TEI><TEI><teiHeader>前</teiHeader></TEI></TEI>",
    ],
    ids=["facsimile", "sourceDoc", "text", "teiHeader"],
)
def test_a_line_of_tei_ends_with_its_text(content: str, tmp_path: Path):
    """What follows in another part of the document is none of its characters."""
    (box,) = read_boxes(_written(content, tmp_path))
    assert box == Box(1, 2, 8, 7, "l1", "p.png")  # one character, and no trouble


def test_characters_without_zones_of_their_own_leave_their_line_a_line(tmp_path: Path):
    tei = """<TEI><facsimile><surface><graphic url="p.png"/>
    <zone xml:id="l1" ulx="1" uly="2" lrx="9" lry="90"/></surface></facsimile>
    <text><lb facs="#l1"/><c>春</c><c>は</c></text></TEI>"""
    (box,) = read_boxes(_written(tei, tmp_path))
    assert box.trouble == LINE.format("a line of text of 2 characters")


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (
            '<ReadingOrder><OrderedGroup><R index="b" regionRef="r"/></OrderedGroup>'
            "</ReadingOrder>",
            "",
        ),
        ("", '<TextEquiv index="b"><Unicode>春</Unicode></TextEquiv>'),
    ],
)
def test_an_index_that_is_no_number_is_told_with_its_file(order: str, text: str, tmp_path: Path):
    outline = '<Coords points="0,0 9,9"/>'
    page = f'<Page imageFilename="p.png">{order}<TextRegion id="r">{outline}{text}</TextRegion>'
    path = _written(f"<PcGts>{page}</Page></PcGts>", tmp_path)
    with pytest.raises(ValueError, match="expected a number for index, got 'b'") as told:
        read_boxes(path)
    assert str(path) in str(told.value)


def test_a_box_too_far_for_any_picture_is_refused(tmp_path: Path):
    assert read_boxes(_written("x,y,w,h\n1e9,0,5,5\n", tmp_path))[0].left == 10**9
    with pytest.raises(ValueError, match="boxes.*, box 1: expected at most 1,000,000,000 pixels"):
        read_boxes(_written("x,y,w,h\n0,0,5,5\n3e9,0,5,5\n", tmp_path))
