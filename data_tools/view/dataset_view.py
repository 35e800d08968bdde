"""Reads a DATASET for display: its summary, its examples, its class sizes."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from data_tools.plan.audit_pictures import PICTURES_NAME
from data_tools.view.audit_page import class_size_rows
from kkanji_jax.data.class_index import ClassIndex, codepoint_of, parse_codepoint
from kkanji_jax.data.manifest import SPLITS, load_index, load_manifest, shard_paths
from kkanji_jax.data.records import Chunk, decode

SPLIT_COLOURS = {"train": "#0072B2", "val": "#E69F00", "test": "#009E73"}


class Example(NamedTuple):
    """One example and its place in the dataset."""

    image: UInt8[np.ndarray, "h w"]
    class_id: int
    sample_id: str
    parent_id: str
    split: str
    shard: str
    place: str


class Dataset(NamedTuple):
    """A DATASET's folder, manifest and index; its pixels stay on disk."""

    folder: Path
    manifest: dict[str, Any]
    index: ClassIndex

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """ValueError if the dataset is unfinished, or its index is of another one."""
        manifest = load_manifest(folder)
        return cls(folder, manifest, load_index(folder, manifest))

    def name_of(self, class_id: int) -> str:
        return f"{self.index.character(class_id)} {self.index.codepoints[class_id]}"

    def count(self, split: str, class_id: int) -> int:
        codepoint = self.index.codepoints[class_id]
        return self.manifest["splits"][split]["class_counts"].get(codepoint, 0)

    def examples(
        self, splits: Sequence[str], class_ids: Collection[int] = (), parent_id: str = ""
    ) -> Iterator[Example]:
        """The examples of these classes, or made from that original, a record at a time."""
        from kkanji_jax.data.resident import read_chunks

        expected = np.array(sorted(class_ids), np.int32)
        for split in splits:
            for path in shard_paths(self.folder, self.manifest, split):
                for number, chunk in enumerate(read_chunks(path)):
                    if parent_id:
                        found = [r for r, name in enumerate(chunk.parent_ids) if name == parent_id]
                    else:
                        found = np.flatnonzero(np.isin(chunk.class_ids, expected)).tolist()
                    for row in found:
                        yield Example(
                            image=chunk.images[row].copy(),
                            class_id=int(chunk.class_ids[row]),
                            sample_id=chunk.sample_ids[row],
                            parent_id=chunk.parent_ids[row],
                            split=split,
                            shard=path.name,
                            place=f"record {number}, row {row}",
                        )


def card(dataset: Dataset, splits: Sequence[str]) -> Iterator[str]:
    """A description of the dataset, line by line."""
    manifest, sizes = dataset.manifest, list(dataset.manifest["original_counts"].values())
    yield f"dataset    {dataset.folder}"
    yield f"made by    {manifest['created_by']}: {manifest['command']}"
    ratios = "/".join(f"{ratio:g}" for ratio in manifest["ratios"])
    pooled = ", ".join(manifest["pool_official"]) or "none"
    yield (
        f"protocol   {manifest['protocol']} {ratios}, seed {manifest['seed']}, "
        f"at least {manifest['min_images']} images a class; official test sets pooled: {pooled}"
    )
    balance = manifest["per_class"]
    yield "examples   " + (
        "each original once"
        if balance is None
        else f"{balance:,} a class in train, varied by policy {manifest['policy']}"
    )
    side, polarity = manifest["image_px"], manifest["polarity"]
    yield f"images     {side}x{side} px, uint8, {polarity}; {len(dataset.index):,} classes"
    for split in splits:
        entry = manifest["splits"][split]
        shards = sum(shard["split"] == split for shard in manifest["shards"])
        yield (
            f"{split:<10} {entry['num_examples']:>9,} examples, {entry['num_classes']:>5,} "
            f"classes, {shards} shards"
        )
    yield f"class size, in training originals ({sum(sizes):,} in all)"
    for label, num_classes, num_images, share in class_size_rows(manifest):
        yield f"  {label:<12} {num_classes:>5,} classes {num_images:>9,} images {share:>7}"
    yield from audit_lines(dataset.folder)
    yield f"licence    {manifest['licence']}; {manifest['attribution']}"


def count_lines(dataset: Dataset, splits: Sequence[str]) -> Iterator[str]:
    """A CSV of every class: code point, character, images in each split, training originals."""
    yield ",".join(("codepoint", "character", *splits, "training_originals"))
    for class_id, codepoint in enumerate(dataset.index.codepoints):
        counts = [str(dataset.count(split, class_id)) for split in splits]
        originals = str(dataset.manifest["original_counts"][codepoint])
        yield ",".join((codepoint, dataset.index.character(class_id), *counts, originals))


def read_audit(folder: Path) -> dict[str, Any]:
    """audit.json of a DATASET."""
    path = folder / "audit.json"
    try:
        audit = json.loads(path.read_text(encoding="utf-8"))
        if not {"num_found", "num_passed", "num_kept", "rules", "dropped_classes"} <= audit.keys():
            raise ValueError("it lacks its counts or rules")
    except (AttributeError, ValueError) as err:
        raise ValueError(f"{path} is no audit of a dataset: {err}; build it anew") from err
    return audit


def read_pictures(folder: Path) -> Chunk | None:
    """The images that the audit found; None if the dataset is of a version that kept none."""
    path = folder / PICTURES_NAME
    try:
        return decode(path.read_bytes()) if path.is_file() else None
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err


def audit_lines(folder: Path) -> Iterator[str]:
    """The rules of the audit that found something."""
    audit = read_audit(folder)
    yield (
        f"audit      {audit['num_found']:,} images found, {audit['num_passed']:,} passed, "
        f"{audit['num_kept']:,} kept; {len(audit['dropped_classes']):,} classes left out"
    )
    for name, rule in audit["rules"].items():
        if rule["count"]:
            yield f"  {rule['count']:>7,} {name}: {rule['finds']}; {rule['action']}"


def describe(dataset: Dataset, example: Example) -> Iterator[str]:
    """A description of one example, line by line."""
    yield f"sample     {example.sample_id}"
    yield f"parent     {example.parent_id}"
    yield f"class      {dataset.name_of(example.class_id)}, id {example.class_id}"
    yield f"split      {example.split}"
    yield f"shard      {example.shard}, {example.place}"
    mean, num_ink = example.image.mean(), int((example.image > 127).sum())
    yield f"pixels     mean {mean:.1f}, {num_ink:,} of {example.image.size:,} over 127"
    yield f"sha256     {hashlib.sha256(example.image.tobytes()).hexdigest()}"


def family_of(dataset: Dataset, sample_id: str, splits: Sequence[str] = SPLITS) -> list[Example]:
    """The original of a sample first, then its written-out copies by number; [] if unknown."""
    found = list(dataset.examples(splits, parent_id=sample_id))
    if not found:
        found = list(dataset.examples(splits, parent_id=sample_id.rpartition("#")[0] or sample_id))
    return sorted(found, key=lambda e: int(e.sample_id.removeprefix(e.parent_id)[1:] or 0))


def class_id_of(dataset: Dataset, text: str) -> int:
    """The class of a character or a code point; ValueError if the dataset does not have it."""
    codepoint = codepoint_of(text) if len(text) == 1 else parse_codepoint(text)
    if codepoint not in dataset.index.codepoints:
        raise ValueError(
            f"expected a class of {dataset.folder}, got {codepoint} "
            f"({chr(int(codepoint[2:], 16))}), which is none of its {len(dataset.index):,}"
        )
    return dataset.index.codepoints.index(codepoint)


def spread(num_wanted: int, num_all: int) -> list[int]:
    """At most `num_wanted` positions, evenly spaced over 0 to num_all - 1."""
    return np.unique(np.linspace(0, num_all - 1, min(num_wanted, num_all)).astype(int)).tolist()


def one_per_class(dataset: Dataset, splits: Sequence[str], num_classes: int) -> list[Example]:
    """The first original of classes evenly spaced from the largest to the smallest."""
    sizes = Counter(
        {i: sum(dataset.count(split, i) for split in splits) for i in range(len(dataset.index))}
    )
    ranked = [class_id for class_id, size in sizes.most_common() if size]
    missing = {ranked[rank] for rank in spread(num_classes, len(ranked))}
    order = [class_id for class_id in ranked if class_id in missing]
    found: dict[int, Example] = {}
    for example in dataset.examples(splits, missing):
        if example.sample_id == example.parent_id:
            found.setdefault(example.class_id, example)
        if len(found) == len(missing):
            break
    return [found[class_id] for class_id in order if class_id in found]


def long_tail_figure(dataset: Dataset) -> Any:
    """Images of each class in each split by rank of the class, both axes logarithmic."""
    from matplotlib.figure import Figure

    manifest, originals = dataset.manifest, dataset.manifest["original_counts"]
    ranked = sorted(originals, key=lambda codepoint: (-originals[codepoint], codepoint))
    sizes = np.array([originals[codepoint] for codepoint in ranked])
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    for split in ("test", "val"):
        of_class = manifest["splits"][split]["class_counts"]
        ranks = [rank for rank, codepoint in enumerate(ranked, 1) if codepoint in of_class]
        counts = [of_class[ranked[rank - 1]] for rank in ranks]
        label = f"{split}: {sum(counts):,} originals of {len(counts):,} classes"
        axes.scatter(ranks, counts, 5, SPLIT_COLOURS[split], alpha=0.4, linewidth=0, label=label)
    label = f"train: {sizes.sum():,} originals of {len(sizes):,} classes"
    axes.plot(np.arange(1, len(sizes) + 1), sizes, SPLIT_COLOURS["train"], lw=2, label=label)
    if manifest["per_class"] is not None:
        label = f"train, balanced: {manifest['per_class']:,} of each class"
        axes.axhline(manifest["per_class"], color="#555555", linestyle=":", label=label)
    num_half = int(np.searchsorted(np.cumsum(sizes), sizes.sum() / 2)) + 1
    head = f"{num_half:,} of {len(sizes):,} classes hold half of the training originals, "
    axes.set_title(f"{head}{(sizes == 1).sum():,} hold one", loc="left", fontsize=11)
    axes.set(xscale="log", yscale="log", ylabel="images of the class")
    axes.set_xlabel("class, ranked by its training originals")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower left")
    return figure
