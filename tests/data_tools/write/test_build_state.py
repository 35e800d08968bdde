"""What an unfinished build leaves behind, and what is refused."""

import json
from pathlib import Path

import pytest

from data_tools.write.build_state import (
    building,
    check_out,
    mark_finished,
    read_mark,
    sweep,
    write_file,
)


def test_nothing_and_an_empty_folder_can_be_built_in(tmp_path: Path):
    assert check_out(tmp_path) is False
    assert check_out(tmp_path / "new" / "deeper", "print") is False
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["notes.txt", "train-00000-of-00001.array_record"])
def test_a_folder_of_anything_else_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="is not empty and is no dataset.*choose another --out"):
        check_out(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_holds_foreign_files_only_can_be_built_in_and_keeps_them(tmp_path: Path):
    for name in (".DS_Store", "._x", ".nfs0001", ".stfolder", "Thumbs.db"):
        (tmp_path / name).write_text("mine")
    assert check_out(tmp_path, "print") is False
    with building(tmp_path, "print"):
        pass
    assert len(list(tmp_path.iterdir())) == 5


def test_other_options_are_refused_before_the_source_is_read(tmp_path: Path):
    options = {"seed": 0, "per_class": None, "ratios": [80.0, 10.0, 10.0]}
    with pytest.raises(KeyboardInterrupt), building(tmp_path, "print", options=options):
        raise KeyboardInterrupt
    assert check_out(tmp_path, options=options) is False
    assert check_out(tmp_path, options=options | {"newer": 1}) is False  # not recorded then
    with pytest.raises(ValueError, match=r"an unfinished build of other options \(seed: 0 -> 1\)"):
        check_out(tmp_path, options=options | {"seed": 1})


def test_a_file_is_no_folder_to_build_in(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(ValueError, match="--out must be a folder"):
        check_out(path)


def test_a_stopped_build_goes_on_only_as_itself(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), building(tmp_path, "print"):
        (tmp_path / "val-00000-of-00001.array_record").write_text("finished")
        raise KeyboardInterrupt
    assert check_out(tmp_path, "print") is False
    assert check_out(tmp_path) is False
    with pytest.raises(ValueError, match="unfinished build of other sources or options"):
        check_out(tmp_path, "another")


def test_a_finished_build_leaves_no_state_and_a_stopped_one_is_swept(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), building(tmp_path, "print"):
        (tmp_path / ".build" / "x.unfinished").write_text("half")
        raise KeyboardInterrupt
    with building(tmp_path, "print"):
        assert not (tmp_path / ".build" / "x.unfinished").exists()
    assert list(tmp_path.iterdir()) == []


def test_two_processes_may_not_build_the_same(tmp_path: Path):
    with building(tmp_path, "print"):
        with pytest.raises(ValueError, match="another process is building"):
            with building(tmp_path, "print"):
                pass
        assert (tmp_path / ".build").is_dir()


def test_files_are_there_whole_or_not_at_all(tmp_path: Path):
    with building(tmp_path, "print") as owner:
        write_file(tmp_path / "index.json", "{}", owner)
        assert (tmp_path / "index.json").read_text() == "{}"
        assert not list((tmp_path / ".build").glob("index*"))


def test_a_mark_is_believed_only_while_the_bytes_are_the_same(tmp_path: Path):
    import hashlib

    shard = tmp_path / "a.array_record"
    digest = hashlib.sha256(b"content").hexdigest()
    entry = {"file": "a.array_record", "bytes": 7, "sha256": digest}
    with building(tmp_path, "print") as owner:
        shard.write_bytes(b"content")
        mark_finished(tmp_path, entry, owner)
        assert read_mark(tmp_path, "a.array_record") == entry
        shard.write_bytes(b"CONTENT")
        assert read_mark(tmp_path, "a.array_record") is None
        shard.unlink()
        assert read_mark(tmp_path, "a.array_record") is None


def test_a_dataset_of_something_else_is_refused(tmp_path: Path):
    golden = Path(__file__).parents[2] / "golden" / "dataset_v1" / "manifest.json"
    manifest = json.loads(golden.read_text("utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"shards": []}), "utf-8")
    assert check_out(tmp_path, manifest["fingerprint"]) is True
    assert check_out(tmp_path) is False  # not known before the source is read
    with pytest.raises(ValueError, match="a dataset of other sources or options"):
        check_out(tmp_path, "another")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="manifest.json: expected format version"):
        check_out(tmp_path)


def test_slices_are_built_together_but_not_beside_a_whole_build(tmp_path: Path):
    with building(tmp_path, "print", is_slice=True) as one:
        with building(tmp_path, "print", is_slice=True) as two:
            assert one != two
            with pytest.raises(ValueError, match="another process is building"):
                with building(tmp_path, "print"):
                    pass
        with pytest.raises(ValueError, match="unfinished build of other sources or options"):
            with building(tmp_path, "another", is_slice=True):
                pass
    assert (tmp_path / ".build" / "state.json").is_file(), "the next slice must find it"


def test_a_slice_sweeps_up_after_the_dead_and_not_after_the_living(tmp_path: Path):
    folder = tmp_path / ".build"
    with building(tmp_path, "print", is_slice=True) as living:
        (folder / f"a.{living}.unfinished").write_text("at work")
        (folder / "b.dead.unfinished").write_text("half")
        (folder / "dead.alive").write_text("")
        with building(tmp_path, "print", is_slice=True):
            left = sorted(path.name for path in folder.glob("*.unfinished"))
            assert left == [f"a.{living}.unfinished"]
            assert not (folder / "dead.alive").exists()
    assert not list(folder.glob("*.unfinished")) and not list(folder.glob("*.alive"))


def test_what_a_killed_build_left_beside_its_dataset_is_swept(tmp_path: Path):
    (tmp_path / ".build").mkdir()
    (tmp_path / ".build" / "state.json").write_text("{}")
    sweep(tmp_path)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
