"""Boxes in Web Annotations on the canvases or images of IIIF.

IIIF Presentation 3 (https://iiif.io/api/presentation/3.0/): AnnotationPage with items, whose target
is `canvas#xywh=x,y,w,h` or a SpecificResource of source and FragmentSelector, as the W3C's Web
Annotation Data Model has it (https://www.w3.org/TR/annotation-model/). IIIF Presentation 2.1
(https://iiif.io/api/presentation/2.1/): sc:AnnotationList with resources, whose `on` is such a URL
or {full, selector}; the selector may be an oa:Choice with its fragment as the default. Also a bare
list of annotations, an annotation alone, and a manifest or canvas that has annotations in it.

Regions are in pixels, or in per cent (xywh=percent:) of a canvas or image whose width and height
are in the same file.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from kkanji_jax.pages.box import (
    FARTHEST_PX,
    Box,
    Canvas,
    WrittenNumber,
    decimal_of,
    number_of,
    trouble_of,
)

_XYWH = re.compile(r"xywh=(?:(pixel|percent):)?([^,&:]+),([^,&]+),([^,&]+),([^,&]+)(?:&.*)?")
_HOLDERS = ("items", "resources", "annotations", "otherContent", "sequences", "canvases", "first")
_CONTENTS = {"items", "resources"}  # of a list of annotations that is in the file
_ANNOTATIONS = ("Annotation", "oa:Annotation")
_TRANSCRIPTIONS = ("supplementing", "sc:painting", "oa:transcribing", "transcribing")
_TAG = re.compile(r"<[^>]*>")


def type_of(thing: Any) -> str:
    """The type of a JSON-LD object of any version; empty without one."""
    named = thing.get("type", thing.get("@type", "")) if isinstance(thing, dict) else ""
    if isinstance(named, list):
        named = next((each for each in named if isinstance(each, str)), "")
    return named if isinstance(named, str) else ""


def id_of(thing: Any) -> str:
    """The id of a JSON-LD object, or the string that stands for one; empty without one."""
    if isinstance(thing, str):
        return thing
    named = thing.get("id", thing.get("@id", "")) if isinstance(thing, dict) else ""
    return named if isinstance(named, str) else ""


def is_annotated(content: Any) -> bool:
    """Whether the JSON is of a type that is, or may contain, annotations."""
    if isinstance(content, list):
        return any(type_of(each) in _ANNOTATIONS for each in content)
    named = type_of(content).removeprefix("sc:").removeprefix("oa:")
    return named in (
        *("AnnotationPage", "AnnotationList", "AnnotationCollection", "Annotation"),
        *("Layer", "Manifest", "Canvas", "Collection"),
    )


def boxes_of_annotations(content: Any, path: str | os.PathLike) -> list[Box]:
    """A box for each target with a region, in the file's order; ValueError names the annotation.

    Annotations of a whole canvas are left out. One that transcribes several characters is a line.
    A file that refers to lists which are not in it is refused: their boxes would be missing.
    """
    boxes = []
    sizes = _sizes_in(content)
    for number, annotation in enumerate(_annotations_in(content)):
        try:
            boxes += _boxes_of(annotation, sizes)
        except ValueError as err:
            raise ValueError(f"{path}, annotation {number}: {err}") from err
    outside = next(_outside(content, _embedded(content)), None)
    if outside and not boxes:
        raise ValueError(
            f"{path} has no annotations in it: save its list {outside} to a file, and give that one"
        )
    if outside:
        raise ValueError(
            f"{path} has boxes in it, and refers to a list of others, {outside}, that is not in "
            "it: put that list into the file, or remove the reference"
        )
    return boxes


def _annotations_in(thing: Any) -> Iterator[dict[str, Any]]:
    if isinstance(thing, list):
        for each in thing:
            yield from _annotations_in(each)
    elif type_of(thing) in _ANNOTATIONS:
        yield thing
    elif isinstance(thing, dict):
        for name in _HOLDERS:
            yield from _annotations_in(thing.get(name))


def _is_list(thing: dict[str, Any]) -> bool:
    return type_of(thing) in ("AnnotationPage", "sc:AnnotationList")


def _embedded(thing: Any) -> set[str]:
    """The ids of the annotation lists that are in the file."""
    if isinstance(thing, list):
        return {name for each in thing for name in _embedded(each)}
    if not isinstance(thing, dict):
        return set()
    held = {name for holder in _HOLDERS for name in _embedded(thing.get(holder))}
    return held | {id_of(thing)} if _is_list(thing) and _CONTENTS & thing.keys() else held


def _outside(thing: Any, embedded: set[str], *, is_file: bool = True) -> Iterator[str]:
    """The ids of annotation lists that are referred to and not `embedded`.

    A page that is the whole file may name the next one: it was given without it.
    """
    if isinstance(thing, list):
        for each in thing:
            yield from _outside(each, embedded, is_file=False)
    elif isinstance(thing, dict):
        referred: list[Any] = [thing] if _is_list(thing) and not _CONTENTS & thing.keys() else []
        for held in (thing.get("otherContent"), thing.get("annotations")):
            if isinstance(held, list):
                referred += [each for each in held if isinstance(each, str)]
        if type_of(thing) == "AnnotationCollection" and isinstance(thing.get("first"), str):
            referred.append(thing["first"])
        if _is_list(thing) and not is_file:
            referred.append(thing.get("next"))
        yield from (name for name in map(id_of, referred) if name and name not in embedded)
        for name in _HOLDERS:
            yield from _outside(thing.get(name), embedded, is_file=False)


def _sizes_in(content: Any) -> dict[str, Canvas | None]:
    """Canvases and images with a width and height, by id; None if the file has two sizes of one."""
    sizes: dict[str, Canvas | None] = {}
    things = [content]
    while things:
        thing = things.pop()
        if isinstance(thing, list):
            things += thing
        elif isinstance(thing, dict):
            things += thing.values()
            canvas = _canvas_of(thing)
            if canvas is not None:
                is_one = sizes.get(canvas.id, canvas) == canvas
                sizes[canvas.id] = canvas if is_one else None
    return sizes


def _canvas_of(thing: dict[str, Any]) -> Canvas | None:
    name = id_of(thing).partition("#")[0]
    sides = [thing.get(side) for side in ("width", "height")]
    numbers = [float(side) for side in sides if isinstance(side, WrittenNumber)]
    if not name or len(numbers) != 2:
        return None
    width, height = numbers
    is_sized = 0 < width <= FARTHEST_PX and 0 < height <= FARTHEST_PX
    return Canvas(name, width, height) if is_sized else None


def _pixels_of(
    cells: Mapping[str, str], unit: str | None, canvas: Canvas | None
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a region in pixels or, with a canvas, in per cent."""
    if unit != "percent" or canvas is None:
        x, y, width, height = (number_of(cells, key) for key in "xywh")
        return x, y, width, height
    shares = [decimal_of(cells, key) / 100 for key in "xywh"]
    if max(map(abs, shares)) > 1:
        raise ValueError(f"expected per cent for x,y,width,height, got {','.join(cells.values())}")
    across, down, wide, high = shares
    left, top = round(across * canvas.width), round(down * canvas.height)
    right, bottom = round((across + wide) * canvas.width), round((down + high) * canvas.height)
    return left, top, right - left, bottom - top


def _boxes_of(annotation: dict[str, Any], sizes: Mapping[str, Canvas | None]) -> list[Box]:
    targets = annotation.get("target", annotation.get("on", []))
    boxes = []
    for target in targets if isinstance(targets, list) else [targets]:
        image, fragments = _fragments(target)
        if not fragments:
            continue
        region = next((found for each in fragments if (found := _XYWH.search(each))), None)
        if region is None:
            raise ValueError(
                f"expected a region of xywh=x,y,width,height in pixels, got {fragments[0]!r:.60}"
            )
        unit, *numbers = region.groups()
        canvas = sizes.get(image)
        if unit == "percent" and canvas is None:
            raise ValueError(
                "expected a region of xywh=x,y,width,height in pixels, got "
                f"{region.group()!r:.60}, and no width and height of {image} in this file"
            )
        pixels = _pixels_of(dict(zip("xywh", numbers, strict=True)), unit, canvas)
        text = _transcribed(annotation)
        trouble = "" if text is None else trouble_of("a line of text", text)
        boxes.append(Box(*pixels, id_of(annotation), image, trouble=trouble))
    return boxes


def _fragments(target: Any) -> tuple[str, list[str]]:
    """The canvas or image of a target, and its regions: fragments, or the value of a selector."""
    source = target
    selectors: list[Any] = []
    if isinstance(target, dict):
        source = target.get("source", target.get("full", id_of(target)))
        named = target.get("selector", [])
        selectors = named if isinstance(named, list) else [named]
    image, _, fragment = id_of(source).partition("#")
    found = [unquote(fragment)] if fragment else []
    for selector in selectors:
        if isinstance(selector, dict):
            choices = [selector, selector.get("default"), selector.get("item")]
            found += [
                choice["value"]
                for choice in choices
                if isinstance(choice, dict) and isinstance(choice.get("value"), str)
            ]
            if not found:
                raise ValueError(
                    "expected a region of xywh=x,y,width,height in pixels, got a "
                    f"{type_of(selector) or 'selector without a value'}"
                )
    return image, found


def _transcribed(annotation: dict[str, Any]) -> str | None:
    """The text that an annotation gives for its region; None if it is not a transcription."""
    bodies = annotation.get("body", annotation.get("resource", []))
    bodies = bodies if isinstance(bodies, list) else [bodies]
    motivations = annotation.get("motivation", [])
    motivations = motivations if isinstance(motivations, list) else [motivations]
    for body in bodies:
        purpose = body.get("purpose") if isinstance(body, dict) else None
        if not any(each in _TRANSCRIPTIONS for each in [purpose, *motivations]):
            continue
        text = body.get("value", body.get("chars")) if isinstance(body, dict) else None
        if isinstance(text, str) and text.strip():
            return _TAG.sub("", text) if body.get("format") == "text/html" else text
    return None
