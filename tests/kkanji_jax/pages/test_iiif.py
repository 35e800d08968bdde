"""Pages over HTTP, from a server on the loopback that serves IIIF and errs in every known way."""

import contextlib
import email.utils
import io
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.inputs import finding
from kkanji_jax.inputs.box_crops import crops_of
from kkanji_jax.inputs.finding import find_images
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages import fetch, iiif
from kkanji_jax.pages.box import Box

WIDTH, HEIGHT = 120, 90


def _jpeg() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


JPEG = _jpeg()


class _Site(BaseHTTPRequestHandler):
    """Images below /ok, /busy2, /broken and so on; what was asked for is counted."""

    protocol_version = "HTTP/1.1"
    asked: Counter[str] = Counter()
    times_s: list[float] = []

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(
        self, status: int, content: bytes, kind: str = "image/jpeg", **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        _Site.asked[self.path] += 1
        _Site.times_s.append(time.monotonic())
        count = _Site.asked[self.path]
        _, port, *_ = self.connection.getsockname()
        address = f"http://127.0.0.1:{port}"
        place = self.path.split("/")[1]
        if self.path in MANIFESTS:
            text = json.dumps(MANIFESTS[self.path]).replace("{site}", address)
            self._answer(200, text.encode(), "application/ld+json;charset=utf-8")
        elif self.path.endswith("/info.json"):
            info = {"@context": "http://iiif.io/api/image/2/context.json", "width": 1, "height": 1}
            info["@id"] = address + self.path.removesuffix("/info.json")
            self._answer(200, json.dumps(info).encode(), "application/json")
        elif place == "ok" and self.path.endswith(".jpg"):
            self._answer(200, JPEG)
        elif place == "ok":
            self._answer(303, b"", Location=f"{self.path}/info.json")
        elif place == "twice" and count <= 2:
            self._answer((500, 503)[count - 1], b"busy", "text/plain")
        elif place == "patience" and count == 1:
            self._answer(429, b"", Retry_After="7")
        elif place == "date" and count == 1:
            self._answer(503, b"", Retry_After=email.utils.formatdate(time.time() + 20))
        elif place == "never":
            self._answer(429, b"", Retry_After="86400")
        elif place == "cut" and (count == 1 or "always" in self.path):
            self.send_response(200)
            self.send_header("Content-Length", str(len(JPEG)))
            self.end_headers()
            self.wfile.write(JPEG[:200])
            self.close_connection = True
        elif place == "damaged":
            self._answer(200, JPEG[: len(JPEG) // 2])
        elif place == "html":
            self._answer(200, b"<html>Please log in</html>", "text/html; charset=utf-8")
        elif place == "lie":
            self._answer(200, b"<html>Please log in</html>")
        elif place == "empty":
            self._answer(200, b"")
        elif place == "broken":
            self._answer(500, b"")
        elif place == "slow" and count <= (1 if "once" in self.path else 99):
            time.sleep(1.0)
            self._answer(200, JPEG)
        elif place == "loop":
            self._answer(302, b"", Location=self.path)
        elif place == "away":
            self._answer(302, b"", Location="file:///etc/passwd")
        elif place == "huge":
            self._answer(200, b"x" * 5000)
        elif place in ("twice", "patience", "date", "cut", "slow"):
            self._answer(200, JPEG)
        else:
            self._answer(404, b"", "text/plain")


def _service(name: str, version: int) -> dict[str, Any]:
    if version == 3:
        return {"id": f"{{site}}/ok/{name}", "type": "ImageService3", "profile": "level2"}
    context = "http://iiif.io/api/image/2/context.json"
    return {"@context": context, "@id": f"{{site}}/ok/{name}", "profile": f"{context}#level1"}


def _canvas_3(name: str, **body: Any) -> dict[str, Any]:
    painted: dict[str, Any] = {
        "type": "Annotation",
        "motivation": "painting",
        "target": f"canvas/{name}",
    }
    painted["body"] = {"id": f"{{site}}/ok/{name}/full/max/0/default.jpg", "type": "Image", **body}
    return {
        "id": f"{{site}}/canvas/{name}",
        "type": "Canvas",
        "width": 2 * WIDTH,
        "height": 3 * HEIGHT,
        "items": [{"type": "AnnotationPage", "items": [painted]}],
    }


MANIFESTS: dict[str, Any] = {
    "/v3/manifest": {
        "@context": "http://iiif.io/api/presentation/3/context.json",
        "id": "{site}/v3/manifest",
        "type": "Manifest",
        "items": [
            _canvas_3("p1.tif", service=[{"type": "AuthCookieService1"}, _service("p1.tif", 3)]),
            _canvas_3("p2"),
            {"id": "{site}/canvas/none", "type": "Canvas", "items": []},
            _canvas_3("gone", id="{site}/nowhere/full/max/0/default.jpg"),
        ],
    },
    "/v2/manifest.json": {
        "@context": "http://iiif.io/api/presentation/2/context.json",
        "@id": "{site}/v2/manifest.json",
        "@type": "sc:Manifest",
        "sequences": [
            {
                "canvases": [
                    {
                        "@id": "{site}/canvas/1",
                        "@type": "sc:Canvas",
                        "width": WIDTH,
                        "height": HEIGHT,
                        "images": [
                            {
                                "@type": "oa:Annotation",
                                "resource": {
                                    "@id": "{site}/ok/q1/full/full/0/default.jpg",
                                    "@type": "dctypes:Image",
                                    "service": _service("q1", 2),
                                },
                            }
                        ],
                    }
                ]
            }
        ],
    },
    "/collection": {"type": "Collection", "items": [{"id": "m1", "type": "Manifest"}]},
    "/other": {"hello": 1},
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("KKANJI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "MIN_INTERVAL_S", 0.0)
    _Site.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each wait would have been; none is waited for."""
    waits: list[float] = []
    monkeypatch.setattr(fetch, "SLEEP", waits.append)
    return waits


def _opened(page: ImageInput) -> str:
    """What comes of a page: `ok`, or its error."""
    from kkanji_jax.glyphs.image_files import load_picture

    if page.error:
        return page.error
    try:
        return "ok" if load_picture(page.source()).shape == (HEIGHT, WIDTH) else "another size"
    except (ValueError, OSError) as err:
        assert "\n" not in str(err)
        return str(err)


def test_a_manifest_of_version_3_is_a_page_for_each_canvas(site: str):
    pages = list(find_images([f"{site}/v3/manifest"]))
    assert [page.path for page in pages] == [
        f"{site}/canvas/{name}" for name in ("p1.tif", "p2", "none", "gone")
    ]
    assert [_opened(page) for page in pages] == [
        "ok",
        "ok",
        "this canvas has no image",
        f"{site}/nowhere/full/max/0/default.jpg: 404 Not Found",
    ]
    assert _Site.asked["/ok/p1.tif/full/max/0/default.jpg"] == 1


def test_a_manifest_of_version_2_asks_its_service_as_version_2_does(site: str):
    (page,) = find_images([f"{site}/v2/manifest.json"])
    assert page.path == f"{site}/canvas/1" and _opened(page) == "ok"
    assert _Site.asked["/ok/q1/full/full/0/default.jpg"] == 1


def test_a_manifest_may_be_a_file(site: str, tmp_path: Path):
    text = json.dumps(MANIFESTS["/v3/manifest"]).replace("{site}", site)
    (tmp_path / "m.json").write_text(text)
    assert _opened(next(find_images([str(tmp_path / "m.json")]))) == "ok"


def test_a_list_keeps_its_ids_and_may_be_relative_to_a_base(site: str, tmp_path: Path):
    lines = [
        f"{site}/ok/a/full/full/0/default.jpg",
        "ok/b%2Fc/10,20,30,40/max/0/default.jpg",
        "# a remark",
        "ok/d",
        "ok/e/info.json",
        "ok/plain.jpg",
    ]
    (tmp_path / "list.txt").write_text("\n".join(["", *lines, ""]))
    pages = list(find_images([str(tmp_path / "list.txt")], base_url=f"{site}/"))
    assert [page.path for page in pages] == [line for line in lines if line[0] != "#"]
    assert [_opened(page) for page in pages] == ["ok"] * 5
    assert _Site.asked["/ok/b%2Fc/10,20,30,40/max/0/default.jpg"] == 1
    (tmp_path / "list.json").write_text(json.dumps(lines[1:2]))
    (page,) = find_images([str(tmp_path / "list.json")])
    assert "expected an address of http:// or https://, or --base-url" in page.error


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no addresses in"),
        ("{", "expected JSON of IIIF"),
        ("[1]", "expected a IIIF manifest or a list of addresses"),
        ('{"type": "Manifest", "items": []}', "a manifest without canvases"),
        ('{"a": 1}', "expected a IIIF manifest or an image's info.json"),
        ('{"type": "Collection", "items": null}', "a collection, expected one of its manifests"),
    ],
)
def test_a_file_that_is_no_list_is_one_row_with_its_error(
    content: str, expected: str, tmp_path: Path
):
    (tmp_path / "list.json").write_text(content)
    (page,) = find_images([str(tmp_path / "list.json")])
    assert expected in page.error and "list.json" in page.error


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/collection", "a collection, expected one of its manifests, as m1"),
        ("/other", "expected a IIIF manifest or an image's info.json"),
        ("/gone", "404 Not Found"),
        ("/html", "expected an image, got text/html"),
        ("/loop/manifest", "more than 10 redirects"),
        ("/away", "unsupported protocol"),
    ],
)
def test_an_address_that_is_no_manifest_is_one_row_with_its_error(
    path: str, expected: str, site: str, slept: list[float]
):
    (page,) = find_images([site + path])
    assert expected in page.error and page.path == site + path


@pytest.mark.parametrize(
    ("place", "waits"),
    [("twice", [1.0, 2.0]), ("patience", [7.0]), ("cut", [1.0]), ("slow/once", [1.0])],
)
def test_what_may_pass_is_asked_for_again(
    place: str,
    waits: list[float],
    site: str,
    slept: list[float],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(fetch, "READ_S", 0.3)
    (page,) = find_images([f"{site}/{place}/full/max/0/default.jpg"])
    assert _opened(page) == "ok" and slept == waits


def test_a_date_to_come_again_is_waited_for(site: str, slept: list[float]):
    (page,) = find_images([f"{site}/date/full/max/0/default.jpg"])
    assert _opened(page) == "ok"
    assert len(slept) == 1 and 15 < slept[0] <= 21


@pytest.mark.parametrize(
    ("place", "expected", "times"),
    [
        ("broken", "500 Internal Server Error, 5 times", 5),
        ("never", "429 Too Many Requests, and asks to wait 86400 s: try again later", 1),
        ("cut/always", "the connection failed", 5),
        ("slow/always", "no answer in time, 5 times", 5),
        ("nowhere", "404 Not Found", 1),
        ("loop", "more than 10 redirects", 11),
        ("html", "expected an image, got text/html", 1),
        ("lie", "expected an image (PNG, JPEG", 1),
        ("damaged", "the image is damaged or cut short", 1),
        ("empty", "an empty answer", 1),
        ("huge", "5,000 bytes, expected at most 4,500", 1),
    ],
)
def test_what_does_not_pass_is_one_error_among_others(
    place: str,
    expected: str,
    times: int,
    site: str,
    slept: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(fetch, "READ_S", 0.3)
    if place == "huge":
        monkeypatch.setattr(fetch, "MAX_BYTES", 4_500)
    bad, good = f"/{place}/full/max/0/default.jpg", "/twice/full/max/0/default.jpg"
    (tmp_path / "list.txt").write_text(f"{site}{bad}\n{site}{good}\n")
    told = [_opened(page) for page in find_images([str(tmp_path / "list.txt")])]
    assert expected in told[0] and site + bad in told[0]
    assert place == "huge" or told[1] == "ok"
    assert _Site.asked[bad] == times


def test_a_server_that_is_not_there_is_an_error(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetch, "MIN_INTERVAL_S", 0.0)
    (page,) = find_images(["http://127.0.0.1:9/full/max/0/default.jpg"])
    assert "the connection failed" in _opened(page) and len(slept) == 4


def test_images_are_kept_and_not_asked_for_again(site: str, tmp_path: Path):
    url = f"{site}/ok/a/full/max/0/default.jpg"
    for _ in range(2):
        (page,) = find_images([url])
        assert _opened(page) == "ok"
    assert _Site.asked["/ok/a/full/max/0/default.jpg"] == 1
    assert len(list((tmp_path / "cache" / "iiif").iterdir())) == 2


def test_a_cache_that_was_cut_short_is_not_believed(site: str, tmp_path: Path):
    url = f"{site}/ok/a/full/max/0/default.jpg"
    assert _opened(next(find_images([url]))) == "ok"
    (kept,) = (p for p in (tmp_path / "cache" / "iiif").iterdir() if p.suffix != ".json")
    kept.write_bytes(JPEG[:100])
    assert _opened(next(find_images([url]))) == "ok"
    assert _Site.asked["/ok/a/full/max/0/default.jpg"] == 2


@pytest.mark.parametrize("about", ["{}", "[]", "7", "null", '"text"', '{"asked": "URL"}', "{"])
def test_an_entry_of_the_cache_that_lacks_something_is_not_believed(about: str, tmp_path: Path):
    fetcher = fetch.Fetcher(tmp_path, "a test")
    kept = fetch.Fetched("http://a/1", "image/jpeg", JPEG)
    fetcher.keep("http://a/1", kept)
    (entry,) = tmp_path.glob("*.json")
    entry.write_text(about.replace("URL", "http://a/1"))
    assert fetcher.kept("http://a/1") is None
    fetcher.keep("http://a/1", kept)
    assert fetcher.kept("http://a/1") == kept


def test_nothing_is_kept_if_the_cache_is_off(site: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KKANJI_CACHE", "off")
    for _ in range(2):
        assert _opened(next(find_images([f"{site}/ok/a/full/max/0/default.jpg"]))) == "ok"
    assert _Site.asked["/ok/a/full/max/0/default.jpg"] == 2


def test_the_cache_lets_go_of_what_was_not_used_for_longest(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetch, "MAX_CACHE_BYTES", int(2.5 * len(JPEG)))
    for name in "abacd":  # a is used again, so b goes first
        assert _opened(next(find_images([f"{site}/ok/{name}/full/max/0/default.jpg"]))) == "ok"
        time.sleep(0.02)
    before = sum(_Site.asked.values())
    for name in "cd":
        assert _opened(next(find_images([f"{site}/ok/{name}/full/max/0/default.jpg"]))) == "ok"
    assert sum(_Site.asked.values()) == before
    assert len(list((tmp_path / "cache" / "iiif").glob("*.json"))) == 2


def test_a_server_is_asked_no_oftener_than_twice_a_second(
    site: str, slept: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetch, "MIN_INTERVAL_S", 0.5)
    pages = list(find_images([f"{site}/ok/{n}/full/max/0/default.jpg" for n in "abc"]))
    assert [_opened(page) for page in pages] == ["ok"] * 3
    assert len(slept) == 2 and all(0 < wait_s <= 1.0 for wait_s in slept)


def test_a_clock_that_is_set_back_keeps_nobody_waiting(
    site: str, slept: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetch, "MIN_INTERVAL_S", 0.5)
    first, second = find_images([f"{site}/ok/{n}/full/max/0/default.jpg" for n in "ab"])
    assert _opened(first) == "ok"
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    assert _opened(second) == "ok"
    assert all(wait_s <= 0.5 for wait_s in slept)


def test_boxes_find_their_page_by_any_of_its_names_and_scale_with_its_canvas(site: str):
    (page,) = list(find_images([f"{site}/v3/manifest"]))[:1]
    names = [
        f"{site}/canvas/p1.tif",
        f"{site}/ok/p1.tif",
        f"{site}/ok/p1.tif/full/max/0/default.jpg",
        "p1.tif",
        "p1",
    ]
    boxes = [Box(20, 30, 40, 60, str(number), name) for number, name in enumerate(names)]
    stray = Box(20, 30, 40, 60, "stray", "default.jpg")
    *found, last = crops_of([page], [*boxes, stray])
    assert [item.id for item in found] == ["0", "1", "2", "3", "4"]
    assert {item.path for item in found} == {f"{site}/canvas/p1.tif"}
    assert found[0].box == (10, 10, 20, 20)  # the canvas has twice the width, thrice the height
    assert [item.box for item in found[1:]] == [(20, 30, 40, 60)] * 4
    assert "not among those given" in last.error


def test_without_httpx_an_address_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
):
    import sys

    monkeypatch.setitem(sys.modules, "httpx", None)
    (page,) = find_images(["https://example.org/manifest"])
    assert 'pip install "kkanji_jax[iiif]"' in page.error


@pytest.mark.parametrize(
    "items", [None, "http://a", ["http://a"], [{"items": 3}], [{"items": [7]}]]
)
def test_a_canvas_of_another_form_has_no_image_and_the_others_come(items: Any, tmp_path: Path):
    good = {"items": [{"items": [{"body": {"type": "Image", "id": "http://a/1.jpg"}}]}]}
    canvases = [{"id": "http://a/c1", "items": items}, {"id": "http://a/c2"} | good]
    (tmp_path / "m.json").write_text(json.dumps({"type": "Manifest", "items": canvases}))
    first, second = find_images([str(tmp_path / "m.json")])
    assert (first.path, first.error) == ("http://a/c1", "this canvas has no image")
    assert (second.path, second.error) == ("http://a/c2", "")


def test_an_address_that_cannot_be_used_is_one_error_among_others(site: str, tmp_path: Path):
    bad, good = "http://host:port/page", f"{site}/twice/full/max/0/default.jpg"
    (tmp_path / "list.txt").write_text(f"{bad}\n{good}\n")
    first, second = find_images([str(tmp_path / "list.txt")])
    assert "Invalid port" in first.error and first.path == bad
    assert second.path == good and not second.error


def test_a_list_that_is_too_long_is_refused_and_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(finding, "MAX_INPUT_BYTES", 20)
    (tmp_path / "list.txt").write_text("http://a/1.jpg\nhttp://a/2.jpg\n")
    (page,) = find_images([str(tmp_path / "list.txt")])
    assert "expected at most 20 bytes" in page.error


def test_a_file_that_another_process_removes_does_not_stop_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(b"x" * 100)
    scandir = fetch.os.scandir

    @contextlib.contextmanager
    def remove_one(folder: Path):
        with scandir(folder) as entries:
            listed = list(entries)
        (tmp_path / "first").unlink()
        yield listed

    monkeypatch.setattr(fetch.os, "scandir", remove_one)
    fetch._shrink(tmp_path, 50)
    assert os.listdir(tmp_path) == []


def test_an_image_that_pillow_refuses_by_an_oserror_is_one_error_among_others(tmp_path: Path):
    class Site(fetch.Fetcher):
        def get(self, url: str) -> fetch.Fetched:
            head = b"BM" + bytes(12) + (99).to_bytes(4, "little")  # no header of BMP is 99 bytes
            return fetch.Fetched(url, "image/bmp", head + bytes(200))

    content = b"http://a/1\nhttp://a/2\n"
    pages = list(iiif.pages_of_list(content, "list.txt", "", Site(None, "test")))
    assert [page.id for page in pages] == ["http://a/1", "http://a/2"]
    assert all(f"{page.id} is damaged: Unsupported BMP" in page.error for page in pages)


def test_what_another_user_keeps_in_a_shared_cache_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    fetcher = fetch.Fetcher(tmp_path, "test")
    kept = fetch.Fetched("http://a/1", "image/jpeg", JPEG)
    fetcher.keep("http://a/1", kept)
    monkeypatch.setattr(fetch.os, "utime", refuse)
    assert fetcher.kept("http://a/1") == kept
