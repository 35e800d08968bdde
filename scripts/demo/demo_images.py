"""Takes single images out of the demo corpus, named by the character that they show.

python scripts/demo/demo_images.py kkanji_jax/demo FOLDER [--of test] [--count 12]
"""

import argparse
from pathlib import Path

from corpus import kanji_of


def main() -> None:
    """Writes `count` kanji of the split, evenly spread over its rows, as PNG files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("demo", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--of", choices=["train", "val", "test"], default="test")
    parser.add_argument("--count", type=int, default=12)
    args = parser.parse_args()
    kanji = kanji_of(args.demo, args.of)
    args.folder.mkdir(parents=True, exist_ok=True)
    for sample_id, png in kanji[:: max(len(kanji) // args.count, 1)][: args.count]:
        _, codepoint, stem = sample_id.split("/")
        character = chr(int(codepoint.removeprefix("U+"), 16))
        (args.folder / f"{character}_{codepoint}_{stem}.png").write_bytes(png)


if __name__ == "__main__":
    main()
