"""XML from other programs, parsed without a document type, and so without entities."""

import xml.etree.ElementTree as ET
from typing import Any, NoReturn
from xml.parsers import expat


def parse_xml(text: str) -> ET.Element:
    """The root element; names are `{namespace}name`. ValueError, with the line, for invalid XML.

    A document type declaration is refused: its entities could fill the memory, or read files of
    this machine.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True

    def refuse(*_: Any) -> NoReturn:
        raise ValueError("it has a document type (<!DOCTYPE ...>), which is not read: remove it")

    def start(name: str, attributes: dict[str, str]) -> None:
        builder.start(_named(name), {_named(key): value for key, value in attributes.items()})

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: builder.end(_named(name))
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(text, True)
    except expat.ExpatError as err:
        raise ValueError(f"it is no XML: {err}") from err
    return builder.close()


def _named(name: str) -> str:
    return "{" + name if "}" in name else name


def local_name(element: ET.Element) -> str:
    """The name without its namespace."""
    return element.tag.rpartition("}")[2]


def children(element: ET.Element, name: str) -> list[ET.Element]:
    """The children with this name, in any namespace (each version of PAGE has its own)."""
    return [child for child in element if local_name(child) == name]
