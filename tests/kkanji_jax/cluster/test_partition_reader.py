"""One partition in, one file of rows out; and the folder of such files: without any cluster."""

import errno
import functools
import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from kkanji_jax.answers.rows import RowOptions
from kkanji_jax.answers.tally import Tally
from kkanji_jax.cluster import partition_reader, rows_file
from kkanji_jax.cluster.listing import images_of, list_units
from kkanji_jax.cluster.partition_reader import (
    Attempt,
    Job,
    load_same,
    mark_of,
    marked_image,
    read_partition,
)
from kkanji_jax.cluster.partitions import Partition, partitions_of
from kkanji_jax.cluster.ray_workers import _after_death
from kkanji_jax.cluster.rows_file import Written
from kkanji_jax.cluster.rows_folder import LOCK, MANIFEST, PROGRESS, REQUEST, RowsFolder
from kkanji_jax.inference import recogniser

from .conftest import draw_png, rows_in, rows_of_predict

IDENTITY = {"model": "m", "--top-k": "5"}


@functools.cache
def loaded() -> recogniser.Recogniser:
    return recogniser.load(backend="onnx")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "out").mkdir()
    return Job(tmp_path / "out", loaded, RowOptions(), os.getcwd())


def partitions_in(collection: Path, num_images: int) -> list[Partition]:
    return list(partitions_of(list_units([str(collection)], Counter()), num_images))


def finished(job: Job, partition: Partition) -> Written:
    return read_partition(loaded(), job, Attempt(partition))


def test_partitions_have_the_rows_of_predict(collection: Path, job: Job, tmp_path: Path):
    made = [finished(job, partition) for partition in partitions_in(collection, 128)]
    expected = rows_of_predict(collection, out=tmp_path / "rows.jsonl")
    assert rows_in(job.out) == expected
    assert sum(each.tally.num_images for each in made) == 301
    assert sum(each.tally.num_errors for each in made) == 1
    assert sum(each.num_rows for each in made) == len(expected)


def test_turned_images_have_the_rows_of_predict(job: Job, tmp_path: Path):
    turned = tmp_path / "turned"
    turned.mkdir()
    for number in range(24):
        Image.open(io.BytesIO(draw_png(number))).rotate(90).save(turned / f"{number:02}.png")
    expected = rows_of_predict(turned, "--orient", "auto", out=tmp_path / "rows.jsonl")
    job = job._replace(options=RowOptions(orient="auto"))
    for partition in partitions_in(turned, 10):
        finished(job, partition)
    assert rows_in(job.out) == expected
    assert any("turning it" in row["remark"] for row in expected)


def test_row_groups_change_no_row(collection: Path, job: Job, monkeypatch: pytest.MonkeyPatch):
    (partition,) = partitions_in(collection, 1000)
    finished(job, partition)
    expected = rows_in(job.out)
    monkeypatch.setattr(rows_file, "ROWS_AT_ONCE", 13)
    finished(job, partition)
    assert rows_in(job.out) == expected


def test_a_partition_done_again_has_the_same_bytes(collection: Path, job: Job):
    partition = partitions_in(collection, 128)[1]
    first = finished(job, partition)
    assert finished(job, partition) == first
    assert read_partition(loaded(), job, Attempt(partition, {}, is_careful=True)) == first
    assert sorted(path.name for path in job.out.iterdir() if path.is_file()) == [partition.file]


def test_an_excluded_image_is_a_row_with_its_error_and_is_not_opened(
    collection: Path, job: Job, monkeypatch: pytest.MonkeyPatch
):
    from kkanji_jax.glyphs import image_files

    partition = partitions_in(collection, 128)[0]
    finished(job, partition)
    before = {row["path"]: row for row in rows_in(job.out) if row["rank"] in (None, 1)}
    avoided, load_picture = partition.units[7].path, image_files.load_picture

    def load(source, **options):
        assert source != avoided
        return load_picture(source, **options)

    monkeypatch.setattr(image_files, "load_picture", load)
    written = read_partition(loaded(), job, Attempt(partition, {7: "ended 2 workers: killed"}))
    after = {row["path"]: row for row in rows_in(job.out) if row["rank"] in (None, 1)}
    assert after[avoided]["error"] == "ended 2 workers: killed"
    assert after[avoided]["character"] is None
    assert {**after, avoided: None} == {**before, avoided: None}
    assert written.tally.num_errors == 2  # a damaged one is there too


def test_a_careful_attempt_tells_which_image_it_is_at(
    collection: Path, job: Job, monkeypatch: pytest.MonkeyPatch
):
    from kkanji_jax.glyphs import image_files

    partition = partitions_in(collection, 128)[0]
    poison, load_picture = partition.units[77].path, image_files.load_picture

    class Killed(BaseException):
        pass

    def load(source, **options):
        if source == poison:
            raise Killed
        return load_picture(source, **options)

    monkeypatch.setattr(image_files, "load_picture", load)
    assert marked_image(mark_of(job.out, partition)) is None
    with pytest.raises(Killed):
        read_partition(loaded(), job, Attempt(partition, {}, is_careful=True))
    assert marked_image(mark_of(job.out, partition)) == 77
    assert not (job.out / partition.file).exists()


def test_what_fails_before_an_image_is_there_fails_at_its_mark(
    collection: Path, job: Job, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    def fetched(units):
        for place, image in enumerate(images_of(units)):
            if place == 3:
                raise Killed
            yield image

    partition = partitions_in(collection, 128)[0]
    monkeypatch.setattr(partition_reader, "images_of", fetched)
    with pytest.raises(Killed):
        read_partition(loaded(), job, Attempt(partition, {}, is_careful=True))
    assert marked_image(mark_of(job.out, partition)) == 3


@pytest.mark.parametrize("told", ["", "00000000000000000003"])
def test_a_worker_that_dies_whatever_is_excluded_is_not_started_for_ever(
    told: str, collection: Path, job: Job
):
    (partition, *_) = partitions_in(collection, 128)
    mark = mark_of(job.out, partition)
    mark.parent.mkdir()
    mark.write_text(told)
    attempt, deaths = Attempt(partition, {}, is_careful=True), {}
    with pytest.raises(ValueError, match="5 workers died at .*give workers more memory"):
        for _ in range(20):
            attempt = _after_death(job, attempt, deaths, "its process was killed")
    assert set(attempt.excluded) == ({3} if told else set())


def test_a_full_disk_is_an_error_that_names_the_file(
    collection: Path, job: Job, monkeypatch: pytest.MonkeyPatch
):
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    partition = partitions_in(collection, 128)[0]
    with pytest.raises(OSError, match="cannot write .*part-00000000.parquet: No space left"):
        finished(job, partition)
    assert list(job.out.iterdir()) == []


def test_progress_that_cannot_be_written_is_named(tmp_path: Path):
    written = Written(0, "part-00000000.parquet", "", 0, 0, "", Tally())
    with pytest.raises(OSError, match="cannot write .*_progress.jsonl: No space left"):
        with RowsFolder(tmp_path / "out", IDENTITY) as folder:
            folder._progress.close()
            folder._progress = Path("/dev/full").open("a", encoding="utf-8")
            folder.add(written)


def test_a_damaged_line_of_progress_is_named(tmp_path: Path):
    with RowsFolder(tmp_path / "out", IDENTITY):
        pass
    (tmp_path / "out" / PROGRESS).write_text("{\n")
    with pytest.raises(ValueError, match="_progress.jsonl is damaged"):
        with RowsFolder(tmp_path / "out", IDENTITY):
            pass


def test_another_model_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="a worker has another model"):
        load_same(None, None, "onnx", "0" * 64)


# --- the folder ---------------------------------------------------------------------------------


def answered(out: Path, partitions: list[Partition], job: Job, identity=IDENTITY) -> list[int]:
    """Reads what is missing; the numbers of what was read."""
    read = []
    with RowsFolder(out, identity) as folder:
        for partition in partitions:
            if not folder.has(partition):
                folder.add(finished(job, partition))
                read.append(partition.number)
        folder.finish(len(partitions), {})
    return read


def test_what_is_finished_is_not_read_again(collection: Path, job: Job, capsys):
    partitions = partitions_in(collection, 64)
    with pytest.raises(KeyboardInterrupt), RowsFolder(job.out, IDENTITY) as folder:
        for partition in partitions[:2]:
            folder.add(finished(job, partition))
        raise KeyboardInterrupt
    assert "the rows of 128 images are in" in capsys.readouterr().err
    assert answered(job.out, partitions, job) == [2, 3, 4]
    rows, content = rows_in(job.out), (job.out / MANIFEST).read_text()
    assert len({row["path"] for row in rows}) == 301
    assert answered(job.out, partitions, job) == []
    assert (job.out / MANIFEST).read_text() == content
    manifest = json.loads(content)
    assert (manifest["num_images"], manifest["num_errors"]) == (301, 1)
    assert manifest["num_rows"] == len(rows)
    assert {path.name for path in job.out.iterdir()} == {
        MANIFEST,
        LOCK,
        *(partition.file for partition in partitions),
    }


def test_half_a_line_of_progress_and_a_file_that_is_gone_are_read_again(collection: Path, job: Job):
    partitions = partitions_in(collection, 64)
    with RowsFolder(job.out, IDENTITY) as folder:
        for partition in partitions[:4]:
            folder.add(finished(job, partition))
    progress = job.out / PROGRESS
    progress.write_text(progress.read_text()[:-40])
    (job.out / partitions[1].file).unlink()
    (job.out / partitions[2].file).write_bytes(b"short")
    assert answered(job.out, partitions, job) == [1, 2, 3, 4]


def test_a_changed_request_is_refused_by_name(collection: Path, job: Job):
    partitions = partitions_in(collection, 64)
    answered(job.out, partitions, job)
    content = (job.out / MANIFEST).read_text()
    with pytest.raises(ValueError, match="holds rows of another --top-k: give the command"):
        answered(job.out, partitions, job, {**IDENTITY, "--top-k": "3"})
    assert (job.out / MANIFEST).read_text() == content


def test_other_images_are_refused_wherever_they_came(collection: Path, job: Job):
    partitions = partitions_in(collection, 64)
    answered(job.out, partitions, job)
    for other in (partitions_in(collection / "inner", 64), partitions[:-1]):
        with pytest.raises(ValueError, match="the images are not those of"):
            answered(job.out, other, job)
    assert answered(job.out, partitions, job) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no rows"):
        RowsFolder(tmp_path / "out", IDENTITY).__enter__()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_two_processes_do_not_write_one_folder(tmp_path: Path):
    with RowsFolder(tmp_path / "out", IDENTITY):
        with pytest.raises(ValueError, match="another process is writing"):
            RowsFolder(tmp_path / "out", IDENTITY).__enter__()


def test_what_killed_workers_left_is_swept(tmp_path: Path):
    out = tmp_path / "out"
    with RowsFolder(out, IDENTITY):
        (out / ".part-00000000.parquet.0123456789abcdef.unfinished").write_bytes(b"half")
        (out / "_working").mkdir()
    assert {path.name for path in out.iterdir()} == {REQUEST, PROGRESS, LOCK}


def test_nothing_read_is_an_empty_answer(tmp_path: Path):
    with RowsFolder(tmp_path / "out", IDENTITY) as folder:
        assert folder.tally == Tally()
