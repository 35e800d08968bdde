"""A whole build: from a folder of source files to a DATASET, or a slice of its shards."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_tools.plan import build_plan, shard_contents, split
from data_tools.plan.audit_pictures import PICTURES_NAME
from data_tools.plan.build_plan import Options, PlannedDataset, SelectedExamples
from data_tools.plan.shard_contents import Selection, Span
from data_tools.write import build_state, shards
from kkanji_jax import __version__
from kkanji_jax.cli import Report, say_nothing
from kkanji_jax.data.manifest import MANIFEST_NAME, load_manifest
from kkanji_jax.data.records import FORMAT_VERSION, IMAGE_PX, encode
from kkanji_jax.workers import Workers

Say = Callable[[str], None]
BYTES_PER_ORIGINAL = 1_360  # on disk, measured on Kuzushiji-Kanji
BYTES_PER_COPY = 2_060  # the same, under glyph_safe by albumentations; by JAX 1,920
BYTES_PER_ROW = 300  # of splits.csv, and of what is counted in the manifest


class Outcome(NamedTuple):
    """What was built, for the command to print."""

    manifest: dict[str, Any]
    audit: dict[str, Any]
    num_resumed: int  # shards that an earlier, stopped build had finished
    is_new: bool  # False when all of it was there already


class SliceOutcome(NamedTuple):
    """The shards of a slice, how many of them existed before, and the shards of the dataset."""

    num_shards: int
    num_resumed: int
    num_all: int


def parse_slice(text: str) -> tuple[int, int]:
    """`I:J` -> shards I to J - 1, counted from 0 over all splits."""
    try:
        start, end = (int(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--shards must be I:J, as in 0:16, not {text!r}") from None
    if not 0 <= start < end:
        raise ValueError(f"--shards must be I:J with 0 <= I < J, not {text!r}")
    return start, end


def _nearest_folder(out: Path) -> Path:
    """`out`, or its nearest parent folder that exists, which is on the same disk."""
    return next(folder for folder in (out, *out.absolute().parents) if folder.exists())


def check_space(
    out: Path,
    spans: list[Span],
    selections: list[Selection],
    num_rows: int,
    say: Say,
) -> None:
    """Reports how much will be written and how much is free; OSError if it cannot fit."""
    # By marks alone: the shards are read when they are passed over, and not twice.
    missing = [span for span in spans if not build_state.is_marked(out, span.file)]
    num_examples = sum(span.end - span.start for span in missing)
    num_copies = sum(
        int(np.count_nonzero(selections[span.selection].copies[span.start : span.end]))
        for span in missing
    )
    needed = (num_examples - num_copies) * BYTES_PER_ORIGINAL + num_copies * BYTES_PER_COPY
    needed += num_rows * BYTES_PER_ROW
    there = _nearest_folder(out)
    free = shutil.disk_usage(there).free
    amounts = f"some {needed / 1e9:,.2f} GB, {free / 1e9:,.2f} GB are free"
    if needed > free:
        raise OSError(
            f"cannot write {out}: {num_examples:,} examples take {amounts} in {there}: make room"
        )
    say(f"writing {num_examples:,} examples, {num_copies:,} of them augmented copies: {amounts}")


def _iterate_works(
    spans: list[Span], planned: PlannedDataset, selected: SelectedExamples, options: Options
) -> Iterator[tuple[str, Callable[[], shards.Work]]]:
    for span in spans:
        yield (
            span.file,
            partial(
                shards.make_work,
                span,
                selected.selections,
                planned.kept,
                planned.class_ids,
                seed=options.seed,
                policy=options.policy,
                engine=options.engine if options.per_class else None,
                chunk_size=shard_contents.CHUNK_SIZE,
            ),
        )


def _make_manifest(
    options: Options,
    planned: PlannedDataset,
    selected: SelectedExamples,
    entries: list[dict[str, Any]],
) -> dict[str, Any]:
    index, rows = planned.index, selected.rows
    return {
        "format_version": FORMAT_VERSION,
        "splits_version": split.SPLITS_VERSION,
        "fingerprint": planned.fingerprint,
        "command": options.command(),
        **options.record(),
        "image_px": IMAGE_PX,
        "polarity": "white-on-black",
        "resizing": "28x28 to 64x64 by Pillow's bicubic, clipped to 0..255",
        "splits": build_plan.count_splits(selected.selections, planned.class_ids, index),
        "original_counts": build_plan.count_originals(rows, index),
        "class_index_digest": index.digest,
        "shards": entries,
        "sources": planned.sources,
        **planned.rights,
        "package_version": __version__,
        "created_by": f"kkanji_jax {__version__}, data_tools.build",
    }


class _Prepared(NamedTuple):
    """A build that is ready to write; its spans are all shards of the dataset."""

    options: Options
    planned: PlannedDataset
    selected: SelectedExamples
    spans: list[Span]


def _prepare(options: Options, planned: PlannedDataset) -> _Prepared:
    selected = build_plan.select(planned, options)
    spans = shard_contents.layout(
        selected.selections,
        chunk_size=shard_contents.CHUNK_SIZE,
        shard_examples=shard_contents.SHARD_EXAMPLES,
    )
    return _Prepared(options, planned, selected, spans)


def _check_all_there(out: Path, spans: list[Span]) -> None:
    missing = [
        number for number, span in enumerate(spans) if not build_state.is_marked(out, span.file)
    ]
    if missing:
        some = ", ".join(f"{number}:{number + 1}" for number in missing[:5])
        raise ValueError(
            f"{len(missing)} of {len(spans)} shards of {out} are not there yet: "
            f"give --shards {some}{' and so on' if len(missing) > 5 else ''}, then --finish again"
        )


def _write_shards(
    out: Path,
    prepared: _Prepared,
    spans: list[Span],
    *,
    owner: str,
    workers: Workers,
    report: Report,
) -> tuple[list[dict[str, Any]], int]:
    return shards.write_shards(
        out,
        _iterate_works(spans, prepared.planned, prepared.selected, prepared.options),
        owner=owner,
        num_examples=sum(span.end - span.start for span in spans),
        workers=workers,
        report=report,
    )


def _start(
    source: Path, out: Path, options: Options, workers: Workers, report: Report, say: Say
) -> tuple[Options, PlannedDataset, bool]:
    """The completed options, what they determine, and whether `out` is already complete."""
    options = options.completed()
    build_state.check_out(out, options=options.record())
    # A refused build must leave nothing behind, so `out` is not created yet.
    scratch = _nearest_folder(out)
    planned = build_plan.decide(source, options, report, say, scratch=scratch, workers=workers)
    is_there = build_state.check_out(out, planned.fingerprint)
    if is_there:
        build_state.sweep(out)
    return options, planned, is_there


def _as_workers(workers: int | Workers) -> Workers:
    return Workers(workers) if isinstance(workers, int) else workers


def assemble(
    source: Path,
    out: Path,
    options: Options,
    *,
    finish: bool = False,
    workers: int | Workers = 1,
    report: Report = say_nothing,
    say: Say = lambda line: None,
) -> Outcome:
    """Builds `out` from `source`, or resumes a build of the same that was stopped.

    With `finish` all shards must exist, and only the rest is written. The files depend on the
    source and the options, not on `workers`. Bad input, and an `out` that holds anything else, is
    refused before anything is written. `say` is called with lines to print. `workers` is their
    number, or workers of another kind, which end with the build.
    """
    with _as_workers(workers) as pool:
        options, planned, is_there = _start(source, out, options, pool, report, say)
        if is_there:
            manifest = load_manifest(out)
            if not planned.rights.items() <= manifest.items():
                say(
                    f"{out} keeps the licence and attribution that it was built with, and "
                    f"{source} states others now: delete {out} to build it with them"
                )
            return Outcome(manifest, planned.audit, 0, is_new=False)
        prepared = _prepare(options, planned)
        selections, rows = prepared.selected
        if finish:
            _check_all_there(out, prepared.spans)
        else:
            check_space(out, prepared.spans, selections, len(rows), say)
        with build_state.building(out, planned.fingerprint, options=options.record()) as owner:
            entries, num_resumed = _write_shards(
                out, prepared, prepared.spans, owner=owner, workers=pool, report=report
            )
            manifest = _make_manifest(options, planned, prepared.selected, entries)
            for name, content in (
                ("index.json", build_state.to_text(planned.index.to_json())),
                ("splits.csv", split.to_csv(rows)),
                ("audit.json", build_state.to_text(planned.audit)),
                (PICTURES_NAME, encode(planned.pictures)),
                (MANIFEST_NAME, build_state.to_text(manifest)),  # last: it makes the dataset valid
            ):
                build_state.write_file(out / name, content, owner)
        return Outcome(manifest, planned.audit, num_resumed, is_new=True)


def assemble_slice(
    source: Path,
    out: Path,
    options: Options,
    chosen: tuple[int, int],
    *,
    workers: int | Workers = 1,
    report: Report = say_nothing,
    say: Say = lambda line: None,
) -> SliceOutcome:
    """Writes the chosen shards of `out`, while other processes write others.

    Shards are counted over all splits. Numbers beyond the last shard are no error, so that a
    cluster's job array may be too long. `assemble` with `finish` completes the dataset.
    """
    with _as_workers(workers) as pool:
        options, planned, is_there = _start(source, out, options, pool, report, say)
        prepared = _prepare(options, planned)
        spans = prepared.spans[chosen[0] : chosen[1]]
        if is_there or not spans:
            return SliceOutcome(len(spans), len(spans), len(prepared.spans))
        check_space(out, spans, prepared.selected.selections, 0, say)
        with build_state.building(
            out, planned.fingerprint, options=options.record(), is_slice=True
        ) as owner:
            _, num_resumed = _write_shards(
                out, prepared, spans, owner=owner, workers=pool, report=report
            )
        return SliceOutcome(len(spans), num_resumed, len(prepared.spans))
