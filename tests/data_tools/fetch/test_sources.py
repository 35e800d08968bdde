"""The table of CODH's files."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_tools.fetch import sources
from data_tools.fetch.sources import ARCHIVES, Archive, is_published, sha256_of


def test_every_archive_can_be_checked_by_size_and_a_digest():
    assert len({archive.path for archive in ARCHIVES}) == len(ARCHIVES) == 15
    for archive in ARCHIVES:
        assert archive.num_bytes > 0
        for digest, length in ((archive.md5, 32), (archive.sha256, 64)):
            assert digest is None or (len(digest) == length and int(digest, 16))
        assert archive.md5 or archive.sha256


def test_a_file_is_told_from_the_published_one_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "abc.npz"
    path.write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(path) == sha256
    assert is_published(path) is None  # no such name
    for archive, wanted in (
        (Archive("k/abc.npz", 3, None, sha256), True),
        (Archive("k/abc.npz", 3, "900150983cd24fb0d6963f7d28e17f72", None), True),
        (Archive("k/abc.npz", 3, None, sha256[::-1]), False),
        (Archive("k/abc.npz", 4, None, sha256), False),
    ):
        monkeypatch.setattr(sources, "ARCHIVES", (archive,))
        assert is_published(path) is wanted


def test_rights_are_codh_s_unless_the_folder_states_its_own(source: Any):
    source.add_kanji("U+6625", 1)
    rights = sources.read_rights(source.folder)
    assert rights == {"licence": "CC BY-SA 4.0", "attribution": sources.ATTRIBUTION}
    stated = {"licence": "public domain", "attribution": "nobody"}
    path = source.add_file("rights.json", json.dumps(stated).encode())
    assert sources.read_rights(source.folder) == stated
    path.write_text("[]")
    with pytest.raises(ValueError, match="rights.json"):
        sources.read_rights(source.folder)


def test_codh_s_licence_is_not_claimed_for_the_images_of_others(source: Any):
    png = source.png(source.draw(1))
    source.add_file("brsk1/characters/U+6625/U+6625_brsk1_001_X1_Y1.png", png)
    rights = sources.read_rights(source.folder)
    assert rights["licence"] == "CC BY-SA 4.0" and "10.20676/00000340" in rights["attribution"]
    source.add_file("mine/U+6625/a.png", png)
    assert sources.read_rights(source.folder)["licence"] == "CC BY-SA 4.0; not stated for mine/"
