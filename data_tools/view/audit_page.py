"""The audit as a page: one self-contained HTML file with the pictures of what was found."""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_tools.read.catalogue import Original, stack_images
from kkanji_jax.data.class_index import ClassIndex, character_of
from kkanji_jax.data.class_sizes import CLASS_SIZES, class_size_bucket, class_size_label
from kkanji_jax.data.records import IMAGE_PX, Chunk

PICTURES_NAME = "audit.record"  # one record of our format: what the audit found, up to a limit
MAX_PICTURES = 60  # of each rule
MAX_LISTED = 200
NO_CLASS = -1


def ids_in(finding: Any) -> list[str]:
    """The sample ids, or the one name, that an entry of a rule in audit.json speaks of."""
    if isinstance(finding, str):
        return [finding]
    if isinstance(finding, list):
        return [each["sample_id"] for each in finding]
    return [finding["kept"], finding["dropped"]] if "kept" in finding else [finding["name"]]


def choose_pictures(
    report: dict[str, Any], originals: Sequence[Original], index: ClassIndex
) -> Chunk:
    """The images that the rules found, the first MAX_PICTURES of each rule.

    A class that is left out has the id NO_CLASS. What could not be read has no picture.
    """
    wanted: dict[str, None] = {}
    for rule in report["rules"].values():
        names = [name for finding in rule["samples"] for name in ids_in(finding)]
        wanted.update(dict.fromkeys(names[:MAX_PICTURES]))
    found = [original for original in originals if original.sample_id in wanted]
    ids = tuple(original.sample_id for original in found)
    known = set(index.codepoints)
    class_ids = [index.id_of(o.codepoint) if o.codepoint in known else NO_CLASS for o in found]
    images = stack_images(original.pixels for original in found)
    return Chunk(images, np.array(class_ids, np.int32), ids, ids)


def _picture(image: UInt8[np.ndarray, "h w"], caption: str) -> str:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG", optimize=True)
    text = base64.b64encode(data.getvalue()).decode()
    alt = html.escape(caption)
    size = f'width="{IMAGE_PX}" height="{IMAGE_PX}"'
    return (
        f'<figure><img {size} src="data:image/png;base64,{text}" alt="{alt}">'
        f"<figcaption>{alt}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield "<table><thead><tr>"
    yield from (f"<th>{html.escape(each)}</th>" for each in head)
    yield "</tr></thead><tbody>"
    for row in rows:
        cells = (f"{each:,}" if isinstance(each, int) else html.escape(str(each)) for each in row)
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</tbody></table>"


def _caption(sample_id: str) -> str:
    """The character where the id tells it, and the rest of the id."""
    source, _, rest = sample_id.partition("/")
    codepoint, _, name = rest.partition("/")
    if not codepoint.startswith("U+"):
        return sample_id
    return f"{character_of(codepoint)} {codepoint} {source}/{name}"


def _iterate_rule(name: str, rule: dict[str, Any], images: dict[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{name}">{html.escape(name.replace("_", " "))}: {rule["count"]:,}</h3>'
    finds, action = (
        html.escape(rule[key][:1].upper() + rule[key][1:]) for key in ("finds", "action")
    )
    yield f"<p>{finds}. {action}.</p>"
    listed = 0
    yield '<div class="pictures">'
    without: list[str] = []
    for finding in rule["samples"]:
        names = ids_in(finding)
        if all(each in images for each in names):
            listed += 1
            yield '<div class="group">' if len(names) > 1 else ""
            dropped = finding.get("dropped") if isinstance(finding, dict) else None
            for each in names:
                fate = " (dropped)" if each == dropped else ""
                yield _picture(images[each], _caption(each) + fate)
            yield "</div>" if len(names) > 1 else ""
        else:
            detail = finding.get("detail", "") if isinstance(finding, dict) else ""
            without.append(", ".join(names) + (f": {detail}" if detail else ""))
    yield "</div>"
    if without:
        yield "<ul>"
        yield from (f"<li>{html.escape(line)}</li>" for line in without[:MAX_LISTED])
        yield "</ul>"
        if len(without) > MAX_LISTED:
            yield f"<p>and {len(without) - MAX_LISTED:,} more, in audit.json</p>"


def class_size_rows(manifest: dict[str, Any]) -> Iterator[tuple[str, int, int, str]]:
    """(size, classes, images, share of the images) by training originals of a class."""
    sizes = [size for size in manifest["original_counts"].values() if size]
    buckets = [class_size_bucket(size) for size in sizes]
    for bucket, (least, most) in enumerate(CLASS_SIZES):
        inside = [size for size, row in zip(sizes, buckets, strict=True) if row == bucket]
        share = f"{100 * sum(inside) / max(sum(sizes), 1):.1f} %"
        yield class_size_label(least, most), len(inside), sum(inside), share


STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, "Noto Sans CJK JP", sans-serif; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem; }
.group { display: flex; gap: .4rem; padding: .4rem; border: 1px solid var(--line); }
figure { margin: 0; width: 7.5rem; font-size: .75rem; overflow-wrap: anywhere; }
img { image-rendering: pixelated; border: 1px solid var(--line); }
"""


def to_html(manifest: dict[str, Any], report: dict[str, Any], pictures: Chunk | None) -> str:
    """The page of one DATASET; without `pictures`, which older datasets lack, words only."""
    images = dict(zip(pictures.sample_ids, pictures.images, strict=True)) if pictures else {}
    rules = report["rules"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>Audit of a dataset</title><style>{STYLE}</style></head><body>",
        "<h1>What was found in the images, and what became of it</h1>",
        f"<p>{report['num_found']:,} images were found, {report['num_passed']:,} passed every rule "
        f"and {report['num_kept']:,} were kept. Protocol {html.escape(manifest['protocol'])}, "
        f"seed {manifest['seed']}. Made by <code>{html.escape(manifest['command'])}</code>.</p>",
        "<h2>Splits</h2>",
    ]
    rows = [(name, s["num_examples"], s["num_classes"]) for name, s in manifest["splits"].items()]
    parts += _table(("split", "examples", "classes"), rows)
    parts += ["<h2>Class sizes, in training originals</h2>"]
    parts += _table(
        ("images of the class", "classes", "images", "share"), class_size_rows(manifest)
    )
    parts += ["<h2>Rules</h2>"]
    parts += _table(
        ("rule", "found", "what becomes of it"),
        [(name.replace("_", " "), rule["count"], rule["action"]) for name, rule in rules.items()],
    )
    for name, rule in rules.items():
        if rule["count"]:
            parts += _iterate_rule(name, rule, images)
    dropped = report["dropped_classes"]
    parts += [f"<h2>Classes left out: {len(dropped):,}</h2>"]
    if dropped:
        head = ("class", "reason", "found", "passed")
        cells = [
            (f"{each['character']} {each['codepoint']}", each["reason"], each["num_found"],
             each["num_passed"])
            for each in dropped
        ]  # fmt: skip
        parts += _table(head, cells)
    licence, attribution = manifest["licence"], manifest["attribution"]
    parts += [f"<p>The images: {html.escape(attribution)}; {html.escape(licence)}.</p>"]
    return "\n".join([*parts, "</body></html>"]) + "\n"
