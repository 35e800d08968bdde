"""Zones of a TEI facsimile, as Koten-OCR and this project write them.

Koten-OCR (ndlkotenocr-lite, src/tools/ndlkoten2tei.py): facsimile/surface holds graphic[@url] and
one zone[@xml:id, @ulx, @uly, @lrx, @lry] for each line, and text has lb[@facs] before the line's
characters. Where c[@facs] names a zone, the zone is that character's: TEI P5 Guidelines, 12.1
(facsimiles) and 18.1 (c), https://tei-c.org/release/doc/tei-p5-doc/en/html/PH.html.
"""

import os
import xml.etree.ElementTree as ET

from kkanji_jax.pages.box import Box, file_name_of, number_of, trouble_of
from kkanji_jax.pages.xml_files import children, local_name

_ID = "{http://www.w3.org/XML/1998/namespace}id"
_BREAKS = ("lb", "pb", "cb", "gb")
_PARTS = ("teiHeader", "facsimile", "sourceDoc", "text")  # of a document; no line goes beyond one


def boxes_of_tei(root: ET.Element, path: str | os.PathLike) -> list[Box]:
    """The zones of characters, in the order of the text; the zones of lines, if there are none.

    ValueError names the zone.
    """
    text_of_line: dict[str, str] = {}
    lines_of_characters: dict[str, str] = {}  # the zone of each c -> that of the lb before it
    line = ""
    for element in root.iter():
        zone = element.get("facs", "").removeprefix("#")
        name = local_name(element)
        if name in _PARTS:
            line = ""
        elif name == "lb":
            line = zone
        elif name == "c" and zone:
            lines_of_characters[zone] = line or "1"
        if line:
            own = "" if name in _BREAKS else element.text or ""
            text_of_line[line] = text_of_line.get(line, "") + own + (element.tail or "")
    boxes: dict[str, Box] = {}
    for surface in (element for element in root.iter() if local_name(element) == "surface"):
        url = next((graphic.get("url", "") for graphic in children(surface, "graphic")), "")
        image = file_name_of(url)
        for zone in (element for element in surface.iter() if local_name(element) == "zone"):
            name = zone.get(_ID, str(len(boxes)))
            if lines_of_characters and name not in lines_of_characters:
                continue
            try:
                left, top, right, bottom = (
                    number_of(zone.attrib, key) for key in ("ulx", "uly", "lrx", "lry")
                )
            except ValueError as err:
                raise ValueError(f"{path}, zone {name}: {err}") from err
            trouble = trouble_of("a line of text", text_of_line.get(name))
            is_character = name in lines_of_characters
            boxes[name] = Box(
                left,
                top,
                right - left,
                bottom - top,
                zone.get("n", name) if is_character else name,
                image,
                lines_of_characters.get(name, ""),
                "" if is_character else trouble,
            )
    if lines_of_characters:
        return [boxes[name] for name in lines_of_characters if name in boxes]
    return list(boxes.values())
