"""Takes single images out of the demo corpus, named by the character that they show.

python scripts/demo/demo_images.py kkanji_jax/demo FOLDER [--of test] [--count 12]
"""

import argparse
import csv
import tarfile
from pathlib import Path


def main() -> None:
    """Writes `count` kanji of the split, evenly spread over its rows, as PNG files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("demo", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--of", choices=["train", "val", "test"], default="test")
    parser.add_argument("--count", type=int, default=12)
    args = parser.parse_args()
    with (args.demo / "splits.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["split"] == args.of and row["sample_id"].startswith("kkanji/")
        ]
    rows.sort(key=lambda row: row["sample_id"])
    args.folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(args.demo / "kkanji.tar") as tar:
        for row in rows[:: max(len(rows) // args.count, 1)][: args.count]:
            _, codepoint, stem = row["sample_id"].split("/")
            member = tar.extractfile(f"kkanji2/{codepoint}/{stem}.png")
            if member is None:
                raise ValueError(f"{row['sample_id']} of splits.csv is not in kkanji.tar")
            character = chr(int(codepoint.removeprefix("U+"), 16))
            (args.folder / f"{character}_{codepoint}_{stem}.png").write_bytes(member.read())


if __name__ == "__main__":
    main()
