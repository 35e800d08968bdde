"""Tar archives, sound and hostile: read without writing anything to disk."""

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from data_tools.read import archives


def make_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for info, data in members:
            info.size = info.size or len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def member(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, target: str = ""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, data if kind == tarfile.REGTYPE else b""


def test_files_of_a_tar_come_in_its_order_with_clean_names(tmp_path: Path):
    path = make_tar(
        tmp_path / "k.tar",
        member("./kkanji2", kind=tarfile.DIRTYPE),
        member("./kkanji2/U+6625/b.png", b"second"),
        member("kkanji2/U+6625/a.png", b""),
        member("kkanji2/" + "長い" * 60 + ".png", b"x" * 1000),
    )
    assert list(archives.iterate_tar(path)) == [
        ("kkanji2/U+6625/b.png", b"second"),
        ("kkanji2/U+6625/a.png", b""),
        ("kkanji2/" + "長い" * 60 + ".png", b"x" * 1000),
    ]


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside.png"),
        member("kkanji2/../../outside.png"),
        member("/tmp/outside.png"),
        member("kkanji2\\..\\outside.png"),
        member("kkanji2/U+6625", kind=tarfile.SYMTYPE, target="/tmp"),
        member("kkanji2/U+6625/x.png", kind=tarfile.LNKTYPE, target="../../etc/passwd"),
        member("kkanji2/fifo", kind=tarfile.FIFOTYPE),
        member("kkanji2/device", kind=tarfile.CHRTYPE),
        member("kkanji2/U+6625/good.png"),  # a second time
        member("kkanji2/large.png", bytes(archives.MAX_MEMBER_BYTES + 1)),
    ],
    ids=lambda pair: pair[0].name,
)
def test_a_hostile_member_refuses_the_whole_archive_and_writes_nothing(
    tmp_path: Path, hostile: tuple[tarfile.TarInfo, bytes], monkeypatch: pytest.MonkeyPatch
):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    path = make_tar(inside / "k.tar", member("kkanji2/U+6625/good.png"), hostile)
    with pytest.raises(ValueError, match="k.tar .*refusing the whole archive"):
        next(archives.iterate_tar(path))  # before its first file, a good one, is given
    assert list(tmp_path.rglob("*")) == [inside, path]


def test_a_sparse_member_is_refused(tmp_path: Path):
    sparse = member("kkanji2/U+6625/hollow.png", b"x" * 512)
    sparse[0].pax_headers = {"GNU.sparse.map": "0,1,400000,1", "GNU.sparse.size": "500000"}
    path = make_tar(tmp_path / "k.tar", sparse)
    with pytest.raises(ValueError, match="link or device|damaged"):
        next(archives.iterate_tar(path))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_states_a_huge_text_takes_no_memory(tmp_path: Path, kind: bytes):
    info = tarfile.TarInfo("kkanji2/U+6625/a.png")
    info.type, info.size = kind, 3 * 2**30
    path = tmp_path / "k.tar"
    with open(path, "wb") as file:  # three hollow gigabytes behind one header
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(3 * 2**30 + 512 + 1024)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="k.tar is damaged.*refusing the whole archive"):
            next(archives.iterate_tar(path))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_tar_that_changes_between_check_and_reading_is_refused(tmp_path: Path):
    path = make_tar(tmp_path / "k.tar", member("a.png", b"x" * 900), member("b.png", b"y" * 900))
    files = archives.iterate_tar(path)
    assert next(files) == ("a.png", b"x" * 900)
    os.truncate(path, 2000)
    with pytest.raises(ValueError, match="k.tar changed while it was read"):
        next(files)


def test_an_archive_with_too_many_members_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    path = make_tar(tmp_path / "k.tar", *(member(f"kkanji2/{i}.png") for i in range(4)))
    with pytest.raises(ValueError, match="over 3 members"):
        list(archives.iterate_tar(path))


def test_a_tar_cut_or_damaged_anywhere_is_refused(tmp_path: Path):
    members = [member(f"kkanji2/U+6625/{i}.png", bytes([i]) * 700) for i in range(5)]
    path = make_tar(tmp_path / "k.tar", *members)
    whole = path.read_bytes()
    assert len(list(archives.iterate_tar(path))) == 5
    ends_at = 5 * (512 + 1024)
    for length in (0, 100, 512, 1024, *range(512, ends_at + 513, 512)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="k.tar"):
            list(archives.iterate_tar(path))
    for header_at in range(0, ends_at, 512 + 1024):
        damaged = bytearray(whole)
        damaged[header_at + 3] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="k.tar"):
            list(archives.iterate_tar(path))
    path.write_bytes(b"<html>" * 1000)
    with pytest.raises(ValueError, match="no tar file"):
        list(archives.iterate_tar(path))
