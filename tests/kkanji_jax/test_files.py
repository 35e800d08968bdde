"""A file appears when it is whole, and what stood there before stays until then."""

from pathlib import Path

import pytest

from kkanji_jax.files import written_whole


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with written_whole(path) as unfinished:
        unfinished.write_text("{}")
        assert not path.exists() and unfinished.parent == tmp_path
    assert path.read_text() == "{}" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), written_whole(path) as unfinished:
        unfinished.write_text("half")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
