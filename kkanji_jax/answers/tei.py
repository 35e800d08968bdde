"""Pages as TEI P5: text, zones on the facsimile, candidates in notes with their certainty.

Elements: facsimile/surface/zone (TEI P5 Guidelines, 12.1), pb and lb (3.11.3), c (18.1), note (3.9)
and certainty (22.1.1), https://tei-c.org/release/doc/tei-p5-doc/en/html/. Every character is a c
whose @facs is its zone; one that was not accepted holds 〓, has its verdict as @type, and a note
after the text of its page lists the candidates, each with a certainty of @locus value.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from kkanji_jax.answers.page_readings import ReadBox, ReadPage

_SAFE = "/:?#[]@!$&'()*+,;=%~-._"  # of an address: it may be quoted already
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<TEI xmlns="http://www.tei-c.org/ns/1.0">
 <teiHeader>
  <fileDesc>
   <titleStmt>
    <title>{title}</title>
    <respStmt><resp>automatic reading of single characters</resp><name>kkanji_jax</name></respStmt>
   </titleStmt>
   <publicationStmt><p>Not published: made by a program, and not proofread.</p></publicationStmt>
   <sourceDesc><p>{source}</p></sourceDesc>
  </fileDesc>
  <encodingDesc>
   <projectDesc><p>A character stands in the text where the model's verdict is accept. Elsewhere
    stands 〓, with the verdict as the type of its c element, and the candidates in a note. Lines
    are columns, in the order of reading.</p></projectDesc>
   <appInfo>
    <application ident="kkanji_jax" version={version}><label>{model}</label></application>
   </appInfo>
  </encodingDesc>
 </teiHeader>
"""


def tei_of_pages(pages: list[ReadPage], about: Mapping[str, str]) -> Iterator[str]:
    """One TEI document in parts; `about` has `version` and `model`."""
    paths = ", ".join(page.path for page in pages[:3]) + (", ..." if len(pages) > 3 else "")
    yield _HEAD.format(
        title=_text(f"Reading of {paths}" if pages else "Reading of nothing"),
        source=_text(f"{len(pages)} images of pages: {paths}"),
        version=_attribute(about["version"]),
        model=_text(f"model {about['model']}"),
    )
    if pages:
        yield " <facsimile>\n"
        for number, page in enumerate(pages, 1):
            yield from _surface(page, number)
        yield " </facsimile>\n"
    yield " <text>\n  <body>\n"
    if not pages:
        yield "   <p/>\n"
    for number, page in enumerate(pages, 1):
        yield from _division(page, number)
    yield "  </body>\n </text>\n</TEI>\n"


def _surface(page: ReadPage, number: int) -> Iterator[str]:
    size = graphic_size = ""
    if page.size is not None:
        width, height = page.size
        size = f' ulx="0" uly="0" lrx="{width}" lry="{height}"'
        graphic_size = f' width="{width}px" height="{height}px"'
    yield f'  <surface xml:id="p{number}"{size}>\n'
    url = quote(page.path, safe=_SAFE if "://" in page.path else "/")
    yield f"   <graphic url={_attribute(url)}{graphic_size}/>\n"
    for line, column in enumerate(page.columns, 1):
        yield f'   <zone xml:id="p{number}l{line}" type="line"{_corners(_around(column))}/>\n'
        for place, box in enumerate(column, 1):
            name = f" n={_attribute(box.item.id)}" if box.item.id else ""
            zone = f"p{number}l{line}z{place}"
            yield f'   <zone xml:id="{zone}" type="character"{name}{_corners(_corner(box))}/>\n'
    yield "  </surface>\n"


def _division(page: ReadPage, number: int) -> Iterator[str]:
    yield f'   <div type="page" n="{number}">\n    <pb n="{number}" facs="#p{number}"/>\n    <ab>'
    notes = []
    for line, column in enumerate(page.columns, 1):
        yield f'\n     <lb n="{line}" facs="#p{number}l{line}"/>'
        for place, box in enumerate(column, 1):
            name = f"p{number}l{line}c{place}"
            zone = f'facs="#p{number}l{line}z{place}"'
            if box.is_accepted:
                yield f"<c {zone}>{_text(box.text)}</c>"
                continue
            verdict = box.rows[0].verdict or "error"
            yield f'<c xml:id="{name}" type="{verdict}" {zone}>{box.text}</c>'
            notes.append(_note(box, name))
    yield "\n    </ab>\n"
    yield from notes
    if page.error:
        yield f'    <note type="error">{_text(page.error)}</note>\n'
    yield "   </div>\n"


def _note(box: ReadBox, target: str) -> str:
    first = box.rows[0]
    if first.character is None:
        what = first.error or first.verdict
        return f'    <note type="error" target="#{target}">{_text(what)}</note>\n'
    told = "; ".join(f"{row.character} {row.codepoint} {row.probability:.4f}" for row in box.rows)
    remark = f" ({first.remark})" if first.remark else ""
    certainties = "".join(
        f'<certainty target="#{target}" locus="value" degree="{row.probability:.4f}"'
        f" assertedValue={_attribute(row.character or '')}/>"
        for row in box.rows
    )
    return (
        f'    <note type="candidates" target="#{target}">{_text(told + remark)}{certainties}'
        "</note>\n"
    )


def _corner(box: ReadBox) -> tuple[int, int, int, int]:
    left, top, width, height = box.item.box or (0, 0, 0, 0)
    return left, top, left + max(width, 0), top + max(height, 0)


def _around(column: Iterable[ReadBox]) -> tuple[int, int, int, int]:
    corners = [_corner(box) for box in column]
    least = (min(corner[axis] for corner in corners) for axis in (0, 1))
    most = (max(corner[axis] for corner in corners) for axis in (2, 3))
    left, top, right, bottom = *least, *most
    return left, top, right, bottom


def _corners(corners: tuple[int, int, int, int]) -> str:
    named = zip(("ulx", "uly", "lrx", "lry"), corners, strict=True)
    return "".join(f' {name}="{value}"' for name, value in named)


def _text(text: str) -> str:
    return escape(_allowed(text))


def _attribute(text: str) -> str:
    return quoteattr(_allowed(text))


def _allowed(text: str) -> str:
    """Characters that XML has no way to write, as \\x01."""
    return _FORBIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
