"""Decides the content of a DATASET; writes nothing."""

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from data_tools.plan import protocols, shard_contents, split
from data_tools.plan.audit import audit, leave_out
from data_tools.plan.audit_pictures import choose_pictures
from data_tools.read.catalogue import OFFICIAL_TESTS, Original, read_catalogue
from data_tools.read.rights import read_rights
from kkanji_jax.cli import Report, say_nothing
from kkanji_jax.data.balance import Plan
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import LEAKY_PROTOCOL, SPLITS
from kkanji_jax.data.records import FORMAT_VERSION, Chunk, address_of
from kkanji_jax.random_streams import MAX_SEED
from kkanji_jax.workers import Workers

BUILD_VERSION = 4  # raised by any change of the written files, except for texts in audit.json
MAX_LEAKY_EXAMPLES = 2_000_000  # each has a row in splits.csv
ENGINES = ("device", "host")


class Options(NamedTuple):
    """All options that determine the content; ratios None: those of the protocol.

    `policy` and `engine` augment the copies that `per_class` writes out; None: the protocol's. With
    `val_books` or `test_books`, images that state their book are split by it; `leave_out` is a CSV
    of sample ids to drop.
    """

    protocol: str = "honest"
    ratios: protocols.Ratios | None = None
    splits_from: Path | None = None
    val_books: tuple[str, ...] = ()
    test_books: tuple[str, ...] = ()
    leave_out: Path | None = None
    min_images: int = 1
    per_class: int | None = None
    policy: str | None = None
    engine: str = "device"
    pool_official: tuple[str, ...] = ()
    skip_bad: bool = False
    seed: int = 0

    def completed(self) -> "Options":
        """The same, with the protocol's defaults filled in; ValueError for invalid options."""
        for name, value in (("min-images", self.min_images), ("per-class", self.per_class)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, not {value}")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"--seed must be 0 to {MAX_SEED}, not {self.seed}")
        if self.policy and not self.per_class:
            raise ValueError("--policy varies the copies that --per-class writes: give that too")
        if self.engine == "host" and not self.per_class:
            raise ValueError("--engine host varies copies that --per-class writes: give that too")
        ratios = self.ratios or protocols.DEFAULT_RATIOS.get(self.protocol, (100.0, 0.0, 0.0))
        protocols.check_choice(
            self.protocol,
            ratios,
            per_class=self.per_class,
            has_earlier=self.splits_from is not None,
            has_books=bool(self.val_books or self.test_books),
        )
        policy = "legacy" if self.protocol == LEAKY_PROTOCOL else "glyph_safe"
        return self._replace(
            ratios=ratios, policy=(self.policy or policy) if self.per_class else None
        )

    @property
    def shares(self) -> protocols.Ratios:
        """The ratios of completed options."""
        assert self.ratios is not None
        return self.ratios

    def command(self) -> str:
        """The command that repeats the build, without paths of this machine."""
        words = ["python -m data_tools.build --source DIR --out DATASET"]
        words.append(f"--protocol {self.protocol}")
        words.append("--ratios " + "/".join(repr(r).removesuffix(".0") for r in self.shares))
        words += ["--splits-from CSV"] if self.splits_from else []
        for name, books in (("val", self.val_books), ("test", self.test_books)):
            words += [f"--{name}-books {shlex.quote(','.join(books))}"] if books else []
        words += ["--leave-out CSV"] if self.leave_out else []
        words.append(f"--min-images {self.min_images}")
        if self.per_class:
            words.append(f"--per-class {self.per_class}")
            words.append(f"--policy {self.policy} --engine {self.engine}")
        words += [f"--pool-official {name}" for name in self.pool_official]
        words += ["--skip-bad"] if self.skip_bad else []
        return " ".join([*words, f"--seed {self.seed}"])

    def record(self) -> dict[str, Any]:
        """The options as the manifest has them."""
        recorded = self._asdict()
        for name in ("splits_from", "leave_out", "skip_bad"):  # this machine's; the audit tells
            del recorded[name]
        for name in ("ratios", "pool_official", "val_books", "test_books"):
            recorded[name] = list(recorded[name])
        recorded["engine"] = self.engine if self.per_class else None
        return {**recorded, "chunk_size": shard_contents.CHUNK_SIZE}


class PlannedDataset(NamedTuple):
    """What is to be written: the kept originals, their splits, their classes."""

    kept: list[Original]
    rows: list[split.SplitRow]
    index: ClassIndex
    class_ids: Int32[np.ndarray, " n"]
    audit: dict[str, Any]
    pictures: Chunk
    sources: list[dict[str, Any]]
    rights: dict[str, str]  # licence and attribution
    fingerprint: str


class SelectedExamples(NamedTuple):
    """Each split's examples in stored order, and the rows of splits.csv."""

    selections: list[shard_contents.Selection]
    rows: list[split.SplitRow]


def _catalogue_digest(originals: Iterable[Original]) -> str:
    """SHA-256 of what identifies the originals: ids, code points, pixels and books."""
    digest = hashlib.sha256()
    for original in originals:
        line = (original.sample_id, original.codepoint, original.pixels_sha256)
        line += (original.book,) if original.book else ()
        digest.update(("\t".join(line) + "\n").encode())
    return digest.hexdigest()


def _make_fingerprint(
    options: Options,
    originals: Sequence[Original],
    earlier: dict[str, str],
    unwanted: Mapping[str, str],
) -> str:
    policy = None
    if options.policy:
        from kkanji_jax.augment.policy import get_policy

        policy = get_policy(options.policy).to_json()
    decisive = {
        "versions": [FORMAT_VERSION, BUILD_VERSION],
        "originals": _catalogue_digest(originals),
        "earlier": earlier,
        "left_out": sorted(unwanted),
        "layout": [shard_contents.SHARD_EXAMPLES, shard_contents.WRITER_OPTIONS],
        "policy": policy,
        "options": options.record(),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def decide(
    source: Path,
    options: Options,
    report: Report = say_nothing,
    say: Callable[[str], None] = lambda line: None,
    *,
    scratch: Path | None = None,
    workers: Workers | None = None,
) -> PlannedDataset:
    """Reads `source`, audits it and splits it; `options` are completed ones.

    The pixels go to an unnamed file in the folder `scratch`.
    """
    rights = read_rights(source)
    catalogue = read_catalogue(
        source, skip_bad=options.skip_bad, scratch=scratch, workers=workers, report=report
    )
    for note in catalogue.notes:
        say(note)
    earlier: dict[str, str] = {}
    absent: list[str] = []
    if options.splits_from:
        earlier, absent = split.read_earlier(options.splits_from, catalogue.originals)
        _require_some(source, options.splits_from, len(earlier), len(absent))
    unwanted: dict[str, str] = {}
    strange: list[str] = []
    if options.leave_out:
        unwanted = split.read_left_out(options.leave_out)
        strange = sorted(unwanted.keys() - {each.sample_id for each in catalogue.originals})
        _require_some(source, options.leave_out, len(unwanted) - len(strange), len(strange))
    pooled, ratios = options.pool_official, options.shares
    audited = audit(
        catalogue,
        pooled=pooled,
        min_images=options.min_images,
        earlier=earlier,
        unwanted=unwanted,
    )
    books = protocols.hold_out(catalogue.originals, val=options.val_books, test=options.test_books)
    how = {"ratios": ratios, "seed": options.seed, "pooled": pooled, "earlier": earlier}
    how |= {"books": books}
    assignment = protocols.assign(options.protocol, audited.kept, **how)
    kept, audit_report, _ = leave_out(audited, assignment.left_out)
    if not kept:
        raise ValueError(_why_nothing_is_left(source, catalogue.originals, pooled))
    split_of = zip(audited.kept, assignment.splits, strict=True)
    splits = [name for o, name in split_of if o.codepoint not in assignment.left_out]
    rows = split.make_rows(kept, splits, with_books=bool(books) or options.protocol == "by-book")
    split.check_rows(rows)
    kept_ids = {original.sample_id for original in kept}
    audit_report["splits_from"] = {
        "num_honoured": len(kept_ids & earlier.keys()),
        "not_in_source": absent,
        "dropped": [sample_id for sample_id in earlier if sample_id not in kept_ids],
    }
    audit_report["leave_out"] = {"num_listed": len(unwanted), "not_in_source": strange}
    if strange:
        say(f"{len(strange)} samples of {options.leave_out} are not in the source (audit.json)")
    if absent:
        say(f"{len(absent)} samples of {options.splits_from} are not in the source (audit.json)")
    index = ClassIndex.from_codepoints(original.codepoint for original in kept)
    class_ids = np.array([index.id_of(original.codepoint) for original in kept], np.int32)
    pictures = choose_pictures(audit_report, catalogue.originals, index)
    fingerprint = _make_fingerprint(options, catalogue.originals, earlier, unwanted)
    return PlannedDataset(
        kept=kept,
        rows=rows,
        index=index,
        class_ids=class_ids,
        audit=audit_report,
        pictures=pictures,
        sources=catalogue.sources,
        rights=rights,
        fingerprint=fingerprint,
    )


def _require_some(source: Path, listed: Path, num_present: int, num_absent: int) -> None:
    """ValueError for a list of samples that are all of another source."""
    if num_absent and not num_present:
        raise ValueError(
            f"{listed}: none of its {num_absent:,} samples is in {source}; give the list of this "
            "source, or none"
        )


def _why_nothing_is_left(
    source: Path, originals: Iterable[Original], pooled: Collection[str]
) -> str:
    held_back = {o.source for o in originals} - {f"{name}-test" for name in pooled}
    if not held_back or not held_back <= set(OFFICIAL_TESTS):
        return f"no class of {source} is left after the audit, so nothing is written"
    names = sorted(name.removesuffix("-test") for name in held_back)
    return (
        f"{source} holds official test images only ({', '.join(names)}), and they are never "
        "trained on: put the training images beside them, or split them like others with "
        + " ".join(f"--pool-official {name}" for name in names)
    )


def _balance(
    mine: Int32[np.ndarray, " n"], planned: PlannedDataset, options: Options
) -> tuple[Int32[np.ndarray, " m"], Int32[np.ndarray, " m"]]:
    """Rows and copy numbers of the plan's epoch 0 over these originals."""
    addresses = address_of([planned.rows[i].sample_id for i in mine])
    labels = planned.class_ids[mine]
    plan = Plan(labels, addresses, per_class=options.per_class, seed=options.seed)
    picks, copies = np.empty(len(plan), np.int32), np.empty(len(plan), np.int32)
    for start in range(0, len(plan), shard_contents.BLOCK):
        positions = np.arange(start, min(start + shard_contents.BLOCK, len(plan)), dtype=np.int64)
        part = slice(start, start + shard_contents.BLOCK)
        picks[part], copies[part] = plan.lookup(positions, np.zeros_like(positions))
    return mine[picks], copies


def _row_of_copy(row: split.SplitRow, copy: int, name: str) -> split.SplitRow:
    """The row of an example under the leaky protocol, whose pixels have no digest yet."""
    if not copy:
        return row._replace(split=name)
    return row._replace(sample_id=f"{row.sample_id}#{copy}", split=name, pixels_sha256="")


def select(planned: PlannedDataset, options: Options) -> SelectedExamples:
    """Each split's examples in stored order; `per_class` balances train by the plan's epoch 0."""
    sample_ids = [row.sample_id for row in planned.rows]
    examples: dict[str, tuple[Any, Any]] = {}
    for name in SPLITS:
        mine = np.array([i for i, row in enumerate(planned.rows) if row.split == name], np.int32)
        copies = np.zeros(len(mine), np.int32)
        if name == "train" and options.per_class:
            mine, copies = _balance(mine, planned, options)
        examples[name] = mine, copies
    rows = planned.rows
    if options.protocol == LEAKY_PROTOCOL:
        pool, numbers = examples["train"]
        if len(pool) > MAX_LEAKY_EXAMPLES:
            raise ValueError(
                f"the protocol legacy must have at most {MAX_LEAKY_EXAMPLES:,} examples, not "
                f"{len(pool):,}: give a smaller --per-class"
            )
        drawn = protocols.split_copies(
            sample_ids, pool, numbers, ratios=options.shares, seed=options.seed
        )
        names = np.array(drawn)
        if len(np.unique(planned.class_ids[pool[names == "train"]])) < len(planned.index):
            raise ValueError("a class has no training example: give a larger --per-class")
        rows = [row for row in rows if row.split == "test"]  # official test images
        for i, copy, name in zip(pool.tolist(), numbers.tolist(), drawn, strict=True):
            rows.append(_row_of_copy(planned.rows[i], copy, name))
        for name in SPLITS:
            before = examples[name] if name != "train" else (pool[:0], numbers[:0])
            added = (pool[names == name], numbers[names == name])
            examples[name] = tuple(map(np.concatenate, zip(before, added, strict=True)))
    selections = [
        shard_contents.store_order(name, *examples[name], sample_ids, options.seed)
        for name in SPLITS
    ]
    return SelectedExamples(selections, rows)


def count_splits(
    selections: Iterable[shard_contents.Selection],
    class_ids: Int32[np.ndarray, " n"],
    index: ClassIndex,
) -> dict[str, dict[str, Any]]:
    """The `splits` of a manifest: examples and classes of each split."""
    splits = {}
    for selection in selections:
        ids, counts = np.unique(class_ids[selection.rows], return_counts=True)
        class_counts = zip((index.codepoints[i] for i in ids), counts.tolist(), strict=True)
        splits[selection.split] = {
            "num_examples": len(selection.rows),
            "num_classes": len(ids),
            "class_counts": dict(class_counts),
        }
    return splits


def count_originals(rows: Iterable[split.SplitRow], index: ClassIndex) -> dict[str, int]:
    """The number of originals of each class that are in training, themselves or as copies."""
    parents = {(row.codepoint, row.parent_id) for row in rows if row.split == "train"}
    counts = Counter(codepoint for codepoint, _ in parents)
    return {codepoint: counts[codepoint] for codepoint in index.codepoints}
