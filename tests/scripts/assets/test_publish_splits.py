"""The published split is one, says what its page says, and comes out again from the images."""

import csv
import io
import lzma
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from data_tools.plan.protocols import split_position
from data_tools.plan.split import read_splits

ROOT = Path(__file__).parents[3]
PUBLISHED, PAGE = ROOT / "docs" / "splits" / "kkanji-seed0.csv.xz", ROOT / "docs" / "splits.md"
pytestmark = pytest.mark.skipif(not PUBLISHED.is_file(), reason="the source tree is not beside")


@pytest.fixture(scope="module")
def text() -> str:
    return lzma.decompress(PUBLISHED.read_bytes()).decode()


def test_the_published_split_is_sound_and_as_its_page_says(text: str):
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len({row["sample_id"] for row in rows}) == len(rows) == 127_069
    assert len({row["pixels_sha256"] for row in rows}) == len(rows)
    page = PAGE.read_text("utf-8")
    for column in ("split", "split_5050"):
        counts = Counter(row[column] for row in rows)
        (line,) = re.findall(rf"^\| `{column}` \(.*", page, re.M)
        for name in ("train", "val", "test"):
            assert f"{counts[name]:,}" in line
    sizes = Counter(row["codepoint"] for row in rows)
    trained = {row["codepoint"] for row in rows if row["split"] == "train"}
    assert trained == sizes.keys() and len(sizes) == 3_831
    tested = Counter(row["codepoint"] for row in rows if row["split_5050"] == "test")
    assert all(tested[codepoint] == size // 2 for codepoint, size in sizes.items())
    assert not {row["sample_id"] for row in rows if row["codepoint"] == "U+55DF"}


def test_the_published_file_is_read_as_earlier_splits():
    rows = read_splits(PUBLISHED)
    assert {row.split for row in rows} == {"train", "val", "test"}
    assert all(len(row.pixels_sha256) == 16 for row in rows[:100])


def test_the_rule_on_the_page_is_the_rule():
    import hashlib

    page = PAGE.read_text("utf-8")
    assert 'blake2b(f"{seed}:{sha256 of the 64×64 pixels in hex}", digest_size=8)' in page
    digest = hashlib.sha256(b"an image").hexdigest()
    number = int.from_bytes(hashlib.blake2b(f"0:{digest}".encode(), digest_size=8).digest(), "big")
    assert split_position(digest, 0) == (number >> 11) / 2**53


@pytest.mark.slow
def test_the_real_images_give_the_published_split_again(
    load_script: Callable[[str], ModuleType], real_source: Path, text: str
):
    assert load_script("assets/publish_splits").make_table(real_source) == text
