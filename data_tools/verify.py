"""python -m data_tools.verify: re-reads and recounts every shard of a DATASET."""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from data_tools.plan import split
from kkanji_jax import cli
from kkanji_jax.cli import Report, say_nothing
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import (
    LEAKY_PROTOCOL,
    SHARD_NAME,
    SPLITS,
    read_manifest,
    refuse_leaky,
)
from kkanji_jax.data.records import Chunk, address_of, decode
from kkanji_jax.files import sha256_of


class _Seen:
    """What the shards of a dataset actually hold."""

    def __init__(self) -> None:
        self.class_counts = {name: Counter[int]() for name in SPLITS}
        self.addresses: list[np.ndarray] = []
        self.originals: dict[str, set[str]] = {name: set() for name in SPLITS}


def _read_shard(path: Path, entry: dict[str, Any]) -> Iterator[Chunk]:
    """Each record, decoded; ValueError if it differs from the manifest entry."""
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
    # A broken file opens silently, with no record in it, and would complain when closed.
    if not reader.ok() or reader.num_records() != entry["num_records"]:
        found = reader.num_records()
        raise ValueError(f"must have {entry['num_records']} records, has {found} readable")
    for number in range(entry["num_records"]):
        try:
            chunk = decode(reader.read([number])[0])
        except (RuntimeError, ValueError) as err:
            raise ValueError(f"record {number}: {err}") from err
        yield chunk
    reader.close()


def _check_chunk(
    chunk: Chunk,
    name: str,
    manifest: dict[str, Any],
    index: ClassIndex,
    rows: dict[str, split.SplitRow],
) -> Iterator[str]:
    if chunk.images.shape[1:] != (manifest["image_px"],) * 2:
        yield f"images of {chunk.images.shape[1:]}, not {manifest['image_px']} px"
    is_leaky = manifest["protocol"] == LEAKY_PROTOCOL
    has_copies = manifest["per_class"] is not None and (name == "train" or is_leaky)
    fields = (chunk.images, chunk.class_ids.tolist(), chunk.sample_ids, chunk.parent_ids)
    for image, class_id, sample_id, parent_id in zip(*fields, strict=True):
        row = rows.get(sample_id if is_leaky else parent_id)
        copy = sample_id.removeprefix(parent_id)
        if row is None:
            yield f"{sample_id}: its original {parent_id} is not in splits.csv"
        elif row.split != name:
            leak = ": a leak" if "train" in (row.split, name) else ""
            yield f"{sample_id} is in {name}, but splits.csv has its original in {row.split}{leak}"
        elif row.parent_id != parent_id:
            yield f"{sample_id} has the parent {parent_id}, but splits.csv has {row.parent_id}"
        elif not 0 <= class_id < len(index) or index.codepoints[class_id] != row.codepoint:
            yield f"{sample_id} has class id {class_id}, which is not {row.codepoint}"
        elif copy and not (has_copies and copy[0] == "#" and copy[1:].isdecimal()):
            yield f"{sample_id} is no copy that this dataset may hold"
        elif not copy and hashlib.sha256(image.tobytes()).hexdigest() != row.pixels_sha256:
            yield f"{sample_id} has other pixels than splits.csv says"


def _check_counts(
    dataset: Path,
    manifest: dict[str, Any],
    index: ClassIndex,
    rows: list[split.SplitRow],
    seen: _Seen,
) -> Iterator[str]:
    path = dataset / "manifest.json"
    for name in SPLITS:
        expected, counts = manifest["splits"][name], seen.class_counts[name]
        ids = sorted(i for i in counts if 0 <= i < len(index))
        if expected["num_examples"] != counts.total() or expected["num_classes"] != len(counts):
            yield (
                f"{path}: {name} must have {expected['num_examples']} examples of "
                f"{expected['num_classes']} classes, its shards hold {counts.total()} of "
                f"{len(counts)}"
            )
        elif expected["class_counts"] != {index.codepoints[i]: counts[i] for i in ids}:
            yield f"{path}: the class counts of {name} are not those of its shards"
        missing = {row.sample_id for row in rows if row.split == name} - seen.originals[name]
        if missing and not (name == "train" and manifest["per_class"] is not None):
            some = ", ".join(sorted(missing)[:3])
            yield f"{dataset / 'splits.csv'}: {len(missing)} of {name} are in no shard: {some}"
    parents = {(row.codepoint, row.parent_id) for row in rows if row.split == "train"}
    if manifest["original_counts"] != Counter(codepoint for codepoint, _ in parents):
        yield f"{path}: original_counts are not those of splits.csv"
    if seen.addresses:
        words = np.concatenate(seen.addresses).astype(np.uint64)
        packed = np.sort(words[:, 0] << np.uint64(32) | words[:, 1])
        if (packed[1:] == packed[:-1]).any():
            yield f"{dataset}: {(packed[1:] == packed[:-1]).sum()} examples come twice"


def find_problems(dataset: Path, report: Report = say_nothing) -> Iterator[str]:
    """A line for each difference from the manifest; ValueError if the dataset cannot be read."""
    manifest = read_manifest(dataset)
    index = ClassIndex.load(dataset / "index.json")
    if index.digest != manifest["class_index_digest"]:
        yield f"{dataset / 'index.json'}: is not the index of this manifest"
    rows = split.read_splits(dataset / "splits.csv")
    try:
        split.check_rows(rows, allow_leaks=manifest["protocol"] == LEAKY_PROTOCOL)
        json.loads((dataset / "audit.json").read_text(encoding="utf-8"))
    except (ValueError, OSError) as err:
        yield f"{dataset}: splits.csv or audit.json: {err}"
    row_of = {row.sample_id: row for row in rows}
    listed = {entry["file"] for entry in manifest["shards"]}
    for path in sorted(dataset.iterdir()):  # foreign files are not shards
        if SHARD_NAME.fullmatch(path.name) and path.name not in listed:
            yield f"{path}: is not in the manifest"
    seen, done = _Seen(), 0
    total = sum(entry["num_examples"] for entry in manifest["shards"])
    for entry in manifest["shards"]:
        path, name, in_shard = dataset / entry["file"], entry["split"], 0
        if not path.is_file():
            yield f"{path}: is missing"
            continue
        if path.stat().st_size != entry["bytes"]:
            yield f"{path}: must have {entry['bytes']} bytes, not {path.stat().st_size}"
        elif sha256_of(path) != entry["sha256"]:
            yield f"{path}: its bytes have changed: another SHA-256"
        try:
            for chunk in _read_shard(path, entry):
                for problem in _check_chunk(chunk, name, manifest, index, row_of):
                    yield f"{path}: {problem}"
                seen.class_counts[name].update(chunk.class_ids.tolist())
                seen.addresses.append(address_of(chunk.sample_ids))
                seen.originals[name].update(set(chunk.sample_ids) & row_of.keys())
                in_shard += len(chunk.sample_ids)
                report("verifying examples", done + in_shard, total)
            if in_shard != entry["num_examples"]:
                yield f"{path}: must have {entry['num_examples']} examples, not {in_shard}"
        except ValueError as err:
            yield f"{path}: {err}"
        done += in_shard
    yield from _check_counts(dataset, manifest, index, rows, seen)


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "data_tools.verify",
        "Re-reads and recounts every shard of a DATASET against its manifest.",
        "data/kuzushiji",
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a folder that build wrote")
    parser.add_argument(
        "--allow-leaky-protocol",
        choices=[LEAKY_PROTOCOL],
        help="verify a dataset of that protocol, whose splits share originals on purpose",
    )
    return parser


def verify(dataset: Path, allow_leaky_protocol: str | None) -> None:
    """Prints what agrees; a line on stderr for each problem, and then ValueError."""
    how = f"--allow-leaky-protocol {LEAKY_PROTOCOL}"
    refuse_leaky(dataset, read_manifest(dataset), allow_leaky_protocol, how)
    num_problems = 0
    with cli.Progress() as progress:
        for problem in find_problems(dataset, progress):
            num_problems += 1
            if num_problems <= 50:
                print(f"problem: {problem}", file=sys.stderr)
    if num_problems:
        raise ValueError(f"{dataset} has {num_problems} problems: build it anew")
    splits = read_manifest(dataset)["splits"]
    counts = ", ".join(f"{splits[name]['num_examples']:,} {name}" for name in SPLITS)
    print(f"{dataset}: every shard is as the manifest says: {counts}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; 0 if everything agrees, 1 with a line for each problem on stderr."""
    options = _parser().parse_args(argv)
    return cli.answer(lambda: verify(options.dataset, options.allow_leaky_protocol))


def run() -> NoReturn:
    """The process of `python -m data_tools.verify` and kkanji-verify."""
    cli.run(main)


if __name__ == "__main__":
    run()
