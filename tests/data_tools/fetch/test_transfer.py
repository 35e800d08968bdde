"""One file from one server: which pieces are kept, and which addresses are taken."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from data_tools.fetch import transfer
from data_tools.fetch.sources import Archive
from data_tools.fetch.transfer import (
    RefusedError,
    Server,
    UnreachableError,
    check_base_url,
    lock_folder,
)
from kkanji_jax.cli import say_nothing

TAR = "kkanji/kkanji.tar"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_WAIT_S", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def fetch_tar(server: Any, folder: Path, published: bytes, said: list[str]) -> bool:
    archive = Archive(TAR, len(published), None, hashlib.sha256(published).hexdigest())
    patient = Server(server.url, retries=1, timeout_s=10.0)
    return transfer.fetch(archive, folder, patient, report=say_nothing, say=said.append)


@pytest.mark.parametrize("fault", ["html", "status:404"])
def test_a_maintenance_page_costs_nothing_of_what_came_before(
    server: Any, tmp_path: Path, fault: str
):
    published = server.files[TAR]
    server.faults[TAR] = ["cut:3000", fault]
    with pytest.raises(RefusedError):
        fetch_tar(server, tmp_path, published, [])
    assert (tmp_path / "kkanji.tar.part").read_bytes() == published[:3000]
    assert fetch_tar(server, tmp_path, published, [])
    assert server.requests[-1][:2] == (TAR, "bytes=3000-")
    assert [path.name for path in tmp_path.iterdir()] == ["kkanji.tar"]
    assert not fetch_tar(server, tmp_path, published, [])


def test_pieces_of_two_versions_are_fetched_again_once_and_not_for_ever(
    server: Any, tmp_path: Path
):
    published, server.has_validator = server.files[TAR], False
    (tmp_path / "kkanji.tar.part").write_bytes(bytes(3000))
    said: list[str] = []
    assert fetch_tar(server, tmp_path, published, said)
    assert said == ["kkanji.tar: its pieces do not fit together; from the start"]
    (tmp_path / "kkanji.tar").unlink()
    server.files[TAR], server.requests = bytes(len(published)), []
    (tmp_path / "kkanji.tar.part").write_bytes(bytes(3000))
    with pytest.raises(RefusedError, match="is not the published file.*nothing is kept"):
        fetch_tar(server, tmp_path, published, said)
    assert len(server.requests) == 2 and list(tmp_path.iterdir()) == []


def test_a_part_longer_than_the_file_is_begun_anew(server: Any, tmp_path: Path):
    published = server.files[TAR]
    (tmp_path / "kkanji.tar.part").write_bytes(bytes(len(published) + 1))
    assert fetch_tar(server, tmp_path, published, [])


def test_tries_are_counted_only_while_nothing_comes(server: Any, tmp_path: Path):
    server.faults[TAR] = ["cut:900"] * 7  # retries=1, but each try brings something
    assert fetch_tar(server, tmp_path, server.files[TAR], [])
    assert len(server.requests) == 8
    (tmp_path / "kkanji.tar").unlink()
    server.faults[TAR] = ["drop"] * 3
    with pytest.raises(UnreachableError, match="2 times"):
        fetch_tar(server, tmp_path, server.files[TAR], [])


def test_a_folder_is_fetched_into_by_one_at_a_time(tmp_path: Path):
    with lock_folder(tmp_path):
        with pytest.raises(ValueError, match="another process is fetching into"):
            with lock_folder(tmp_path):
                raise AssertionError("the lock was given twice")
    with lock_folder(tmp_path):
        assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


@pytest.mark.parametrize("is_mirror", [False, True])
def test_a_disk_that_fills_up_is_an_error_that_names_the_file(
    server: Any, mount: Any, tmp_path: Path, is_mirror: bool
):
    content, name = bytes(2**19), "big.npz"
    (tmp_path / name).write_bytes(content)
    server.files[name] = content
    url = f"file://{tmp_path}/" if is_mirror else server.url
    disk = mount("size=128k")
    with pytest.raises(OSError, match=f"cannot write {disk}/{name}.part: No space left"):
        transfer.fetch(
            Archive(name, len(content), None, None),
            disk,
            Server(url, retries=0),
            report=say_nothing,
            say=lambda line: None,
        )


def test_base_urls_are_of_three_schemes(tmp_path: Path):
    assert check_base_url("https://a.jp/x") == "https://a.jp/x/"
    assert check_base_url("http://127.0.0.1:80/") == "http://127.0.0.1:80/"
    assert check_base_url("file:///鏡 1") == "file:///鏡 1/"
    for text in (
        "ftp://x/",
        "/a/folder",
        "http://",
        "file://host/x",
        "http://a b/",
        "http://鏡/",
        "",
    ):
        with pytest.raises(ValueError, match="expected http://"):
            check_base_url(text)
