"""Glyphs, words and lines of PAGE XML, as Transkribus, eScriptorium, Kraken and OCR-D write it.

Format: PcGts/Page[@imageFilename]/TextRegion/TextLine/Word/Glyph, each with Coords[@points="x,y
x,y ..."] and TextEquiv/Unicode; Page/ReadingOrder orders the regions
(https://github.com/PRImA-Research-Lab/PAGE-XML, pagecontent.xsd of 2019-07-15). Schemas before 2013
have Coords/Point[@x,@y]. A Glyph is a character, and so is a Word or a TextLine of one; a word or a
line of several, or of unknown text, is a box with a trouble.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from kkanji_jax.pages.box import Box, around, file_name_of, number_of, trouble_of
from kkanji_jax.pages.xml_files import children, local_name

_GROUPS = ("OrderedGroup", "OrderedGroupIndexed", "UnorderedGroup", "UnorderedGroupIndexed")
_INNER = {"TextRegion": "TextLine", "TextLine": "Word", "Word": "Glyph"}
_WHAT = {"TextRegion": "a region of text", "TextLine": "a line of text", "Word": "a word"}


def boxes_of_page_xml(root: ET.Element, path: str | os.PathLike) -> list[Box]:
    """The smallest parts that the file has; ValueError names the part.

    In the file's reading order where it gives one for all of its regions, with their lines.
    """
    boxes: list[Box] = []
    for page in children(root, "Page"):
        image = file_name_of(page.get("imageFilename", ""))
        regions = [element for element in page.iter() if local_name(element) == "TextRegion"]
        # A region of regions has nothing of its own, unless it has lines too.
        regions = [
            region
            for region in regions
            if children(region, "TextLine") or not children(region, "TextRegion")
        ]
        try:
            ordered = _in_reading_order(page, regions)
        except ValueError as err:
            raise ValueError(f"{path}, ReadingOrder of {image}: {err}") from err
        for region in ordered or regions:
            for part, line in _parts(region, ""):
                boxes.append(_box(part, image, line if ordered else "", path))
    return boxes


def _in_reading_order(page: ET.Element, regions: list[ET.Element]) -> list[ET.Element] | None:
    """The regions in the order of ReadingOrder; None unless it has them all, in ordered groups."""
    references = []
    for order in children(page, "ReadingOrder"):
        for group in order:
            found = _references(group)
            if found is None:
                return None
            references += found
    by_id = {region.get("id", ""): region for region in regions}
    known = [name for name in references if name in by_id]
    return [by_id[name] for name in known] if sorted(known) == sorted(by_id) else None


def _references(group: ET.Element) -> list[str] | None:
    """Ids of the regions in a group, outer ones first; None if any group in it is unordered."""
    if local_name(group).startswith("Unordered") and len(group) > 1:
        return None
    found = []
    if local_name(group) in _GROUPS and (name := group.get("regionRef")):
        found.append(name)
    members = [member for member in group if member.get("regionRef") or len(member)]
    for member in sorted(members, key=_index_of):
        if local_name(member) in _GROUPS:
            inner = _references(member)
            if inner is None:
                return None
            found += inner
        else:
            found.append(member.get("regionRef", ""))
    return found


def _index_of(element: ET.Element) -> int:
    return number_of({"index": element.get("index", "0")}, "index")


def _parts(element: ET.Element, line: str) -> Iterator[tuple[ET.Element, str]]:
    """The smallest parts below an element, or itself, each with the id of its line."""
    name = local_name(element)
    if name == "TextLine":
        line = element.get("id", "")
    inner = children(element, _INNER[name]) if name in _INNER else []
    for part in inner:
        yield from _parts(part, line)
    if not inner:
        yield element, line


def _box(element: ET.Element, image: str, line: str, path: str | os.PathLike) -> Box:
    name, kind = element.get("id", ""), local_name(element)
    try:
        points = _points(element)
        if not points and children(element, "Baseline"):
            raise ValueError("it has a baseline and no outline (Coords): export it with outlines")
        place = around(points)
        trouble = "" if kind == "Glyph" else trouble_of(_WHAT[kind], _text(element))
    except ValueError as err:
        raise ValueError(f"{path}, {kind} {name}: {err}") from err
    return Box(*place, name, image, line, trouble)


def _points(element: ET.Element) -> list[tuple[float, float]]:
    for outline in children(element, "Coords"):
        if "points" in outline.attrib:
            pairs = [pair.split(",") for pair in outline.attrib["points"].split()]
        else:
            pairs = [[p.get("x", ""), p.get("y", "")] for p in children(outline, "Point")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"expected points as x,y x,y, got {outline.get('points')!r:.60}")
        try:
            return [(float(x), float(y)) for x, y in pairs]
        except ValueError as err:
            told = " ".join(map(",".join, pairs))
            raise ValueError(f"expected points as x,y x,y, got {told!r:.60}") from err
    return []


def _text(element: ET.Element) -> str | None:
    """The preferred text of an element: the one with the lowest index."""
    for equivalent in sorted(children(element, "TextEquiv"), key=_index_of):
        for unicode in children(equivalent, "Unicode"):
            return unicode.text or ""
    return None
