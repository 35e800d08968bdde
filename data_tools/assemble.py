"""Every step in turn: a folder of CODH's files -> a DATASET."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from data_tools import build_state, combine, shards, sources, split
from data_tools.audit import audit
from data_tools.progress import Report, say_nothing
from kkanji_jax import __version__
from kkanji_jax.data.balance import Plan
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import MANIFEST_NAME, SPLITS, load_manifest
from kkanji_jax.data.records import FORMAT_VERSION, IMAGE_PX, address_of

BUILD_VERSION = 1  # raised by any change of this code that changes the files it writes
BYTES_PER_ORIGINAL = 1_360  # on disk, measured on Kuzushiji-Kanji
BYTES_PER_COPY = 1_850  # the same, under glyph_safe
POLICY = "glyph_safe"  # of the copies that per_class writes out


class Options(NamedTuple):
    """Everything beside the source that decides what is built."""

    protocol: str = "honest"
    ratios: tuple[float, float, float] = (80.0, 10.0, 10.0)
    splits_from: Path | None = None
    min_images: int = 1
    per_class: int | None = None
    pool_official: tuple[str, ...] = ()
    skip_bad: bool = False
    seed: int = 0

    def command(self) -> str:
        """The command that builds the same again, without this machine's paths."""
        words = ["python -m data_tools.build --source DIR --out DATASET"]
        words.append(f"--protocol {self.protocol}")
        words.append("--ratios " + "/".join(f"{ratio:g}" for ratio in self.ratios))
        words += ["--splits-from CSV"] if self.splits_from else []
        words.append(f"--min-images {self.min_images}")
        words += [f"--per-class {self.per_class}"] if self.per_class else []
        words += [f"--pool-official {name}" for name in self.pool_official]
        words += ["--skip-bad"] if self.skip_bad else []
        return " ".join([*words, f"--seed {self.seed}"])


class Outcome(NamedTuple):
    """What was built, for a door to tell."""

    manifest: dict[str, Any]
    audit: dict[str, Any]
    num_resumed: int  # shards that an earlier, stopped build had finished
    is_new: bool  # False when all of it was there already


class _Decided(NamedTuple):
    """What is to be written: the originals that stay, the split of each, their classes."""

    kept: list[combine.Original]
    rows: list[split.Row]
    index: ClassIndex
    class_ids: Int32[np.ndarray, " n"]
    audit: dict[str, Any]
    sources: list[dict[str, Any]]
    fingerprint: str


def _check(options: Options) -> None:
    for name, value in (("min_images", options.min_images), ("per_class", options.per_class)):
        if value is not None and value < 1:
            raise ValueError(f"{name} wants at least 1, got {value}")
    if options.seed < 0:
        raise ValueError(f"the seed wants to be 0 or more, got {options.seed}")
    if options.protocol != "honest":
        raise ValueError(f"wanted the protocol honest, got {options.protocol!r}")


def _select(
    rows: list[split.Row], class_ids: Int32[np.ndarray, " n"], options: Options
) -> list[shards.Selection]:
    """Each split's examples in stored order; `per_class` balances train by the plan's epoch 0."""
    sample_ids = [row.sample_id for row in rows]
    selections = []
    for name in SPLITS:
        mine = np.array([i for i, row in enumerate(rows) if row.split == name], np.int32)
        copies = np.zeros(len(mine), np.int32)
        if name == "train" and options.per_class:
            addresses = address_of([sample_ids[i] for i in mine])
            plan = Plan(class_ids[mine], addresses, per_class=options.per_class, seed=options.seed)
            picks = np.empty(len(plan), np.int32)
            copies = np.empty(len(plan), np.int32)
            for start in range(0, len(plan), shards.BLOCK):
                positions = np.arange(start, min(start + shards.BLOCK, len(plan)), dtype=np.int64)
                part = slice(start, start + shards.BLOCK)
                picks[part], copies[part] = plan.lookup(positions, np.zeros_like(positions))
            mine = mine[picks]
        selections.append(shards.store_order(name, mine, copies, sample_ids, options.seed))
    return selections


def _record(options: Options) -> dict[str, Any]:
    """The options as the manifest has them."""
    recorded = options._asdict()
    del recorded["splits_from"], recorded["skip_bad"]  # a path of this machine; the audit tells
    recorded |= {"ratios": list(options.ratios), "pool_official": list(options.pool_official)}
    policy = POLICY if options.per_class else None
    return {**recorded, "policy": policy, "chunk_size": shards.CHUNK_SIZE}


def _make_fingerprint(
    options: Options, originals: list[combine.Original], earlier: dict[str, str]
) -> str:
    policy = None
    if options.per_class:
        from kkanji_jax.data.policy import get_policy

        policy = get_policy(POLICY).to_json()
    decisive = {
        "versions": [FORMAT_VERSION, BUILD_VERSION],
        "originals": shards.catalogue_digest(originals),
        "earlier": earlier,
        "layout": [shards.SHARD_EXAMPLES, shards.WRITER_OPTIONS],
        "policy": policy,
        "options": _record(options),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _decide(source: Path, options: Options, report: Report, say: Callable[[str], None]) -> _Decided:
    catalogue = combine.combine(source, skip_bad=options.skip_bad, report=report)
    for note in catalogue.notes:
        say(note)
    earlier: dict[str, str] = {}
    absent: list[str] = []
    if options.splits_from:
        earlier, absent = split.read_earlier(options.splits_from, catalogue.originals)
    pooled = options.pool_official
    kept, audit_report = audit(
        catalogue, pooled=pooled, min_images=options.min_images, earlier=earlier
    )
    if not kept:
        raise ValueError(f"no class of {source} is left after the audit, so nothing is written")
    splits = split.assign_splits(
        kept, ratios=options.ratios, seed=options.seed, pooled=pooled, earlier=earlier
    )
    rows = split.make_rows(kept, splits)
    split.check_rows(rows)
    kept_ids = {original.sample_id for original in kept}
    audit_report["splits_from"] = {
        "num_honoured": len(kept_ids & earlier.keys()),
        "not_in_source": absent,
        "dropped": [sample_id for sample_id in earlier if sample_id not in kept_ids],
    }
    if absent:
        say(f"{len(absent)} samples of {options.splits_from} are not in the source (audit.json)")
    index = ClassIndex.from_codepoints(original.codepoint for original in kept)
    class_ids = np.array([index.id_of(original.codepoint) for original in kept], np.int32)
    fingerprint = _make_fingerprint(options, catalogue.originals, earlier)
    return _Decided(kept, rows, index, class_ids, audit_report, catalogue.sources, fingerprint)


def assemble(
    source: Path,
    out: Path,
    options: Options,
    *,
    workers: int = 1,
    report: Report = say_nothing,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Builds `out` from `source`, or goes on with a build of the same that was stopped.

    The files written depend on the source and the options, not on `workers`. Refuses bad input
    before anything is written, and an `out` that holds anything else. `say` gets lines to print.
    """
    _check(options)
    if workers < 1:
        raise ValueError(f"workers want at least 1, got {workers}")
    build_state.check_out(out)
    decided = _decide(source, options, report, say)
    if build_state.check_out(out, decided.fingerprint):
        return Outcome(load_manifest(out), decided.audit, 0, is_new=False)
    selections = _select(decided.rows, decided.class_ids, options)
    num_examples = sum(len(selection.rows) for selection in selections)
    recorded = _record(options)
    works = (
        work
        for selection in selections
        for work in shards.iterate_works(
            selection,
            decided.kept,
            decided.class_ids,
            seed=options.seed,
            policy=recorded["policy"],
            chunk_size=shards.CHUNK_SIZE,
            shard_examples=shards.SHARD_EXAMPLES,
        )
    )
    with build_state.building(out, decided.fingerprint):
        num_copies = sum(int(np.count_nonzero(selection.copies)) for selection in selections)
        needed = (num_examples - num_copies) * BYTES_PER_ORIGINAL + num_copies * BYTES_PER_COPY
        free = shutil.disk_usage(out).free
        warning = ": it may not suffice" if needed > free else ""
        say(
            f"writing {num_examples:,} examples, {num_copies:,} of them augmented copies: "
            f"some {needed / 1e9:.2f} GB, {free / 1e9:.1f} GB are free{warning}"
        )
        entries, num_resumed = shards.write_shards(
            out, works, num_examples=num_examples, workers=workers, report=report
        )
        train_counts = Counter(row.codepoint for row in decided.rows if row.split == "train")
        manifest = {
            "format_version": FORMAT_VERSION,
            "fingerprint": decided.fingerprint,
            "command": options.command(),
            **recorded,
            "image_px": IMAGE_PX,
            "polarity": "white-on-black",
            "resizing": "28x28 to 64x64 by Pillow's bicubic, clipped to 0..255",
            "splits": shards.count_splits(selections, decided.class_ids, decided.index),
            "original_counts": {c: train_counts[c] for c in decided.index.codepoints},
            "class_index_digest": decided.index.digest,
            "shards": entries,
            "sources": decided.sources,
            **sources.read_rights(source),
            "package_version": __version__,
            "created_by": f"kkanji_jax {__version__}, data_tools.build",
        }
        for name, content in (
            ("index.json", build_state.to_text(decided.index.to_json())),
            ("splits.csv", split.to_csv(decided.rows)),
            ("audit.json", build_state.to_text(decided.audit)),
            (MANIFEST_NAME, build_state.to_text(manifest)),  # last: it makes the dataset valid
        ):
            build_state.write_file(out / name, content)
    return Outcome(manifest, decided.audit, num_resumed, is_new=True)
