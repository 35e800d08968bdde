"""manifest.json: the description of a DATASET, read by the tools and by the trainer."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.records import FORMAT_VERSION
from kkanji_jax.files import require_utf8, sha256_of

MANIFEST_NAME = "manifest.json"
BUILD_STATE_NAME = ".build"  # a folder that exists while a build is under way
SPLITS = ("train", "val", "test")
SHARD_NAME = re.compile(r"(train|val|test)-\d{5}-of-\d{5}\.array_record")
LEAKY_PROTOCOL = "legacy"  # copies of one image are in training and in validation
LEAK_WARNING = "LEGACY PROTOCOL: copies of training images are scored, so this measures memory"
_KEYS = {
    "format_version": int,
    "fingerprint": str,
    "command": str,
    "seed": int,
    "protocol": str,
    "ratios": list,
    "pool_official": list,
    "min_images": int,
    "per_class": int | None,
    "policy": str | None,
    "image_px": int,
    "polarity": str,
    "chunk_size": int,
    "package_version": str,
    "created_by": str,
    "licence": str,
    "attribution": str,
    "splits": dict,
    "shards": list,
    "class_index_digest": str,
    "sources": list,
    "original_counts": dict,
}
_SHARD_KEYS = {
    "file": str,
    "split": str,
    "num_records": int,
    "num_examples": int,
    "bytes": int,
    "sha256": str,
}


def _check_keys(what: str, content: Any, expected: dict[str, Any]) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be an object, not {type(content).__name__}")
    for key, kind in expected.items():
        if key not in content:
            raise ValueError(f"{what} lacks {key!r}")
        if not isinstance(content[key], kind):
            raise ValueError(f"{key!r} of {what} must be {kind}, not {content[key]!r:.60}")


def read_manifest(dataset: Path) -> dict[str, Any]:
    """The manifest of a finished DATASET, its keys checked; shards are not looked at."""
    dataset = Path(dataset)
    require_utf8(dataset)
    if not dataset.is_dir():
        raise ValueError(
            f"no dataset at {dataset}: build one with "
            f"python -m data_tools.build --source DIR --out {dataset}"
        )
    path = dataset / MANIFEST_NAME
    if not path.is_file():
        if (dataset / BUILD_STATE_NAME).exists():
            raise ValueError(
                f"the build of {dataset} is unfinished: run the same data_tools.build command again"
            )
        raise ValueError(f"{dataset} is no dataset: it has no {MANIFEST_NAME}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise ValueError(f"expected format version {FORMAT_VERSION}, got {version!r}")
        _check_keys("the manifest", content, _KEYS)
        for split in SPLITS:
            expected = {"num_examples": int, "num_classes": int, "class_counts": dict}
            _check_keys(f"split {split}", content["splits"].get(split), expected)
        for number, shard in enumerate(content["shards"]):
            _check_keys(f"shard {number}", shard, _SHARD_KEYS)
            if shard["split"] not in SPLITS or Path(shard["file"]).name != shard["file"]:
                raise ValueError(f"shard {number} names no file of a split: {shard['file']!r:.60}")
    except ValueError as err:  # JSON and UTF-8 errors are ValueErrors too
        raise ValueError(f"{path}: {err}") from err
    return content


def load_manifest(dataset: Path) -> dict[str, Any]:
    """The manifest of a DATASET, after checking that all shards exist with the right sizes.

    ValueError names what is wrong: no folder, no manifest, an unfinished build, another format
    version, a missing key, a shard that is missing or of another size. The contents of shards are
    not read; `python -m data_tools.verify` does that.
    """
    dataset = Path(dataset)
    manifest = read_manifest(dataset)
    for shard in manifest["shards"]:
        path = dataset / shard["file"]
        if not path.is_file():
            raise ValueError(f"shard {path} is missing: copy it again, or build the dataset anew")
        if path.stat().st_size != shard["bytes"]:
            raise ValueError(
                f"shard {path} must have {shard['bytes']} bytes, not {path.stat().st_size}: "
                "copy it again, or build the dataset anew"
            )
    return manifest


def load_index(dataset: Path, manifest: dict[str, Any]) -> ClassIndex:
    """index.json of a DATASET; ValueError if its digest is not the one in the manifest."""
    path = Path(dataset) / "index.json"
    index = ClassIndex.load(path)
    if index.digest != manifest["class_index_digest"]:
        raise ValueError(
            f"{path} is not the class index of {MANIFEST_NAME}: it has {len(index)} classes, "
            f"digest {index.digest[:12]}, expected {manifest['class_index_digest'][:12]}; "
            "copy the dataset again, or build it anew"
        )
    return index


def refuse_leaky(dataset: Path, manifest: dict[str, Any], allowed: str | None, how: str) -> None:
    """ValueError for a dataset whose protocol leaks, unless `allowed` is that protocol's name.

    `how` is the option with which a user allows it, for the message.
    """
    if manifest["protocol"] == LEAKY_PROTOCOL != allowed:
        raise ValueError(
            f"{dataset} is of the protocol {LEAKY_PROTOCOL}: copies of its training images are in "
            f"its other splits, so a score on them measures memory; give {how} to take it anyway"
        )


def identity_of(dataset: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """What identifies a DATASET in checkpoints and bundles.

    `dataset_digest` covers everything that determines its examples: fingerprint, class index, the
    bytes of its shards. `manifest_sha256` is of manifest.json, whose bytes also depend on the form
    of the sources (a tar or a folder) and on line ends; older models have only that.
    """
    shards = [[shard["file"], shard["sha256"]] for shard in manifest["shards"]]
    decisive = [manifest["fingerprint"], manifest["class_index_digest"], shards]
    return {
        "manifest_sha256": sha256_of(Path(dataset) / MANIFEST_NAME),
        "dataset_digest": hashlib.sha256(json.dumps(decisive).encode()).hexdigest(),
    }


def is_same_dataset(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records that hold an `identity_of` are of the same dataset."""
    digests = [record.get("dataset_digest") for record in (one, other)]
    if all(digests):
        return digests[0] == digests[1]
    return one["manifest_sha256"] == other["manifest_sha256"]


def check_bytes(path: Path, manifest: Mapping[str, Any]) -> None:
    """Reads a shard through; ValueError if its SHA-256 is not the one that `manifest` states."""
    stated = {shard["file"]: shard["sha256"] for shard in manifest["shards"]}
    if sha256_of(path) != stated[path.name]:
        raise ValueError(
            f"shard {path} has changed since it was built: its SHA-256 is not the manifest's; "
            "copy it again, or build the dataset anew"
        )


def shard_paths(dataset: Path, manifest: dict[str, Any], split: str) -> list[Path]:
    """The shards of a split, sorted by name; empty when the split holds no example."""
    if split not in SPLITS:
        raise ValueError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
    return sorted(Path(dataset) / s["file"] for s in manifest["shards"] if s["split"] == split)
