"""The page reads tables of boxes as `predict --boxes` does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kkanji_jax.pages.box_files import read_boxes

Node = Callable[..., Any]

TABLES = {
    "x,y,w,h,id\n1,2,30,40,a\n": 1,
    "\n \nsep=;\nx;y;w;h;id\n1;2;30;40;a\n": 1,
    "\tx\ty\tw\th\tid\n0\t1\t2\t30\t40\ta\n": 1,
    "id;xmin;ymin;xmax;ymax\na;1,25;2;30;40\n": 1,
    "id;x;y;w;h\na;1.125;2.0;30;40\n": 1,
    'id,x,y,w,h\r\n"a\r\nb",1,2,30,40\r\nc,1,2,30,40\r\n': 2,
    "x,y,w,h,id\r1,2,30,40,a\r": 1,
    "path,id,box\np.png,'=a,'-1 2 3 4\n": 1,
    "x,y,w,h,id\n1,2,30,40,'=a\n": 1,
    "x,y,w,h\n1e2,.5,+3,4.\n-1.5,1.5,2.5,3.5\n": 2,
}
REFUSED = (
    'x,y,w,h\n"1,234",2,3,4\n',
    "x;y;w;h\n5;6;7;8\n1.234;2;30,5;40\n",
    "x,y,w,h,x\n1,2,3,4,99\n",
    'x,y,w,h,id\n1,2,3,4,"b\n5,6,7,8,c\n',
    "x,y,w,h\n1_234,2,3,4\n",
    "x,y,w,h\n0x10,2,3,4\n",
    "x,y,w,h\nnan,2,3,4\n",
    "x,y,w,h\nInfinity,2,3,4\n",
    "x,y,w,h\n,2,3,4\n",
)


def told_by(node: Node, contents: list[bytes]) -> list[Any]:
    """For each file the boxes as [left, top, width, height, id], or the line that is refused."""
    return node(
        'import { boxesIn, TableError, textOf } from "./box_table.js";'
        f"const files = {json.dumps([list(each) for each in contents])};"
        "const answer = files.map((bytes) => { try {"
        'const { boxes } = boxesIn(textOf(Uint8Array.from(bytes).buffer), "p.png");'
        "return boxes.map(({ box: b, id }) => [b.left, b.top, b.width, b.height, id]);"
        "} catch (error) { if (!(error instanceof TableError)) throw error;"
        "return error.message; } });"
    )


def boxes_of(content: bytes, tmp_path: Path) -> list[list[Any]]:
    (tmp_path / "boxes.csv").write_bytes(content)
    return [list(box[:5]) for box in read_boxes(tmp_path / "boxes.csv")]


def test_tables_are_read_as_predict_reads_them(node: Node, tmp_path: Path):
    contents = [text.encode() for text in TABLES]
    for text, theirs in zip(TABLES, told_by(node, contents), strict=True):
        assert theirs == boxes_of(text.encode(), tmp_path), text
        assert len(theirs) == TABLES[text]


def test_the_encodings_of_spreadsheets_are_read(node: Node, tmp_path: Path):
    text = "id;x;y;w;h\n春①;1;2;30;40\n"
    contents = [text.encode(name) for name in ("utf-8", "utf-8-sig", "cp932", "utf-16")]
    contents.append(b"\xfe\xff" + text.encode("utf-16-be"))
    for content, theirs in zip(contents, told_by(node, contents), strict=True):
        assert theirs == boxes_of(content, tmp_path) == [[1, 2, 30, 40, "春①"]]


def test_what_predict_refuses_the_page_refuses_at_the_same_line(node: Node, tmp_path: Path):
    told = told_by(node, [text.encode() for text in REFUSED])
    for text, line in zip(REFUSED, told, strict=True):
        with pytest.raises(ValueError, match="line ") as refused:
            boxes_of(text.encode(), tmp_path)
        last = str(refused.value)
        assert isinstance(line, str) and f"line {line}" in last, (text, line, last)
