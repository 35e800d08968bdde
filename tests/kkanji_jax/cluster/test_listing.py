"""What a cluster would read: in the order of `predict`, lazily, and from every kind of place."""

import io
import itertools
import os
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kkanji_jax.answers.rows import RowOptions
from kkanji_jax.cluster import stores
from kkanji_jax.cluster.collection_reader import CollectionRequest, read_collection
from kkanji_jax.cluster.listing import Unit, images_of, list_pages, list_units, may_find
from kkanji_jax.cluster.partitions import partitions_of
from kkanji_jax.cluster.ray_workers import Resources
from kkanji_jax.inputs.box_crops import crops_of
from kkanji_jax.inputs.finding import entries_in_order, find_images
from kkanji_jax.pages.box_files import read_boxes

from .conftest import draw_png, write_tar


def paths_of(*sources: object) -> list[str]:
    return [unit.path for unit in list_units(map(str, sources), Counter())]


def test_a_folder_is_listed_as_predict_lists_it(collection: Path):
    passed_over, expected_passed = Counter(), Counter()
    units = list(list_units([str(collection)], passed_over))
    expected = list(find_images([str(collection)], expected_passed))
    assert [(item.path, item.error) for item in images_of(units)] == [
        (item.path, item.error) for item in expected
    ]
    assert len(expected) == 301
    assert passed_over == expected_passed == {".txt": 1}


@pytest.mark.parametrize("most", [1, 7, 301, 302, 1000])
def test_a_folder_of_more_entries_than_are_held_is_in_order_too(collection: Path, most: int):
    names = [entry.name for entry in entries_in_order(str(collection), most)]
    assert names == sorted(os.listdir(collection))


def test_a_pattern_names_files_in_the_order_of_names(collection: Path):
    expected = sorted(str(path) for path in collection.glob("00[12]?.png"))
    assert paths_of(collection / "00[12]?.png") == expected
    assert len(expected) == 14  # the others lie below
    deep = paths_of(collection.parent / "**" / "*9.png")
    assert sorted(deep) == sorted(str(path) for path in collection.rglob("*9.png"))
    assert len(set(deep)) == len(deep)
    assert paths_of(collection.parent / "cr*") == paths_of(collection)


def test_a_pattern_that_names_nothing_is_an_error(collection: Path):
    (unit,) = list_units([str(collection / "*.webp")], Counter())
    assert unit.error == "no file matches"
    (unit,) = list_units([str(collection / "gone.png")], Counter())
    assert unit.error == "no such file"


def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path):
    path = tmp_path / "a[1].png"
    path.write_bytes(draw_png(1))
    assert paths_of(path) == [str(path)]


def test_a_store_is_listed_and_read_as_a_folder_is(collection: Path):
    there = [
        item._replace(path=item.path.removeprefix("file://"))
        for item in images_of(list_units([f"file://{collection}"], Counter()))
    ]
    here = list(images_of(list_units([str(collection)], Counter())))
    assert [item.path for item in there] == [item.path for item in here]
    for mine, theirs in zip(here, there, strict=True):
        assert theirs.source().read() == Path(mine.source()).read_bytes()
    matched = paths_of(f"file://{collection}/00[12]?.png")
    assert matched == [f"file://{path}" for path in paths_of(collection / "00[12]?.png")]


def test_an_unknown_store_is_refused_by_name():
    with pytest.raises(ValueError, match="nosuch:// is no store that pyarrow knows"):
        list(list_units(["nosuch://bucket/key"], Counter()))


def test_a_tar_yields_its_images_in_order_and_tells_where_it_is_damaged(tmp_path: Path):
    files = [("b/1.png", draw_png(1)), ("b/1.json", b"{}"), ("a/2.png", draw_png(2))]
    write_tar(tmp_path / "x.tar", files)
    found = list(images_of(list_units([str(tmp_path)], Counter())))
    assert [item.path for item in found] == [
        f"{tmp_path}/x.tar/b/1.png",
        f"{tmp_path}/x.tar/a/2.png",
    ]
    assert found[1].source().read() == draw_png(2)
    content = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(content[: content.index(draw_png(2)) + 5])
    found = list(images_of(list_units([str(tmp_path)], Counter())))
    assert [bool(item.error) for item in found] == [False, True]
    assert "damaged after" in found[1].error


@pytest.mark.parametrize("is_struct", [False, True])
def test_parquet_rows_are_images_with_their_ids(tmp_path: Path, is_struct: bool):
    images = [draw_png(n) for n in range(5)] + [None]
    column = [{"bytes": b, "path": None} for b in images] if is_struct else images
    table = pa.table({"image": column, "id": [f"n{n}" for n in range(6)], "width": [1] * 6})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4)
    units = list(list_units([str(tmp_path)], Counter()))
    assert [unit.num_images for unit in units] == [4, 2]
    found = list(images_of(units))
    assert [item.path for item in found] == [f"{tmp_path}/x.parquet#{n}" for n in range(1, 7)]
    assert [item.id for item in found] == [f"n{n}" for n in range(6)]
    assert found[4].source().read() == draw_png(4)
    assert found[5].error == "no image in this row"


def test_parquet_without_images_and_a_file_that_is_none_are_errors(tmp_path: Path):
    pq.write_table(pa.table({"number": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("no such thing")
    errors = [item.error for item in images_of(list_units([str(tmp_path)], Counter()))]
    assert "expected a column of bytes" in errors[0]
    assert "expected a Parquet file" in errors[1]


def test_pages_have_the_crops_that_one_process_cuts(collection: Path, tmp_path: Path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(
        "image,x,y,w,h,id\n0001.png,0,0,30,30,a\ngone.png,1,1,2,2,b\n0001.png,20,20,99,30,c\n"
        "0004.png,70,0,5,5,d\n"
    )
    sources, read = [str(collection / f"000{n}.png") for n in (1, 2, 4)], read_boxes(boxes)
    mine = list(images_of(list_pages(sources, read, Counter())))
    expected = list(crops_of(find_images(sources), read))
    assert len(expected) == 5
    for one, other in zip(mine, expected, strict=True):
        assert one[:4] == other[:4]
        assert (one.image is None and other.image is None) or (one.image == other.image).all()


def test_partitions_hold_every_unit_once_and_do_not_depend_on_what_follows(collection: Path):
    units = list(list_units([str(collection)], Counter()))
    partitions = list(partitions_of(units, 64))
    assert [unit for part in partitions for unit in part.units] == units
    assert [len(part.units) for part in partitions] == [64, 64, 64, 64, 45]
    shorter = list(partitions_of(units[:200], 64))
    assert [part.digest for part in shorter[:3]] == [part.digest for part in partitions[:3]]
    assert shorter[3].digest != partitions[3].digest


def test_a_unit_that_may_hold_many_is_a_partition_of_its_own():
    units = [Unit("a.png"), Unit("b.tar", num_images=99), Unit("c.png")]
    assert [[unit.path for unit in part.units] for part in partitions_of(units, 10)] == [
        ["a.png"],
        ["b.tar"],
        ["c.png"],
    ]


def test_memory_does_not_grow_with_the_number_of_paths():
    def peak_of(num_units: int) -> int:
        def units() -> Iterator[Unit]:
            return (Unit(f"/scanned/{number:012d}.png") for number in range(num_units))

        tracemalloc.start()
        for partition in partitions_of(units(), 1000):
            assert partition.digest
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_of(2000)
    assert peak_of(40_000) < 1.2 * peak_of(4000)


def test_files_of_a_store_are_fetched_a_bounded_number_ahead(monkeypatch: pytest.MonkeyPatch):
    fetched = []

    def fetch(uri: str) -> io.BytesIO:
        fetched.append(uri)
        return io.BytesIO(b"")

    monkeypatch.setattr(stores, "read_file", fetch)
    units = (Unit(f"s3://bucket/{number}.png") for number in itertools.count())
    images = images_of(units)
    assert [next(images).path for _ in range(3)] == [f"s3://bucket/{n}.png" for n in range(3)]
    assert 3 <= len(fetched) <= 66
    images.close()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("", True),
        ("/out", True),
        ("/*", True),
        ("/o?t", True),
        ("/**", True),
        ("/**/*.parquet", True),
        ("/out/part-*", True),
        ("/*/*/*.parquet", False),
        ("/*.tar", False),
        ("/crops", False),
        ("/crops/**", False),
        ("/ou", False),
    ],
)
def test_rows_are_not_written_where_a_source_would_find_them(
    source: str, is_found: bool, tmp_path: Path
):
    (tmp_path / "out").mkdir()
    rows = tmp_path / "out" / "part-00000000.parquet"
    assert may_find(f"{tmp_path}{source}", rows) is is_found
    assert may_find(f"file://{tmp_path}{source}", rows) is is_found
    request = CollectionRequest(
        [f"{tmp_path}{source}"], tmp_path / "out", {}, pytest.fail, RowOptions(), 16
    )
    if is_found:
        with pytest.raises(ValueError, match="lies in"):
            read_collection(request, Resources(), Counter())
    # What the listing finds is what was foreseen.
    rows.write_bytes(b"")
    listed = {unit.path for unit in list_units([f"{tmp_path}{source}"], Counter())}
    assert (str(rows) in listed) is is_found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere", "no such file"),
        ("no*where", "no file matches"),
        ("text.parquet", "expected a Parquet file, cannot read it"),
    ],
)
def test_one_source_that_has_nothing_is_refused_before_a_cluster_is_sought(
    name: str, reason: str, tmp_path: Path
):
    (tmp_path / "text.parquet").write_text("no table")
    out, source = tmp_path / "out", str(tmp_path / name)
    for boxes in (None, []) if name == "nowhere" else (None,):
        request = CollectionRequest([source], out, {}, pytest.fail, RowOptions(), 16, boxes)
        with pytest.raises(ValueError) as refused:
            read_collection(request, Resources("127.0.0.1:1"), Counter())
        assert str(refused.value).startswith(f"{source}: {reason}")
    assert not out.exists()
