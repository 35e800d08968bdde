"""Code points and class ids: the one table that says which character an output stands for."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kkanji_jax.files import written_whole

INDEX_VERSION = 1
_CODEPOINT = re.compile(r"U\+[0-9A-F]{4,6}")
_LOOSE = re.compile(r"(?:[Uu][+_-]?|0[Xx]|\\u)?([0-9A-Fa-f]{4,6})(?![0-9A-Za-z])")
_MARKED_KANA = re.compile("[\u3040-\u30ff][\u3099\u309a]")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # they choose among forms
_KEY = re.compile(r"(.) \((U\+[0-9A-F]{4,6})\)", re.DOTALL)


def codepoint_of(character: str) -> str:
    """The code point of one character, as `U+` and four to six upper-case digits.

    Never normalises: a compatibility ideograph keeps its own code point.
    """
    if len(character) != 1:
        raise ValueError(f"expected one character, got {len(character)}: {character[:20]!r}")
    return f"U+{ord(character):04X}"


def composed(text: str) -> str:
    """The text with a kana and its sound mark as one character, and without variation selectors.

    が is one character or か and U+3099, as programs write it; 辻 may have a selector of its form
    behind it. Nothing else is normalised: a compatibility ideograph keeps its own code point.
    """
    marked = _MARKED_KANA.sub(lambda pair: unicodedata.normalize("NFC", pair[0]), text)
    return _SELECTORS.sub("", marked)


def _suggestion(text: str) -> str:
    loose = _LOOSE.match(text.strip()) if text.isascii() else None
    number = int(loose[1], 16) if loose else ord(text) if len(text) == 1 else None
    if number is None or number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return ""
    return f"; did you mean U+{number:04X} ({chr(number)})?"


def parse_codepoint(text: str) -> str:
    """`text` itself if it is the canonical code point of a character, such as `U+6625`.

    ValueError for anything else: lower case, full-width digits, surplus zeros, surrogates, numbers
    above U+10FFFF. The message has a suggestion if there is one.
    """
    expected = "a code point is written U+ and 4 to 6 digits 0-9A-F, such as U+6625"
    if not _CODEPOINT.fullmatch(text):
        raise ValueError(f"{expected}, got {text!r}{_suggestion(text)}")
    number = int(text[2:], 16)
    if number > 0x10FFFF:
        raise ValueError(f"{expected}, at most U+10FFFF, got {text!r}")
    if 0xD800 <= number <= 0xDFFF:
        raise ValueError(f"{expected}, got {text!r}, a surrogate, which is no character")
    if text != f"U+{number:04X}":
        raise ValueError(f"{expected}, without surplus zeros, got {text!r}{_suggestion(text)}")
    return text


def character_of(codepoint: str) -> str:
    """The character a canonical code point stands for."""
    return chr(int(parse_codepoint(codepoint)[2:], 16))


@dataclass(frozen=True)
class ClassIndex:
    """Class id i stands for `codepoints[i]`; code points are unique and in code point order."""

    codepoints: tuple[str, ...]

    def __post_init__(self) -> None:
        numbers = [int(parse_codepoint(codepoint)[2:], 16) for codepoint in self.codepoints]
        if any(a >= b for a, b in zip(numbers, numbers[1:], strict=False)):
            raise ValueError(
                "a class index must have each code point once, in code point order; "
                "ClassIndex.from_codepoints sorts"
            )

    @classmethod
    def from_codepoints(cls, codepoints: Iterable[str]) -> "ClassIndex":
        """The index over the distinct code points given, in any order."""
        return cls(tuple(sorted(set(codepoints), key=lambda text: ord(character_of(text)))))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {codepoint: class_id for class_id, codepoint in enumerate(self.codepoints)}

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the code points in order, each followed by a newline."""
        return hashlib.sha256("".join(f"{c}\n" for c in self.codepoints).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.codepoints)

    def id_of(self, codepoint: str) -> int:
        """The class id of a code point; ValueError if the index does not have it."""
        try:
            return self._ids[codepoint]
        except KeyError:
            parse_codepoint(codepoint)
            raise ValueError(f"{codepoint} is not among the {len(self)} classes") from None

    def character(self, class_id: int) -> str:
        """The character of a class id in [0, len)."""
        if not 0 <= class_id < len(self):
            raise ValueError(f"expected a class id in [0, {len(self)}), got {class_id}")
        return character_of(self.codepoints[class_id])

    def to_json(self) -> dict[str, Any]:
        """The content of index.json."""
        keys = (f"{character_of(c)} ({c})" for c in self.codepoints)
        return {
            "version": INDEX_VERSION,
            "digest": self.digest,
            "codepoint_to_id": {key: class_id for class_id, key in enumerate(keys)},
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ClassIndex":
        """The inverse of `to_json`; refuses another version, order, gap, label or digest."""
        if not isinstance(content, dict) or content.get("version") != INDEX_VERSION:
            version = content.get("version") if isinstance(content, dict) else None
            raise ValueError(f"expected a class index of version {INDEX_VERSION}, got {version!r}")
        table = content.get("codepoint_to_id")
        if not isinstance(table, dict) or list(table.values()) != list(range(len(table))):
            raise ValueError("codepoint_to_id must have the ids 0, 1, 2, ... in order")
        codepoints = []
        for key in table:
            match = _KEY.fullmatch(key)
            if not match or character_of(match[2]) != match[1]:
                raise ValueError(
                    f"codepoint_to_id must have keys such as '春 (U+6625)', not {key!r}"
                )
            codepoints.append(match[2])
        index = cls(tuple(codepoints))
        if content.get("digest") != index.digest:
            raise ValueError(
                f"the class index was changed: its digest is {index.digest[:12]}..., "
                f"it says {str(content.get('digest'))[:12]}..."
            )
        return index

    def save(self, path: Path) -> None:
        """Writes index.json, in UTF-8."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1)
        with written_whole(Path(path)) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "ClassIndex":
        """Reads index.json; ValueError names the file."""
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ValueError(f"{path} is missing: expected a class index (index.json)") from None
        except ValueError as err:  # JSON and UTF-8 errors are ValueErrors too
            raise ValueError(f"{path}: {err}") from err
