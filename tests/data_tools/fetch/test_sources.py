"""The table of CODH's files."""

from pathlib import Path

import pytest

from data_tools.fetch import sources
from data_tools.fetch.sources import ARCHIVES, Archive, is_published
from kkanji_jax.files import sha256_of


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
    for archive, expected in (
        (Archive("k/abc.npz", 3, None, sha256), True),
        (Archive("k/abc.npz", 3, "900150983cd24fb0d6963f7d28e17f72", None), True),
        (Archive("k/abc.npz", 3, None, sha256[::-1]), False),
        (Archive("k/abc.npz", 4, None, sha256), False),
    ):
        monkeypatch.setattr(sources, "ARCHIVES", (archive,))
        assert is_published(path) is expected
