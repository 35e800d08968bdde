"""Boxes in COCO's JSON: {"images": [{id, file_name}], "annotations": [{id, image_id, bbox}]}.

Also a bare list of annotations, as in COCO's results; image_id is then the name of the page.
https://cocodataset.org/#format-data
"""

import os
from typing import Any

from kkanji_jax.pages.box import Box, number_of


def boxes_of_coco(content: dict[str, Any] | list[Any], path: str | os.PathLike) -> list[Box]:
    """The boxes in the file's order; ValueError names the annotation."""
    is_whole = isinstance(content, dict)
    annotations = content.get("annotations") if is_whole else content
    images = content.get("images", []) if is_whole else []
    if not isinstance(annotations, list) or not isinstance(images, list):
        name = "images" if isinstance(annotations, list) else "annotations"
        raise ValueError(f"{path} has no list of {name}, expected COCO's")
    names = {}
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not {"id", "file_name"} <= image.keys():
            raise ValueError(f"{path}, image {number}: expected id and file_name")
        name, file = str(image["id"]), image["file_name"]
        if not isinstance(file, str) or names.setdefault(name, file) != file:
            told = f"{file!r:.60}" if name not in names else f"{names[name]} and {file}"
            raise ValueError(
                f"{path}, image {number}: expected one file_name for {name}, got {told}"
            )
    boxes = []
    for number, annotation in enumerate(annotations):
        where = f"{path}, annotation {number}"
        if not isinstance(annotation, dict):
            raise ValueError(f"{where}: expected an object with bbox, got {annotation!r:.40}")
        place = annotation.get("bbox")
        if not isinstance(place, list) or len(place) != 4:
            raise ValueError(
                f"{where}: expected a bbox of [x, y, width, height], got {place!r:.40}"
            )
        image = str(annotation.get("image_id") or "")
        if names and image not in names:
            told = f"image_id {image} is" if image else "it has no image_id, which must be"
            among = "not among the images" if image else "among the images"
            raise ValueError(f"{where}: {told} {among}")
        try:
            cells = dict(zip("xywh", map(str, place), strict=True))
            left, top, width, height = (number_of(cells, key) for key in "xywh")
        except ValueError as err:
            raise ValueError(f"{where}: {err}") from err
        name = str(annotation.get("id") or "")
        boxes.append(Box(left, top, width, height, name, names.get(image, image)))
    return boxes
