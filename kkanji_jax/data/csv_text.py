"""Tables that people and spreadsheets write: their encoding, what separates cells, their lines.

And how tables are written here.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

_DELIMITERS = ",;\t"
# Excel's own first line, which says what separates cells; and lines without anything in them.
_EMPTY = r"(?:[^\S\r\n]*(?:\r\n?|\n))*"
_FRONT = re.compile(rf"{_EMPTY}(?:sep=(?P<by>[,;\t])[ ]*(?:\r\n?|\n){_EMPTY})?", re.IGNORECASE)


def decoded(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 with a byte order mark, or CP932; ValueError names it."""
    content = path.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path} is a workbook or an archive: save the table as CSV")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):  # Excel's "Unicode text"
        encodings = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp932")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text
    raise ValueError(f"{path} is neither UTF-8 nor CP932 (Shift_JIS): save it as UTF-8")


class _UnixLines:
    """A file to which lines that end in CR LF are written with LF."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


def write_lines(file: io.TextIOBase, rows: Iterable[Iterable[object]]) -> None:
    """Writes rows as CSV, with LF after each; cells with LF or a bare CR are quoted.

    Python's writer quotes only what is in its own line ends, and a reader refuses a bare CR.
    """
    csv.writer(_UnixLines(file), lineterminator="\r\n").writerows(rows)


class CsvText:
    """The heading of a CSV text, in lower case, and its lines that are not empty.

    Cells are separated by `delimiter`: a comma, a semicolon or a tab, whichever the heading has
    most of, or what a line `sep=;` before it says. `line_num` is the line that was read last.
    ValueError for a quote that is opened and not closed, which would swallow lines.
    """

    def __init__(self, text: str) -> None:
        front = _FRONT.match(text)
        assert front is not None  # it matches nothing too
        before, self._text = text[: front.end()], text[front.end() :]
        self._skipped = len(before.splitlines())
        first = next(iter(self._text.splitlines()), "")
        self.delimiter = front["by"] or max(_DELIMITERS, key=first.count)
        # One cell may hold a page; the module's limit is 131,072 characters.
        csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
        rows = io.StringIO(self._text, newline="")
        self._rows = csv.reader(rows, delimiter=self.delimiter)
        self.heading = [name.strip().lower() for name in next(self._rows, [])]

    @property
    def line_num(self) -> int:
        """The line of the file that was read last, from 1."""
        return self._skipped + self._rows.line_num

    def __iter__(self) -> Iterator[list[str]]:
        """The cells of each line after the heading that has any."""
        start = self._rows.line_num + 1
        for cells in self._rows:
            # What swallows lines is the last cell of all, and does not end with a quote.
            has_break = bool(cells) and any(end in cells[-1] for end in "\r\n")
            if has_break and self._rows.line_num == self._num_lines and not self._ends_quoted:
                raise ValueError(f"a quote that opens in line {self._skipped + start} never closes")
            start = self._rows.line_num + 1
            if any(cells):
                yield cells

    @cached_property
    def _num_lines(self) -> int:
        return sum(1 for _ in io.StringIO(self._text, newline=""))

    @property
    def _ends_quoted(self) -> bool:
        return self._text.rstrip("\r\n").endswith('"')
