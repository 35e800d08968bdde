"""Defects of the originals: found, reported, and dropped by rule."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from data_tools.read.catalogue import Catalogue, Original, official_tests
from data_tools.read.decoding import Finding
from kkanji_jax.data.class_index import character_of

AUDIT_VERSION = 1
# Every rule, in the order applied: what it finds, and what becomes of it.
RULES = {
    "ignored": ("a file or folder that is no image of any source", "not read"),
    "empty_class": ("a class folder without a file", "reported"),
    "wrong_name": (
        "a folder or file whose name does not say the character",
        "dropped, with --skip-bad",
    ),
    "unreadable": ("a file that is no sound image", "dropped, with --skip-bad"),
    "wrong_size": ("an image of Kuzushiji-Kanji that is not 64x64", "dropped"),
    "converted": (
        "an image of Kuzushiji-Kanji that is not 8-bit grey",
        "kept, white on black by the rule of predict",
    ),
    "left_out": ("an image that --leave-out lists", "dropped"),
    "blank": ("an image whose pixels are all alike", "dropped"),
    "inverted": ("an image whose border is bright: the median is over 127", "kept"),
    "conflicting": (
        "the same pixels under different code points",
        "dropped, except official test images",
    ),
    "duplicate_within_class": (
        "the same pixels again, in one class and source",
        "all but the first dropped",
    ),
    "duplicate_across_sources": (
        "the same pixels again, in another source",
        "one kept: an official test image before others, then the first",
    ),
}


class Audit(NamedTuple):
    """The originals that passed, in catalogue order, and the content of audit.json."""

    kept: list[Original]
    report: dict[str, Any]
    found: Counter[str]  # images of each class, before any rule


def _border_median(pixels: bytes) -> float:
    """The median of a square image's border; plain Python is ten times as fast as NumPy here."""
    side = math.isqrt(len(pixels))
    columns = pixels[side:-side:side] + pixels[2 * side - 1 : -side : side]
    border = pixels[:side] + pixels[-side:] + columns
    if border.count(0) > len(border) // 2:  # true of nearly all images: no need to sort
        return 0.0
    ranked = sorted(border)
    return (ranked[len(border) // 2 - 1] + ranked[len(border) // 2]) / 2  # always an even number


def _drop_classes(
    found: Mapping[str, int],
    kept: list[Original],
    may_train: Collection[str],
    min_images: int,
) -> dict[str, str]:
    """The reason for each class that is left out: too few images, or none for training."""
    counts = Counter(o.codepoint for o in kept)
    trainable = {o.codepoint for o in kept if o.sample_id in may_train}
    reasons = {}
    for codepoint in sorted(found, key=character_of):
        if not counts[codepoint]:
            reasons[codepoint] = "no image passed the audit"
        elif codepoint not in trainable:
            reasons[codepoint] = "no training image: all are official test or held-out images"
        elif counts[codepoint] < min_images:
            reasons[codepoint] = f"fewer than {min_images} images that passed the audit"
    return reasons


def leave_out(audited: Audit, reasons: Mapping[str, str]) -> Audit:
    """The audit without these classes, each listed with its reason."""
    counts = Counter(o.codepoint for o in audited.kept)
    listed = [
        {
            "codepoint": codepoint,
            "character": character_of(codepoint),
            "reason": reason,
            "num_found": audited.found[codepoint],
            "num_passed": counts[codepoint],
        }
        for codepoint, reason in reasons.items()
    ]
    dropped = sorted(
        audited.report["dropped_classes"] + listed, key=lambda each: ord(each["character"])
    )
    kept = [o for o in audited.kept if o.codepoint not in reasons]
    report = audited.report | {"num_kept": len(kept), "dropped_classes": dropped}
    return audited._replace(kept=kept, report=report)


class _Findings:
    """What each rule finds, and the samples that are dropped for it."""

    def __init__(self, of_catalogue: Iterable[Finding]) -> None:
        self.samples: dict[str, list[Any]] = {rule: [] for rule in RULES}
        self.dropped: set[str] = set()
        for each in of_catalogue:
            self.samples[each.rule].append({"name": each.name, "detail": each.detail})

    def drop(self, rule: str, sample: Any, *sample_ids: str) -> None:
        """Adds an entry to a rule, for which these samples are dropped."""
        self.samples[rule].append(sample)
        self.dropped.update(sample_ids)


def _check_each(
    originals: Iterable[Original], unwanted: Mapping[str, str], findings: _Findings
) -> Iterable[list[Original]]:
    """Applies the rules about single images; returns the others, those of equal pixels together."""
    groups: dict[str, list[Original]] = defaultdict(list)
    for original in originals:
        sample_id = original.sample_id
        if sample_id in unwanted:
            sample = {"name": sample_id, "detail": unwanted[sample_id]}
            findings.drop("left_out", sample, sample_id)
            continue
        pixels = original.pixels  # from the disk, so once
        if pixels == pixels[:1] * len(pixels):
            findings.drop("blank", sample_id, sample_id)
            continue
        if _border_median(pixels) > 127:
            findings.samples["inverted"].append(sample_id)
        groups[original.pixels_sha256].append(original)
    return groups.values()


def _check_equals(
    group: Sequence[Original],
    official: Collection[str],
    earlier: Collection[str],
    findings: _Findings,
) -> None:
    """Applies the rules about images of equal pixels."""
    if len({o.codepoint for o in group}) > 1:
        told = [
            {"sample_id": o.sample_id, "codepoint": o.codepoint, "is_kept": o.source in official}
            for o in group
        ]
        gone = [o.sample_id for o in group if o.source not in official]
        findings.drop("conflicting", told, *gone)
        return
    # sorted() is stable: equals stay in catalogue order.
    best, *others = sorted(
        group, key=lambda o: (o.source not in official, o.sample_id not in earlier)
    )
    for other in others:
        is_within = other.source == best.source
        rule = "duplicate_within_class" if is_within else "duplicate_across_sources"
        sample = {"dropped": other.sample_id, "kept": best.sample_id}
        findings.drop(rule, sample, other.sample_id)


def audit(
    catalogue: Catalogue,
    *,
    pooled: Collection[str] = (),
    min_images: int = 1,
    earlier: Mapping[str, str] | None = None,
    unwanted: Mapping[str, str] | None = None,
) -> Audit:
    """Applies RULES, then drops classes below `min_images` and classes without a training image.

    `pooled` names sources whose official test images are treated like any others. `earlier` is the
    split of samples assigned before (`--splits-from`): of images with equal pixels these are the
    ones that are kept, so that their pixels do not change split. `unwanted` has the reason by
    sample id of images that `--leave-out` lists; they are dropped first. `min_images` counts
    images that passed every rule, in all sources and splits.
    """
    earlier, unwanted = earlier or {}, unwanted or {}
    official = official_tests(pooled)
    findings = _Findings(catalogue.findings)
    for group in _check_each(catalogue.originals, unwanted, findings):
        _check_equals(group, official, earlier, findings)
    passed = [o for o in catalogue.originals if o.sample_id not in findings.dropped]
    may_train = {
        o.sample_id
        for o in passed
        if o.source not in official and earlier.get(o.sample_id, "train") == "train"
    }
    found = Counter(o.codepoint for o in catalogue.originals)
    found.update(finding.codepoint for finding in catalogue.findings if finding.codepoint)
    report = {
        "version": AUDIT_VERSION,
        "num_found": sum(found.values()),
        "num_passed": len(passed),
        "num_kept": len(passed),
        "min_images": min_images,
        "rules": {
            rule: {"finds": finds, "action": action, "count": len(samples), "samples": samples}
            for (rule, samples), (finds, action) in zip(
                findings.samples.items(), RULES.values(), strict=True
            )
        },
        "dropped_classes": [],
    }
    reasons = _drop_classes(found, passed, may_train, min_images)
    return leave_out(Audit(passed, report, found), reasons)
