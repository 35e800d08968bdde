"""Which original is for training, validation or test; decided before anything is augmented."""

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from data_tools.combine import OFFICIAL_TESTS, Original
from kkanji_jax.data.class_index import parse_codepoint
from kkanji_jax.data.manifest import SPLITS

COLUMNS = ("sample_id", "codepoint", "split", "pixels_sha256", "parent_id")


class Row(NamedTuple):
    """One row of splits.csv; `pixels_sha256` is of the 64x64 pixels, empty where unknown."""

    sample_id: str
    codepoint: str
    split: str
    pixels_sha256: str
    parent_id: str


def parse_ratios(text: str) -> tuple[float, float, float]:
    """`80/10/10` -> percentages of train, val and test; they sum to 100, train is over 0."""
    try:
        train, val, test = (float(part) for part in text.split("/"))
    except ValueError:
        raise ValueError(f"ratios want train/val/test such as 80/10/10, got {text!r}") from None
    if not (train > 0 and val >= 0 and test >= 0 and abs(train + val + test - 100) < 1e-9):
        raise ValueError(f"ratios want train over 0 and a sum of 100, got {text!r}")
    return train, val, test


def split_position(pixels_sha256: str, seed: int) -> float:
    """Where an original's pixels fall in [0, 1), for this seed; nothing else matters to it."""
    digest = hashlib.blake2b(f"{seed}:{pixels_sha256}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def assign_splits(
    originals: Iterable[Original],
    *,
    ratios: tuple[float, float, float],
    seed: int,
    pooled: Collection[str] = (),
    earlier: Mapping[str, str] | None = None,
) -> list[str]:
    """The split of each original, under the honest protocol.

    Official test images are test, unless their set is `pooled`. Samples in `earlier` stay where
    they were. Any other goes by its hash: the first `ratios[0]` percent of [0, 1) is train, then
    val, then test. A class that has no training image then gets the one of largest hash that
    neither rule holds; so the split of a sample depends on its own pixels, on the seed, and only in
    such a class on the others of its class. Equal pixels of one class have equal hashes.
    """
    earlier = earlier or {}
    official = frozenset(OFFICIAL_TESTS) - {f"{name}-test" for name in pooled}
    train_end, val_end = ratios[0] / 100, (ratios[0] + ratios[1]) / 100
    splits: list[str] = []
    has_train: set[str] = set()
    largest: dict[str, tuple[float, str, int]] = {}
    for row, original in enumerate(originals):
        before = earlier.get(original.sample_id)
        if original.source in official:
            if before not in (None, "test"):
                raise ValueError(
                    f"{original.sample_id} was {before} before, but is an official test image: "
                    f"give --pool-official {original.source.removesuffix('-test')}, "
                    "or other earlier splits"
                )
            split = "test"
        elif before is not None:
            split = before
        else:
            position = split_position(original.pixels_sha256, seed)
            split = "train" if position < train_end else "val" if position < val_end else "test"
            mine = (position, original.sample_id, row)
            largest[original.codepoint] = max(largest.get(original.codepoint, mine), mine)
        if split == "train":
            has_train.add(original.codepoint)
        splits.append(split)
    for codepoint, (_, _, row) in largest.items():
        if codepoint not in has_train:
            splits[row] = "train"
    return splits


def make_rows(originals: Iterable[Original], splits: Iterable[str]) -> list[Row]:
    """The rows of splits.csv, in the order of the originals."""
    return [
        Row(o.sample_id, o.codepoint, split, o.pixels_sha256, o.sample_id)
        for o, split in zip(originals, splits, strict=True)
    ]


def check_rows(rows: Iterable[Row]) -> None:
    """ValueError when equal pixels stand in two splits, or a sample comes twice."""
    split_of: dict[str, Row] = {}
    seen: set[str] = set()
    for row in rows:
        if row.sample_id in seen:
            raise ValueError(f"{row.sample_id} comes twice")
        seen.add(row.sample_id)
        first = split_of.setdefault(row.pixels_sha256, row)
        if first.split != row.split:
            raise ValueError(
                f"{first.sample_id} in {first.split} and {row.sample_id} in {row.split} "
                "have the same pixels"
            )


def to_csv(rows: Iterable[Row]) -> str:
    """The content of splits.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def read_splits(path: Path) -> list[Row]:
    """The rows of a splits.csv; only its first three columns must be there."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"wants a column {missing[0]!r}, among {', '.join(COLUMNS)}")
            rows = []
            for number, fields in enumerate(reader, start=2):
                row = Row(*((fields.get(name) or "") for name in COLUMNS))
                if row.split not in SPLITS:
                    raise ValueError(f"line {number} wants train, val or test, got {row.split!r}")
                parse_codepoint(row.codepoint)
                rows.append(row._replace(parent_id=row.parent_id or row.sample_id))
    except FileNotFoundError:
        raise ValueError(f"no file {path}: wanted a splits.csv") from None
    except (ValueError, csv.Error) as err:
        raise ValueError(f"{path}: {err}") from err
    return rows


def read_earlier(path: Path, originals: Iterable[Original]) -> tuple[dict[str, str], list[str]]:
    """(split by sample id, ids that the source does not have) of an earlier splits.csv.

    Refuses a sample whose code point or pixels are no longer those of the file.
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
        if row.pixels_sha256 not in ("", original.pixels_sha256):
            raise ValueError(f"{path}: {row.sample_id} has other pixels in the source")
        found[row.sample_id] = row.split
        by_pixels[original.pixels_sha256].append(row.sample_id)
    for ids in by_pixels.values():
        if len({found[sample_id] for sample_id in ids}) > 1:
            raise ValueError(
                f"{path} puts equal pixels in two splits: {', '.join(ids)}: leave all but one out"
            )
    return found, [sample_id for sample_id in rows if sample_id not in found]
