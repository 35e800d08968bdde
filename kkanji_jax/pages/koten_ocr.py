"""Lines of text as NDL's Koten-OCR writes them, in JSON and in XML.

JSON of ndlkotenocr-lite (src/ocr.py): {"contents": [[{boundingBox, id, isVertical, text,
isTextline, confidence}]], "imginfo": {img_width, img_height, img_path, img_name}}; a boundingBox is
four points. ndlkotenocr_cli (cli/core/inference.py, src/kotenseki_reading_order/tools/process.py)
writes {"contents": [{boundingBox, ...}], "imginfo": {img_width, img_height}} with add_info, and a
bare list of such lists without; neither names the image. NDLOCR-Lite's JSON is the same.

XML of ndlkotenocr-lite and NDLOCR (src/ndl_parser.py): OCRDATASET holds PAGE with IMAGENAME, WIDTH,
HEIGHT, and in it LINE, perhaps inside TEXTBLOCK or BLOCK, with X, Y, WIDTH, HEIGHT, STRING.

https://github.com/ndl-lab/ndlkotenocr-lite, https://github.com/ndl-lab/ndlkotenocr_cli. These
programs find lines and no characters: a line is a box with a trouble, unless its text is one
character.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

from kkanji_jax.pages.box import Box, around, number_of, trouble_of
from kkanji_jax.pages.xml_files import local_name

WHAT = "a line of text"


def is_koten_ocr(content: Any) -> bool:
    """Whether the JSON was written by one of these programs."""
    if isinstance(content, dict):
        return "contents" in content
    return next(_lines_in(content), None) is not None


def _lines_in(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, list):
        for inner in content:
            yield from _lines_in(inner)
    elif isinstance(content, dict) and "boundingBox" in content:
        yield content


def boxes_of_koten_json(content: Any, path: str | os.PathLike) -> list[Box]:
    """The lines in the file's order; ValueError names the line."""
    image = ""
    if isinstance(content, dict):
        about = content.get("imginfo")
        image = str(about.get("img_name") or "") if isinstance(about, dict) else ""
        content = content["contents"]
    boxes = []
    for number, line in enumerate(_lines_in(content)):
        try:
            place = around([(float(x), float(y)) for x, y in line["boundingBox"]])
        except (ValueError, TypeError) as err:
            raise ValueError(
                f"{path}, line {number}: expected a boundingBox of points [x, y], "
                f"got {line['boundingBox']!r:.60}"
            ) from err
        text = line.get("text")
        trouble = trouble_of(WHAT, text if isinstance(text, str) else None)
        boxes.append(Box(*place, str(line.get("id", "")), image, trouble=trouble))
    return boxes


def boxes_of_koten_xml(root: ET.Element, path: str | os.PathLike) -> list[Box]:
    """The lines of every PAGE, in the order of the file; ValueError names the line."""
    boxes = []
    for page in (element for element in root.iter() if local_name(element) == "PAGE"):
        lines = (element for element in page.iter() if local_name(element) == "LINE")
        for number, line in enumerate(lines):
            image = page.get("IMAGENAME", "")
            try:
                place = [number_of(line.attrib, name) for name in ("X", "Y", "WIDTH", "HEIGHT")]
            except ValueError as err:
                raise ValueError(f"{path}, line {number} of page {image}: {err}") from err
            trouble = trouble_of(WHAT, line.get("STRING"))
            left, top, width, height = place
            name = line.get("ORDER", str(number))
            boxes.append(Box(left, top, width, height, name, image, trouble=trouble))
    return boxes
