"""The audit as one self-contained HTML file with pictures of what was found."""

import base64
import io
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_tools.plan.audit_pictures import MAX_PICTURES, ids_in
from kkanji_jax.data.class_index import character_of
from kkanji_jax.data.class_sizes import CLASS_SIZES, class_size_bucket, class_size_label
from kkanji_jax.data.records import IMAGE_PX, Chunk

MAX_LISTED = 200
PICTURES_A_PAGE = 24  # findings of a rule that are laid out at once


class CaptionedImage(NamedTuple):
    """An image of the audit, with its caption."""

    base64: str  # of a PNG
    caption: str


def _picture(image: UInt8[np.ndarray, "h w"], caption: str) -> CaptionedImage:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG", optimize=True)
    return CaptionedImage(base64.b64encode(data.getvalue()).decode(), caption)


def _caption(sample_id: str) -> str:
    """The character, if the id states it, and the rest of the id."""
    source, _, rest = sample_id.partition("/")
    codepoint, _, name = rest.partition("/")
    if not codepoint.startswith("U+"):
        return sample_id
    return f"{character_of(codepoint)} {codepoint} {source}/{name}"


def _rule_view(
    name: str, rule: dict[str, Any], images: Mapping[str, UInt8[np.ndarray, "h w"]]
) -> dict[str, Any]:
    """The content of a rule on the page: pages of pictures, then names without a picture."""
    findings, without = [], []
    for finding in rule["samples"]:
        names = ids_in(finding)
        if all(each in images for each in names):
            dropped = finding.get("dropped") if isinstance(finding, dict) else None
            findings.append(
                [
                    _picture(
                        images[each], _caption(each) + (" (dropped)" if each == dropped else "")
                    )
                    for each in names
                ]
            )
        else:
            detail = finding.get("detail", "") if isinstance(finding, dict) else ""
            without.append(", ".join(names) + (f": {detail}" if detail else ""))
    starts = range(0, len(findings), PICTURES_A_PAGE)
    pages = [findings[start : start + PICTURES_A_PAGE] for start in starts]
    return {
        "name": name.replace("_", " "),
        "count": rule["count"],
        "finds": rule["finds"],
        "action": rule["action"],
        "pages": [
            {"first": start + 1, "last": start + len(page), "findings": page}
            for start, page in zip(starts, pages, strict=True)
        ],
        "listed": without[:MAX_LISTED],
        "num_unlisted": max(len(without) - MAX_LISTED, 0),
    }


def class_size_rows(manifest: dict[str, Any]) -> Iterator[tuple[str, int, int, str]]:
    """(size, classes, images, share of the images) by training originals of a class."""
    sizes = [size for size in manifest["original_counts"].values() if size]
    buckets = [class_size_bucket(size) for size in sizes]
    for bucket, (least, most) in enumerate(CLASS_SIZES):
        inside = [size for size, row in zip(sizes, buckets, strict=True) if row == bucket]
        share = f"{100 * sum(inside) / max(sum(sizes), 1):.1f} %"
        yield class_size_label(least, most), len(inside), sum(inside), share


def to_html(manifest: dict[str, Any], report: dict[str, Any], pictures: Chunk | None) -> str:
    """The page of one DATASET; without `pictures`, which older datasets lack, only text."""
    images = dict(zip(pictures.sample_ids, pictures.images, strict=True)) if pictures else {}
    rules = [_rule_view(name, rule, images) for name, rule in report["rules"].items()]
    dropped: dict[str, list[dict[str, Any]]] = {}
    for each in report["dropped_classes"]:
        dropped.setdefault(each["reason"], []).append(each)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_tools.view"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment.get_template("audit.html.j2").render(
        manifest=manifest,
        report=report,
        splits=[(k, s["num_examples"], s["num_classes"]) for k, s in manifest["splits"].items()],
        class_sizes=list(class_size_rows(manifest)),
        rules=rules,
        silent_rules=[rule for rule in rules if not rule["count"]],
        dropped=dropped,
        image_px=IMAGE_PX,
        max_pictures=MAX_PICTURES,
    )
