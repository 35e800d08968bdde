"""Files over HTTP: one request at a time, with pauses, retries and a cache on this machine.

After a temporary failure (429, 500, 502, 503, 504, a timeout, a connection that breaks, a body that
is cut short) a server is asked again, up to MAX_ATTEMPTS times in all, after 1, 2, 4 and 8 seconds
or as long as its Retry-After says. The cache is `iiif/` in `kkanji_jax.files.cache_folder`; the
least recently used files are removed when it has more than MAX_CACHE_BYTES.
"""

import contextlib
import email.utils
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from kkanji_jax.files import written_whole

MAX_ATTEMPTS = 5
MIN_INTERVAL_S = 0.5  # between two requests to one server
MAX_WAIT_S = 120.0  # for one Retry-After; a server that asks for more is given up
CONNECT_S, READ_S = 10.0, 60.0
MAX_REDIRECTS = 10
MAX_BYTES = 200_000_000  # of one answer
MAX_CACHE_BYTES = 4_000_000_000
SLEEP = time.sleep
_BUSY = frozenset((429, 500, 502, 503, 504))
_CHUNK = 1 << 16


class Fetched(NamedTuple):
    """The answer of an address; `url` is where redirects led."""

    url: str
    kind: str  # the media type, without parameters and in lower case
    content: bytes


class _AgainError(Exception):
    """An attempt failed, and another may succeed; `wait_s` is what the server asks for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Fetcher:
    """Fetches addresses; `folder` is the cache, or None. For one thread at a time."""

    def __init__(self, folder: Path | None, user_agent: str) -> None:
        self._folder, self._user_agent = folder, user_agent
        self._trusted: Any = None
        self._next_s: dict[str, float] = {}  # a server -> when it may be asked again

    def get(self, url: str) -> Fetched:
        """What `url` returns now.

        ValueError, in one line, if it cannot be fetched: the status, or what is wrong.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                answer = self._once(url)
            except _AgainError as err:
                if attempt + 1 == MAX_ATTEMPTS:
                    raise ValueError(f"{url}: {err}, {MAX_ATTEMPTS} times") from err
                wait_s = 2.0**attempt if err.wait_s is None else err.wait_s
                if wait_s > MAX_WAIT_S:
                    raise ValueError(
                        f"{url}: {err}, and asks to wait {wait_s:.0f} s: try again later"
                    ) from err
                SLEEP(wait_s)
            else:
                return answer
        raise AssertionError("unreachable")

    def _once(self, url: str) -> Fetched:
        httpx = _httpx(url)
        try:
            self._pause(httpx.URL(url).host)
            if self._trusted is None:
                self._trusted = httpx.create_ssl_context()  # slow: once
            with (
                httpx.Client(
                    verify=self._trusted,
                    follow_redirects=True,
                    max_redirects=MAX_REDIRECTS,
                    timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
                    headers={"User-Agent": self._user_agent},
                ) as client,
                client.stream("GET", url) as response,
            ):
                self._check(url, response)
                return self._read(url, response)
        except httpx.TooManyRedirects as err:
            raise ValueError(f"{url}: more than {MAX_REDIRECTS} redirects") from err
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.DecodingError) as err:
            raise ValueError(f"{url}: {err}") from err
        except httpx.TimeoutException as err:
            raise _AgainError("no answer in time") from err
        except httpx.TransportError as err:
            raise _AgainError(f"the connection failed ({err or type(err).__name__})") from err

    def _pause(self, server: str) -> None:
        wait_s = self._next_s.get(server, 0.0) - time.monotonic()
        if wait_s > 0:
            SLEEP(wait_s)
        self._next_s[server] = time.monotonic() + MIN_INTERVAL_S

    def _check(self, url: str, response: Any) -> None:
        """Raises unless the status says that the body is the requested file."""
        status = f"{response.status_code} {response.reason_phrase}".strip()
        if response.status_code in _BUSY:
            raise _AgainError(status, self._asked_wait_s(response.headers.get("retry-after")))
        if response.status_code != 200:
            raise ValueError(f"{url}: {status}")
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BYTES:
            raise ValueError(f"{url}: {int(length):,} bytes, expected at most {MAX_BYTES:,}")

    def _read(self, url: str, response: Any) -> Fetched:
        began_s = time.monotonic()
        content = bytearray()
        for chunk in response.iter_bytes(_CHUNK):
            content += chunk
            if len(content) > MAX_BYTES:
                raise ValueError(f"{url}: more than {MAX_BYTES:,} bytes")
            if time.monotonic() - began_s > 10 * READ_S:
                raise _AgainError(f"not whole after {10 * READ_S:.0f} s")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Fetched(str(response.url), kind, bytes(content))

    def _asked_wait_s(self, retry_after: str | None) -> float | None:
        """The seconds in a Retry-After, which may be a date; None if it is not valid."""
        if not retry_after:
            return None
        if retry_after.strip().isdecimal():
            return float(retry_after)
        try:
            at = email.utils.parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        return max(0.0, at.timestamp() - time.time())

    # --- the cache: a file for each address, and beside it what the server said of it ------------

    def _place(self, url: str) -> Path | None:
        name = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        return None if self._folder is None else self._folder / name

    def kept(self, url: str) -> Fetched | None:
        """What the cache has of an address; None also if the entry is damaged."""
        place = self._place(url)
        if place is None:
            return None
        try:
            about = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
            content = place.read_bytes()
            with contextlib.suppress(PermissionError):  # another user's, in a cache that is shared
                os.utime(place)
            if about["asked"] != url or about["bytes"] != len(content):
                return None
            return Fetched(str(about["url"]), str(about["kind"]), content)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def keep(self, url: str, answer: Fetched) -> None:
        """Puts an answer into the cache, for `url`."""
        place = self._place(url)
        if place is None:
            return
        with written_whole(place) as unfinished:
            unfinished.write_bytes(answer.content)
        about = {
            "asked": url,
            "url": answer.url,
            "kind": answer.kind,
            "bytes": len(answer.content),
        }
        with written_whole(place.with_suffix(".json")) as unfinished:
            unfinished.write_text(json.dumps(about), encoding="utf-8")
        _shrink(place.parent, MAX_CACHE_BYTES)


def _httpx(url: str) -> Any:
    try:
        import httpx
    except ModuleNotFoundError as err:
        raise ValueError(f'{url} needs the package httpx: pip install "kkanji_jax[iiif]"') from err
    return httpx


def _shrink(folder: Path, max_bytes: int) -> None:
    """Removes the least recently used files until at most `max_bytes` are left."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.endswith(".json") and not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # another process makes room too
                    status = entry.stat()
                    files.append((status.st_mtime, status.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= max_bytes:
            return
        Path(path).unlink(missing_ok=True)
        Path(path).with_suffix(".json").unlink(missing_ok=True)
        total -= size
