"""Files of boxes in any of the supported formats, recognised by their content."""

import json
import os
from pathlib import Path
from typing import Any

from kkanji_jax.data.csv_text import decoded
from kkanji_jax.pages.annotations import boxes_of_annotations, is_annotated
from kkanji_jax.pages.box import FARTHEST_PX, Box, WrittenNumber
from kkanji_jax.pages.box_tables import WANTED, boxes_of_string, boxes_of_table, is_kaggle_string
from kkanji_jax.pages.coco import boxes_of_coco
from kkanji_jax.pages.koten_ocr import boxes_of_koten_json, boxes_of_koten_xml, is_koten_ocr
from kkanji_jax.pages.page_xml import boxes_of_page_xml
from kkanji_jax.pages.tei_zones import boxes_of_tei
from kkanji_jax.pages.xml_files import local_name, parse_xml

_OF_ROOT = {
    "OCRDATASET": boxes_of_koten_xml,
    "PAGE": boxes_of_koten_xml,
    "PcGts": boxes_of_page_xml,
    "TEI": boxes_of_tei,
}


def read_boxes(path: str | os.PathLike) -> list[Box]:
    """The boxes of a file, in its order; ValueError names the file and the line or element.

    Tables (box_tables.py), JSON of COCO, Koten-OCR and IIIF's annotations, XML of Koten-OCR, PAGE
    and TEI. UTF-8, UTF-16 with a byte order mark, or CP932. Ids are as they are written, to the
    byte.
    """
    text = decoded(Path(path))
    begin = text.lstrip()[:1]
    if begin in ("{", "["):
        boxes = _of_json(text, path)
    elif begin == "<":
        boxes = _of_xml(text.lstrip(), path)
    elif is_kaggle_string(text):
        boxes = list(boxes_of_string(text))
    else:
        boxes = boxes_of_table(text, path)
    if not boxes:
        raise ValueError(f"no boxes in {path}: {WANTED}")
    for number, box in enumerate(boxes):
        if max(map(abs, box[:4])) > FARTHEST_PX:
            raise ValueError(
                f"{path}, box {number}: expected at most {FARTHEST_PX:,} pixels, got "
                + " ".join(f"{side:.10g}" for side in box[:4])
            )
    return boxes


def _of_json(text: str, path: str | os.PathLike) -> list[Box]:
    try:
        content: Any = json.loads(text, parse_int=WrittenNumber, parse_float=WrittenNumber)
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{path} is no JSON: {err}") from err
    if is_annotated(content):
        return boxes_of_annotations(content, path)
    if is_koten_ocr(content):
        return boxes_of_koten_json(content, path)
    if isinstance(content, list) or "annotations" in content:
        return boxes_of_coco(content, path)
    names = ", ".join(list(content)[:8])
    raise ValueError(
        f"{path} is JSON with {names or 'nothing in it'}, of no program known here: {WANTED}"
    )


def _of_xml(text: str, path: str | os.PathLike) -> list[Box]:
    try:
        root = parse_xml(text)
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    read = _OF_ROOT.get(local_name(root))
    if read is None:
        raise ValueError(
            f"{path} is XML of <{local_name(root)}>, expected OCRDATASET (Koten-OCR), PcGts (PAGE) "
            "or TEI"
        )
    return read(root, path)
