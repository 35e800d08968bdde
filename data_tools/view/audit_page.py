"""The audit as a page: one self-contained HTML file with the pictures of what was found."""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_tools.plan.audit_pictures import ids_in
from kkanji_jax.data.class_index import character_of
from kkanji_jax.data.records import IMAGE_PX, Chunk

MAX_LISTED = 200
CLASS_SIZES = (1, 2, 3, 5, 10, 20, 50, 100, 500)  # a bucket reaches up to the next one


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
    sizes = list(manifest["original_counts"].values())
    for low, high in zip(CLASS_SIZES, (*CLASS_SIZES[1:], None), strict=True):
        inside = [size for size in sizes if low <= size and (high is None or size < high)]
        last = f"-{high - 1}" if high and high > low + 1 else ""
        label = f"{low}{last}" if high else f"{low} or more"
        yield label, len(inside), sum(inside), f"{100 * sum(inside) / max(sum(sizes), 1):.1f} %"


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
