"""Downloads one published file, from a server that may fail in any way, and verifies it.

What has been received is in `<name>.part`; beside it, `<name>.part.json` records which version of
the server's file it belongs to. A kill at any moment loses only the connection.
"""

import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urljoin, urlsplit

from data_tools.fetch.sources import Archive, problem_of
from kkanji_jax.cli import Report
from kkanji_jax.files import naming_in_errors
from kkanji_jax.locks import Lock, hold_or_refuse

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0  # between tries; doubled each time
_WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)


class RefusedError(ValueError):
    """A file, on the server or on disk, is not the published one; others may still be right."""


class UnreachableError(ValueError):
    """The server does not answer, or never completes an answer."""


class _CutError(Exception):
    """This attempt has failed; another one may succeed."""


class Server(NamedTuple):
    """Where files come from, time limits and retries; `base_url` ends in `/`."""

    base_url: str
    retries: int = 5  # in a row without a single new byte
    timeout_s: float = 30.0  # without a byte


def check_base_url(text: str) -> str:
    """The base URL of a mirror, ending in `/`; ValueError if it is not a URL of a folder."""
    parts = urlsplit(text)
    is_local = parts.scheme == "file" and parts.netloc in ("", "localhost")
    is_remote = parts.scheme in ("http", "https") and bool(parts.netloc) and text.isascii()
    if not (is_local or is_remote) or any(c.isspace() for c in text if is_remote):
        raise ValueError(f"expected http://…, https://… or file:///…, got {text!r}")
    return text if text.endswith("/") else text + "/"


def lock_folder(folder: Path) -> Lock:
    """Locks `folder` against another download until closed or the process ends.

    ValueError if another download holds the lock.
    """
    return hold_or_refuse(folder, f"another process is fetching into {folder}")


def _read_validator(notes: Path, url: str) -> str | None:
    """The version of `url` to which the partial file belongs, if known."""
    try:
        noted = json.loads(notes.read_text(encoding="utf-8"))
        return noted["validator"] if noted["url"] == url else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # the digest is checked at the end anyway


def _write_validator(notes: Path, url: str, headers: http.client.HTTPMessage) -> None:
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")
    notes.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _open(url: str, headers: dict[str, str], timeout_s: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "kkanji_jax", "Accept-Encoding": "identity", **headers}
    try:
        return urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout_s
        )
    except urllib.error.HTTPError as err:
        err.close()
        said = f"the server says {err.code} {err.reason}"
        if err.code == 416:
            raise
        if err.code in _WORTH_ANOTHER_TRY:
            raise _CutError(said) from err
        raise RefusedError(f"{url}: {said}") from err
    except urllib.error.URLError as err:
        raise _CutError(str(err.reason)) from err
    except (OSError, http.client.HTTPException) as err:
        raise _CutError(str(err) or type(err).__name__) from err


def _check_offer(url: str, response: http.client.HTTPResponse, archive: Archive) -> int | None:
    """The position in the file where the answer begins, or None for a wrong answer."""
    page = "a web page, not the file"
    if response.headers.get_content_type() == "text/html":
        raise RefusedError(f"{url} is {page}")
    start, total = 0, response.headers.get("Content-Length")
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not match:
            return None
        start, total = int(match[1]), None if match[2] == "*" else match[2]
    if total is not None and total != str(archive.num_bytes):
        raise RefusedError(
            f"{url} is of {total} bytes, the published file of {archive.num_bytes}: "
            "another version, or a server that lies"
        )
    return start


def _receive(url: str, file: BinaryIO, archive: Archive, server: Server, report: Report) -> None:
    """Continues the partial file, if possible to its end; _CutError if the connection fails."""
    what, all_kb = f"fetching {archive.name} (kB)", -(-archive.num_bytes // 1024)
    notes = Path(f"{file.name}.json")
    have = file.seek(0, os.SEEK_END)
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and (validator := _read_validator(notes, url)):
        headers["If-Range"] = validator
    try:
        response = _open(url, headers, server.timeout_s)
    except urllib.error.HTTPError as err:  # 416: there is no such range
        file.truncate(0)
        raise _CutError(f"the server says {err.code} {err.reason}") from err
    with response:
        start = _check_offer(url, response, archive)
        if start is None or start not in (0, have):
            file.truncate(0)
            raise _CutError("the server resumed at another place than asked")
        if start == 0:  # the server does not support ranges, or its file has changed
            file.truncate(0)
            file.seek(0)
            _write_validator(notes, url, response.headers)
        while True:
            report(what, min(file.tell() // 1024, all_kb - 1), all_kb)
            try:
                piece = response.read1(2**16)
            except TimeoutError as err:
                raise _CutError(f"nothing came for {server.timeout_s:g} s") from err
            except (OSError, http.client.HTTPException) as err:
                raise _CutError(str(err) or type(err).__name__) from err
            if not piece:
                break
            file.write(piece)
            if file.tell() > archive.num_bytes:
                file.truncate(0)
                raise RefusedError(f"{url} goes on after {archive.num_bytes} bytes")
    if file.tell() < archive.num_bytes:
        raise _CutError(f"the connection ended after {file.tell()} of {archive.num_bytes} bytes")
    report(what, all_kb, all_kb)


def _receive_all(
    url: str,
    file: BinaryIO,
    archive: Archive,
    server: Server,
    report: Report,
    say: Callable[[str], None],
) -> bool:
    """Downloads to the end; returns whether all of it came from one version in one piece."""
    num_failed = num_tries = 0
    was_begun = file.tell() > 0
    while (have := file.seek(0, os.SEEK_END)) < archive.num_bytes:
        num_tries += 1
        try:
            _receive(url, file, archive, server, report)
        except _CutError as err:
            file.flush()
            num_failed = 1 if file.seek(0, os.SEEK_END) > have else num_failed + 1
            if num_failed > server.retries:
                raise UnreachableError(f"cannot fetch {url}: {err}, {num_failed} times") from err
            wait_s = min(FIRST_WAIT_S * 2 ** (num_failed - 1), LONGEST_WAIT_S)
            say(f"{archive.name}: {err}; once more in {wait_s:g} s")
            time.sleep(wait_s)
    file.flush()
    return num_tries == 1 and not was_begun


def _copy(url: str, file: BinaryIO, archive: Archive) -> None:
    path = Path(urllib.request.url2pathname(urlsplit(url).path))
    if not path.is_file():
        raise RefusedError(f"no file {path}")
    if path.stat().st_size != archive.num_bytes:
        raise RefusedError(
            f"{path} has {path.stat().st_size} bytes, the published file {archive.num_bytes}"
        )
    file.truncate(0)
    with open(path, "rb") as mirror:
        shutil.copyfileobj(mirror, file)
    file.flush()


def fetch(
    archive: Archive,
    folder: Path,
    server: Server,
    *,
    report: Report,
    say: Callable[[str], None],
) -> bool:
    """Puts the published file into `folder`, complete and verified; False if it was there already.

    RefusedError if the existing file, or the server's, is another: the existing one is not changed,
    and the server's never gets this name. UnreachableError if the server fails `retries` times in a
    row; what was received is kept for the next time. OSError if `folder` cannot be written.
    """
    path = folder / archive.name
    if path.exists():
        if problem := problem_of(path, archive):
            raise RefusedError(f"{path} is not the published file: it {problem}: move it away")
        return False
    part = folder / f"{archive.name}.part"
    notes = Path(f"{part}.json")
    url = urljoin(server.base_url, archive.path)
    while True:
        is_one_piece = True
        try:
            with naming_in_errors(part), open(part, "ab") as file:
                if file.tell() > archive.num_bytes:
                    file.truncate(0)
                if url.startswith("file:"):
                    _copy(url, file, archive)
                else:
                    is_one_piece = _receive_all(url, file, archive, server, report, say)
                os.fsync(file.fileno())
        except RefusedError:
            if not part.stat().st_size:
                part.unlink()
                notes.unlink(missing_ok=True)
            raise
        problem = problem_of(part, archive)
        if problem is None:
            break
        part.unlink()
        notes.unlink(missing_ok=True)
        if is_one_piece:
            raise RefusedError(f"{url} is not the published file: it {problem}: nothing is kept")
        say(f"{archive.name}: its pieces do not fit together; from the start")
    os.replace(part, path)
    notes.unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True
