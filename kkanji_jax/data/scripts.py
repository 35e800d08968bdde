"""Which script a character belongs to."""

# Hiragana, katakana and hentaigana; ideographs with their iteration mark and zero.
_KANA = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x1AFF0, 0x1B16F))
_KANJI = (
    (0x3005, 0x3007),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
SCRIPTS = ("kana", "kanji", "other")


def script_of(codepoint: str) -> str:
    """`kana`, `kanji` or `other`."""
    number = int(codepoint[2:], 16)
    for name, blocks in zip(SCRIPTS, (_KANA, _KANJI), strict=False):
        if any(first <= number <= last for first, last in blocks):
            return name
    return "other"
