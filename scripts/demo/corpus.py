"""The images of the demo corpus, kkanji_jax/demo, as they lie in its files."""

import csv
import tarfile
from pathlib import Path


def split_rows(demo: Path, split: str) -> list[dict[str, str]]:
    """The rows of splits.csv of one split, in its order."""
    with (demo / "splits.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


def read_pngs(demo: Path) -> dict[str, bytes]:
    """Every kanji image as a PNG file, by its sample id."""
    pngs = {}
    with tarfile.open(demo / "kkanji.tar") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            if file is None:
                raise ValueError(f"expected only files in kkanji.tar, got {member.name}")
            sample_id = member.name.replace("kkanji2/", "kkanji/").removesuffix(".png")
            pngs[sample_id] = file.read()
    return pngs


def kanji_of(demo: Path, split: str) -> list[tuple[str, bytes]]:
    """(sample id, PNG file) of the kanji of one split, in the order of the ids."""
    pngs = read_pngs(demo)
    ids = sorted(row["sample_id"] for row in split_rows(demo, split))
    ids = [sample_id for sample_id in ids if sample_id.startswith("kkanji/")]
    missing = [sample_id for sample_id in ids if sample_id not in pngs]
    if missing:
        raise ValueError(f"{missing[0]} of splits.csv is not in kkanji.tar")
    return [(sample_id, pngs[sample_id]) for sample_id in ids]
