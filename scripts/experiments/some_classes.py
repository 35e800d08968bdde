"""A part of Kuzushiji-Kanji, as a source for data_tools.build."""

import shutil
from collections.abc import Sequence
from pathlib import Path


def choose(classes: Sequence[Path], count: int) -> list[Path]:
    """`count` of the folders, evenly over their order; all where there are fewer."""
    count = min(count, len(classes))
    return [classes[number * len(classes) // count] for number in range(count)]


def copy_classes(source: Path, into: Path, count: int) -> None:
    """Copies `count` of the folders SOURCE/kkanji2/U+XXXX into INTO/kkanji2.

    Evenly over their code points, and so of every size. ValueError if SOURCE has none.
    """
    classes = sorted(path for path in (source / "kkanji2").glob("U+*") if path.is_dir())
    if not classes:
        raise ValueError(f"{source}/kkanji2 has no folders U+XXXX: unpack CODH's kkanji.tar there")
    for folder in choose(classes, count):
        shutil.copytree(folder, into / "kkanji2" / folder.name, dirs_exist_ok=True)
