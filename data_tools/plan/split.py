"""splits.csv: the split of each sample; written, checked, read.

The format is documented in docs/splits.md. `protocols` decides its content.
"""

import csv
import io
import lzma
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from data_tools.read.catalogue import Original
from kkanji_jax.data.class_index import parse_codepoint
from kkanji_jax.data.csv_text import write_lines
from kkanji_jax.data.manifest import SPLITS

SPLITS_VERSION = 1  # columns may be added to its right; any other change raises it
COLUMNS = ("sample_id", "codepoint", "split", "pixels_sha256", "parent_id", "book")
MIN_DIGITS = 16  # of a SHA-256, which a published file may shorten


class SplitRow(NamedTuple):
    """One row of splits.csv; `pixels_sha256` is of the 64x64 pixels, empty if unknown.

    `book` is empty if the source does not state it, or if the protocol does not use it.
    """

    sample_id: str
    codepoint: str
    split: str
    pixels_sha256: str
    parent_id: str
    book: str = ""


def make_rows(
    originals: Iterable[Original], splits: Iterable[str], *, with_books: bool = False
) -> list[SplitRow]:
    """The rows of splits.csv, in the order of the originals."""
    return [
        SplitRow(
            o.sample_id,
            o.codepoint,
            split,
            o.pixels_sha256,
            o.sample_id,
            o.book if with_books else "",
        )
        for o, split in zip(originals, splits, strict=True)
    ]


def check_rows(rows: Iterable[SplitRow], *, allow_leaks: bool = False) -> None:
    """ValueError if a sample comes twice, or if two splits share a parent, pixels, or a book.

    With `allow_leaks`, only if a sample comes twice.
    """
    first_of: dict[tuple[str, str], SplitRow] = {}
    seen: set[str] = set()
    for row in rows:
        if row.sample_id in seen:
            raise ValueError(f"{row.sample_id} comes twice")
        seen.add(row.sample_id)
        if allow_leaks:
            continue
        for kind, value in (
            ("have the same pixels", row.pixels_sha256),
            ("come from the same original", row.parent_id),
            ("come from the same book", row.book),
        ):
            first = first_of.setdefault((kind, value), row) if value else row
            if first.split != row.split:
                raise ValueError(
                    f"{first.sample_id} in {first.split} and {row.sample_id} in {row.split} {kind}"
                )


def to_csv(rows: Sequence[SplitRow]) -> str:
    """The content of splits.csv; it has the column of books only if a row has one."""
    num_columns = len(COLUMNS) if any(row.book for row in rows) else COLUMNS.index("book")
    text = io.StringIO(newline="")
    write_lines(text, (row[:num_columns] for row in chain([COLUMNS], rows)))
    return text.getvalue()


def _open_text(path: Path) -> io.TextIOWrapper:
    if path.suffix == ".xz":
        return io.TextIOWrapper(lzma.open(path), encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def read_splits(path: Path) -> list[SplitRow]:
    """The rows of a splits.csv or splits.csv.xz; only its first three columns are required."""
    try:
        with _open_text(path) as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"must have a column {missing[0]!r}, among {', '.join(COLUMNS)}")
            rows = []
            for number, fields in enumerate(reader, start=2):
                row = SplitRow(*((fields.get(name) or "") for name in COLUMNS))
                if row.split not in SPLITS:
                    raise ValueError(
                        f"line {number}: the split must be train, val or test, not {row.split!r}"
                    )
                parse_codepoint(row.codepoint)
                rows.append(row._replace(parent_id=row.parent_id or row.sample_id))
    except FileNotFoundError:
        raise ValueError(f"no file {path}: expected a splits.csv") from None
    except (ValueError, csv.Error, lzma.LZMAError, EOFError) as err:
        raise ValueError(f"{path}: {err}") from err
    return rows


def _is_digest_of(listed: str, pixels_sha256: str) -> bool:
    """Whether a listed digest, which may be shortened or absent, is that of these pixels."""
    return not listed or (len(listed) >= MIN_DIGITS and pixels_sha256.startswith(listed))


def read_earlier(path: Path, originals: Iterable[Original]) -> tuple[dict[str, str], list[str]]:
    """(split by sample id, ids that the source does not have) of an earlier splits.csv.

    ValueError if the code point or the pixels of a sample have changed.
    """
    listed = read_splits(path)
    rows = {row.sample_id: row for row in listed}
    if len(rows) != len(listed):
        raise ValueError(f"{path} lists {len(listed) - len(rows)} samples twice")
    found: dict[str, str] = {}
    by_pixels: dict[str, list[str]] = defaultdict(list)
    for original in originals:
        row = rows.get(original.sample_id)
        if row is None:
            continue
        if row.codepoint != original.codepoint:
            raise ValueError(
                f"{path}: {row.sample_id} is {row.codepoint} there, "
                f"{original.codepoint} in the source"
            )
        if not _is_digest_of(row.pixels_sha256, original.pixels_sha256):
            raise ValueError(f"{path}: {row.sample_id} has other pixels in the source")
        found[row.sample_id] = row.split
        by_pixels[original.pixels_sha256].append(row.sample_id)
    for ids in by_pixels.values():
        if len({found[sample_id] for sample_id in ids}) > 1:
            raise ValueError(
                f"{path} puts equal pixels in two splits: {', '.join(ids)}: leave all but one out"
            )
    return found, [sample_id for sample_id in rows if sample_id not in found]


def read_left_out(path: Path) -> dict[str, str]:
    """The reason by sample id, from a CSV of samples to drop; the column `reason` is optional.

    ValueError names the file, and the line if it has no sample id.
    """
    try:
        with _open_text(path) as file:
            reader = csv.DictReader(file, strict=True)
            if "sample_id" not in (reader.fieldnames or ()):
                raise ValueError("must have a column 'sample_id', and may have one 'reason'")
            reasons = {}
            for row in reader:
                if not row["sample_id"]:
                    raise ValueError(f"line {reader.line_num} has no sample_id")
                reasons[row["sample_id"]] = row.get("reason") or ""
            return reasons
    except FileNotFoundError:
        raise ValueError(f"no file {path}: expected a CSV of samples to leave out") from None
    except (ValueError, csv.Error, lzma.LZMAError, EOFError) as err:
        raise ValueError(f"{path}: {err}") from err
