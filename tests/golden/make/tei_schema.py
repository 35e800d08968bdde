"""Cuts TEI's schema down to the elements that are written here: `python tei_schema.py TEI_ALL.rng`.

TEI_ALL.rng is a tei_all of TEI P5, 3.0.0 for the file that is kept. An element outside KEPT is not
allowed in what comes out; all else, attributes and content models, is as TEI has it.
"""

import sys
from pathlib import Path

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

OUT = Path(__file__).resolve().parents[1] / "tei_subset.rng"
N = "{http://relaxng.org/ns/structure/1.0}"
KEPT = frozenset(
    (
        "TEI teiHeader fileDesc titleStmt title respStmt resp name publicationStmt sourceDesc "
        "encodingDesc projectDesc appInfo application label p facsimile surface graphic zone text "
        "body div pb ab lb c note certainty"
    ).split()
)
HEAD = """<!-- TEI P5 3.0.0 (tei_all), cut down to the elements that answers/tei.py writes
by tests/golden/make/tei_schema.py. Copyright TEI Consortium; CC BY 3.0 and BSD 2-Clause. -->
"""


def _remove_unused(root: etree._Element) -> dict[str, list[etree._Element]]:
    """Removes definitions that nothing refers to; those that are left, by name."""
    definitions: dict[str, list[etree._Element]] = {}
    for definition in root.iter(f"{N}define"):
        definitions.setdefault(definition.get("name", ""), []).append(definition)
    used: set[str] = set()
    waiting = [
        ref.get("name", "") for start in root.iter(f"{N}start") for ref in start.iter(f"{N}ref")
    ]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            for definition in definitions.get(name, ()):
                waiting += [ref.get("name", "") for ref in definition.iter(f"{N}ref")]
    for name in definitions.keys() - used:
        for definition in definitions[name]:
            definition.getparent().remove(definition)
    return {name: definitions[name] for name in used if name in definitions}


def _replace_by(element: etree._Element, name: str) -> None:
    element.getparent().replace(element, etree.Element(f"{N}{name}"))


def _simplify(root: etree._Element, definitions: dict[str, list[etree._Element]]) -> bool:
    """One pass of what RELAX NG says of notAllowed (section 4.20); whether it changed anything."""
    impossible = {
        name
        for name, found in definitions.items()
        if all(len(each) and all(part.tag == f"{N}notAllowed" for part in each) for each in found)
    }
    is_changed = False
    for ref in [ref for ref in root.iter(f"{N}ref") if ref.get("name") in impossible]:
        _replace_by(ref, "notAllowed")
        is_changed = True
    for element in list(root.iter(f"{N}notAllowed")):
        parent = element.getparent()
        if parent is None or parent.tag == f"{N}define":
            continue
        kind = parent.tag.removeprefix(N)
        if kind == "choice":
            parent.remove(element)
            if not len(parent):
                _replace_by(parent, "notAllowed")
        elif kind in ("optional", "zeroOrMore") and len(parent) == 1:
            _replace_by(parent, "empty")
        elif kind in ("oneOrMore", "group", "interleave", "list"):
            _replace_by(parent, "notAllowed")
        else:
            continue
        is_changed = True
    return is_changed


def main() -> None:
    tree = etree.parse(sys.argv[1])
    root = tree.getroot()
    for element in list(root.iter()):
        is_documentation = not (isinstance(element.tag, str) and element.tag.startswith(N))
        if is_documentation and element.getparent() is not None:
            element.getparent().remove(element)
    for element in list(root.iter(f"{N}element")):
        if element.get("name") not in KEPT:
            _replace_by(element, "notAllowed")
    definitions = _remove_unused(root)
    while _simplify(root, definitions):
        pass
    _remove_unused(root)
    etree.indent(tree, space="")
    OUT.write_text(HEAD + etree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
