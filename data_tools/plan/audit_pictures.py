"""The images that the audit found, kept in a DATASET as one record of our format."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_tools.read.catalogue import Original, stack_images
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.records import Chunk

PICTURES_NAME = "audit.record"  # one record of our format: what the audit found, up to a limit
MAX_PICTURES = 60  # of each rule
NO_CLASS = -1


def ids_in(finding: Any) -> list[str]:
    """The sample ids, or the single name, in an entry of a rule in audit.json."""
    if isinstance(finding, str):
        return [finding]
    if isinstance(finding, list):
        return [each["sample_id"] for each in finding]
    return [finding["kept"], finding["dropped"]] if "kept" in finding else [finding["name"]]


def choose_pictures(
    report: dict[str, Any], originals: Sequence[Original], index: ClassIndex
) -> Chunk:
    """The images that the rules found, the first MAX_PICTURES of each rule.

    The images of a class that is left out have the id NO_CLASS. Unreadable files have no picture.
    """
    expected: dict[str, None] = {}
    for rule in report["rules"].values():
        names = [name for finding in rule["samples"] for name in ids_in(finding)]
        expected.update(dict.fromkeys(names[:MAX_PICTURES]))
    found = [original for original in originals if original.sample_id in expected]
    ids = tuple(original.sample_id for original in found)
    known = set(index.codepoints)
    class_ids = [index.id_of(o.codepoint) if o.codepoint in known else NO_CLASS for o in found]
    images = stack_images(original.pixels for original in found)
    return Chunk(images, np.array(class_ids, np.int32), ids, ids)
