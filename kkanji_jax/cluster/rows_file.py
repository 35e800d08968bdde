"""The rows of one partition as a Parquet file, which appears when it is complete."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kkanji_jax.answers.row_formats import object_of
from kkanji_jax.answers.rows import Row
from kkanji_jax.answers.tally import Tally
from kkanji_jax.files import naming_in_errors, sha256_of

ROWS_AT_ONCE = 32_768  # a row group of the file; what is held in memory


class Written(NamedTuple):
    """A finished file of rows, as the manifest has it."""

    number: int
    file: str
    digest: str  # of the partition
    num_rows: int
    bytes: int
    sha256: str
    tally: Tally


def schema() -> Any:
    """The columns, which are those of JSON."""
    import pyarrow as pa

    text = pa.string()
    form = pa.struct([("character", text), ("codepoint", text), ("relation", text)])
    near = pa.struct([("sample_id", text), ("codepoint", text), ("similarity", pa.float64())])
    kinds = {
        "path": text,
        "rank": pa.int32(),
        "character": text,
        "codepoint": text,
        "probability": pa.float64(),
        "verdict": text,
        "error": text,
        "id": text,
        "box": pa.list_(pa.int32()),
        "variants": pa.list_(form),
        "neighbours": pa.list_(near),
        "ink": text,
        "remark": text,
    }
    return pa.schema([(name, kinds[name]) for name in Row._fields])


def write_partition(path: Path, rows: Iterable[Row], *, number: int, digest: str) -> Written:
    """Writes the rows to `path`, atomically; the same rows are the same bytes. OSError names it."""
    from pyarrow.parquet import ParquetWriter

    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.unfinished")
    tally, num_rows, held = Tally(), 0, []
    try:
        with naming_in_errors(path, unfinished), unfinished.open("wb") as file:
            with ParquetWriter(file, schema(), compression="zstd") as writer:
                for row in rows:
                    if row.is_first:
                        tally = tally.with_image(row)
                        if len(held) >= ROWS_AT_ONCE:
                            writer.write_table(_table(held))
                            held = []
                    held.append(row)
                    num_rows += 1
                writer.write_table(_table(held))
            file.flush()
            os.fsync(file.fileno())
        size, sha256 = unfinished.stat().st_size, sha256_of(unfinished)
        with naming_in_errors(path, unfinished):
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return Written(number, path.name, digest, num_rows, size, sha256, tally)


def _table(rows: list[Row]) -> Any:
    import pyarrow as pa

    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    columns = columns or [[] for _ in Row._fields]
    nested = {Row._fields.index(name) for name in ("variants", "neighbours")}
    for place in nested:
        if any(columns[place]):
            columns[place] = [object_of(row)[Row._fields[place]] for row in rows]
    kinds = schema()
    arrays = [
        pa.array(_plain(column) if pa.types.is_string(field.type) else column, field.type)
        for column, field in zip(columns, kinds, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=kinds)


def _plain(texts: list[str | None]) -> list[str | None]:
    """The text with bytes that are not UTF-8 as escapes, as in all other formats."""
    return [t if t is None else t.encode("utf-8", "backslashreplace").decode() for t in texts]
