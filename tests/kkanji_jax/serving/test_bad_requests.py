"""What cannot be answered gets its status and one line, and the server goes on."""

import base64
import json
import re
import socket
import time
import zlib
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from .conftest import ServerProcess, encoded, picture

JSON, PNG = {"Content-Type": "application/json"}, {"Content-Type": "image/png"}
GOOD = encoded(picture(1))


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def posted(**image: object) -> bytes:
    return json.dumps({"images": [{"content": base64_of(GOOD)} | image]}).encode()


def boxed(**box: object) -> bytes:
    return posted(boxes=[{"x": 1, "y": 1, "w": 50, "h": 50} | box])


def declaring(width: int, height: int) -> bytes:
    """A PNG of one pixel that says it has so many."""
    content = bytearray(encoded(Image.new("L", (1, 1))))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def form(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    made = b"".join(
        f"--x\r\nContent-Disposition: form-data; {told}\r\n\r\n".encode() + content + b"\r\n"
        for told, content in parts
    )
    return made + end


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
FILE = 'name="f"; filename="a.png"'

CASES = {
    "no body": (400, "has no body", b"", PNG, {}),
    "no image": (422, "cannot read the body", b"hello", PNG, {}),
    "a truncated image": (422, "damaged", GOOD[: len(GOOD) // 2], PNG, {}),
    "a page": (422, "looks like a page", b"page", PNG, {}),
    "a bomb": (413, "at most 16777216 pixels", declaring(40_000, 25_000), PNG, {}),
    "too many pixels": (413, "at most 16777216 pixels", declaring(5_000, 5_000), PNG, {}),
    "no pixels": (422, "the body", declaring(0, 0), PNG, {}),
    "another type": (415, "Content-Type", b"a=b", {"Content-Type": "text/plain"}, {}),
    "zipped": (415, "Content-Encoding", GOOD, PNG | {"Content-Encoding": "gzip"}, {}),
    "half JSON": (400, "Invalid JSON", b'{"images": [', JSON, {}),
    "JSON of bytes": (400, "Invalid JSON", b'\xff{"images": []}', JSON, {}),
    "deep JSON": (400, "Invalid JSON", b"[" * 100_000, JSON, {}),
    "JSON without images": (422, "images", b"{}", JSON, {}),
    "JSON that is a list": (422, "object", b"[]", JSON, {}),
    "no images": (422, "at least 1 item", b'{"images": []}', JSON, {}),
    "an unknown field": (422, "images.0.boxs", posted(boxs=[]), JSON, {}),
    "no base64": (422, "images.0.content: expected base64", posted(content="@@@"), JSON, {}),
    "cut base64": (422, "expected base64", posted(content="aGVsbG8"), JSON, {}),
    "base64 of kana": (422, "expected base64", posted(content="はは"), JSON, {}),
    "base64 of nothing": (422, "it is empty", posted(content=""), JSON, {}),
    "base64 of no image": (422, "cannot read 1", posted(content="aGVsbG8="), JSON, {}),
    "a box of NaN": (422, "images.0.boxes.0.x: Input", boxed(x=float("nan")), JSON, {}),
    "a box without end": (422, "finite", boxed(w=float("inf")), JSON, {}),
    "a box too far": (422, "1000000000", boxed(y=1e300), JSON, {}),
    "a box of words": (422, "boxes.0.h", boxed(h="tall"), JSON, {}),
    "a box of three": (422, "Field required", posted(boxes=[{"x": 1, "y": 1, "w": 1}]), JSON, {}),
    "boxes on no image": (422, "cannot read 1", boxed().replace(b"iVBOR", b"AAAAA"), JSON, {}),
    "no boxes": (422, "`boxes` is empty: leave it out to read", posted(boxes=[]), JSON, {}),
    "too many boxes": (
        413,
        "got 300",
        posted(boxes=[{"x": 0, "y": 0, "w": 9, "h": 9}] * 300),
        JSON,
        {},
    ),
    "too many pages": (
        413,
        "got 257",
        json.dumps({"images": [{"content": base64_of(GOOD), "boxes": []}] * 257}).encode(),
        JSON,
        {},
    ),
    "a large page": (
        413,
        "at most 40000000 pixels in the images",
        posted(
            content=base64_of(declaring(9_000, 9_000)), boxes=[{"x": 0, "y": 0, "w": 9, "h": 9}]
        ),
        JSON,
        {},
    ),
    "too many files": (413, "at most 256", form(*[(FILE, GOOD)] * 257), FORM, {}),
    "a form's end": (400, "before its last", form((FILE, GOOD), end=b""), FORM, {}),
    "no form": (400, "the form is damaged", b"hello", FORM, {}),
    "no boundary": (
        400,
        "without a boundary",
        form(),
        {"Content-Type": FORM["Content-Type"][:19]},
        {},
    ),
    "an empty form": (422, "no file", b"--x--\r\n", FORM, {}),
    "a field": (422, "'top-k' is none", form(('name="top-k"', b"3")), FORM, {}),
    "an unknown option": (422, "no option topk; the options are top-k", GOOD, PNG, {"topk": 3}),
    "an option twice": (422, "given 2 times", GOOD, PNG, {"top-k": ["3", "4"]}),
    "top-k 0": (422, "top-k", GOOD, PNG, {"top-k": 0}),
    "top-k 101": (422, "top-k", GOOD, PNG, {"top-k": 101}),
    "top-k many": (422, "top-k", GOOD, PNG, {"top-k": "many"}),
    "NaN": (422, "min-probability", GOOD, PNG, {"min-probability": "nan"}),
    "above 1": (422, "min-probability", GOOD, PNG, {"min-probability": "1.1"}),
    "minus infinity": (422, "min-probability", GOOD, PNG, {"min-probability": "-inf"}),
    "invert": (422, "invert", GOOD, PNG, {"invert": "perhaps"}),
    "orient": (422, "orient", GOOD, PNG, {"orient": "left"}),
    "format": (422, "format", GOOD, PNG, {"format": "xml"}),
    "chars": (422, "none of the 1 characters in chars", GOOD, PNG, {"chars": "☃"}),
    "no chars": (422, "none of the 0 characters in chars", GOOD, PNG, {"chars": ""}),
}


@pytest.fixture(scope="module")
def page() -> bytes:
    """A thousand strokes on a sheet: what predict takes for a page."""
    sheet = np.full((1200, 1000), 225, np.uint8)
    for number in range(400):
        top, left = 30 + 56 * (number // 20), 20 + 48 * (number % 20)
        sheet[top : top + 28, left : left + 20] = 40
    return encoded(Image.fromarray(sheet))


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gets_its_status_and_one_line(server: ServerProcess, page: bytes, name: str):
    status, expected, body, headers, query = CASES[name]
    body = page if body == b"page" else body
    with server.client() as client:
        answer = client.post("/predict", content=body, headers=headers, params=query)
        told = answer.json()
        assert (answer.status_code, list(told)) == (status, ["error"]), answer.text
        assert expected in told["error"] and "\n" not in told["error"]
        assert len(told["error"]) < 400, "what was sent does not come back"
        # On the same connection.
        assert client.post("/predict", content=GOOD).status_code == 200


def test_many_large_boxes_on_a_small_page_are_too_many_pixels(server: ServerProcess):
    page = base64_of(encoded(Image.new("L", (3000, 3000), 255)))
    box = {"x": 0, "y": 0, "w": 3000, "h": 3000}
    with server.client() as client:
        answer = client.post("/predict", json={"images": [{"content": page, "boxes": [box] * 5}]})
        assert answer.status_code == 413 and "in the boxes of a request" in answer.text
        images = {"images": [{"content": page}] * 5}
        answer = client.post("/predict", json=images)
        assert answer.status_code == 413 and "in the images of a request" in answer.text


def test_paths_and_methods_that_are_not_there_get_one_line(server: ServerProcess):
    with server.client() as client:
        for method in ("GET", "PUT", "OPTIONS", "TRACE"):  # the page would say: GET, HEAD
            assert client.request(method, "/predict").headers["Allow"] == "POST"
        for method, path, status in (
            ("GET", "/predict", 405),
            ("OPTIONS", "/predict", 405),
            ("PUT", "/predict", 405),
            ("GET", "/nothing", 404),
            ("POST", "/nothing", 405),
            ("GET", "/../../etc/passwd", 404),
            ("GET", "/%2e%2e/%2e%2e/pretrained/b0/config.json", 404),
        ):
            answer = client.request(method, path)
            assert answer.status_code == status and list(answer.json()) == ["error"], answer.text


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1_000_000 + 1):
        yield b"x" * 1_000_000


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(server: ServerProcess):
    with server.client() as client:
        for body in (b"x" * 20_000_001, chunks(21_000_000)):
            answer = client.post("/predict", content=body, headers=PNG)
            assert answer.status_code == 413 and "at most 20000000 bytes" in answer.text
            assert client.post("/predict", content=GOOD).status_code == 200
    assert server.count("kkanji_held_bytes") == 0


def connected(server: ServerProcess) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def test_clients_that_stall_or_go_away_disturb_nobody(server: ServerProcess):
    declared = f"Content-Length: {len(GOOD)}\r\n\r\n".encode()
    before = server.count('kkanji_requests_total{status="499"}')
    sockets = []
    for sent in (b"", b"POST /pre", HEAD, HEAD + declared, HEAD + declared + GOOD[:100]) * 10:
        sockets.append(connected(server))
        sockets[-1].sendall(sent)
    with server.client() as client:
        assert client.post("/predict", content=GOOD).status_code == 200
    for each in sockets:
        each.close()
    end = time.monotonic() + 60
    while server.count('kkanji_requests_total{status="499"}') < before + 20:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.count("kkanji_held_bytes") == 0


def test_a_client_that_leaves_before_its_answer_leaves_nothing_behind(server: ServerProcess):
    before = server.count("kkanji_request_seconds_count")
    for _ in range(10):
        with connected(server) as each:
            each.sendall(HEAD + f"Content-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
    end = time.monotonic() + 60
    while server.count("kkanji_request_seconds_count") < before + 10:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.count("kkanji_queued_images") == server.count("kkanji_held_bytes") == 0


def received(each: socket.socket) -> bytes:
    """Everything until the server closes."""
    content = b""
    while chunk := each.recv(65536):
        content += chunk
    return content


def test_a_body_that_does_not_come_is_not_waited_for(start):
    server = start("--body-timeout-s", 1).started()
    with connected(server) as each:
        each.sendall(HEAD + b"Content-Length: 1000\r\n\r\nsome")
        told = received(each)
    assert told.startswith(b"HTTP/1.1 408 ") and b"expected the whole body within 1 s" in told
    server.stop_without_a_word()


def test_a_head_that_does_not_come_is_not_waited_for(server: ServerProcess):
    waiting = [connected(server) for _ in range(2)]
    waiting[1].sendall(b"POST /predict HT")
    began_s = time.monotonic()
    time.sleep(4)
    waiting[1].sendall(b"TP/1.1\r\n")  # the time does not begin anew
    assert [received(each) for each in waiting] == [b"", b""]
    assert 8 < time.monotonic() - began_s < 60
    for each in waiting:
        each.close()


def test_what_is_no_http_is_refused(server: ServerProcess):
    with connected(server) as each:
        each.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert_is_no_request(received(each))


def assert_is_no_request(told: bytes) -> None:
    head, _, content = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/json" in head, told
    assert "at most 65536 bytes" in json.loads(content)["error"]


def test_a_head_that_is_too_long_is_refused_in_words(server: ServerProcess):
    with connected(server) as each:
        each.sendall(b"POST /predict?chars=" + b"%E6%98%A5" * 7000)
        time.sleep(0.2)
        each.sendall(b"%E6%98%A5" * 400)
        assert_is_no_request(received(each))


def test_names_of_files_in_japanese_come_back_however_the_client_writes_them(
    server: ServerProcess,
):
    quoted = "%E8%A1%A8%20%E7%B4%99.png"
    plain, extended = 'filename="表 紙.png"', f"filename*=utf-8''{quoted}"
    with server.client() as client:
        for told in (
            plain,
            extended,
            f"{plain}; filename*=UTF-8'ja'x",
            f"FileName*=UTF-8''{quoted}",
        ):
            body = form((f'name="f"; {told}', GOOD))
            answer = client.post("/predict?top-k=1", content=body, headers=FORM)
            assert [row["path"] for row in answer.json()] == ["表 紙.png"], answer.text


def test_json_may_begin_with_a_byte_order_mark(server: ServerProcess):
    with server.client() as client:
        marked = client.post("/predict", content=b"\xef\xbb\xbf" + posted(), headers=JSON)
        plain = client.post("/predict", content=posted(), headers=JSON)
        assert marked.status_code == 200 and marked.content == plain.content


def test_a_file_s_name_is_no_path_of_the_server(server: ServerProcess):
    with server.client() as client:
        for name in ("/etc/passwd", "../../secret.png", "http://127.0.0.1/x.png", "a\x00b.png"):
            answer = client.post(
                "/predict", json={"images": [{"path": name, "content": base64_of(b"no image")}] * 2}
            )
            assert [row["path"] for row in answer.json()] == [name] * 2
            assert all("cannot read" in row["error"] for row in answer.json())


def test_scripts_of_other_origins_may_ask_only_where_they_are_allowed(server: ServerProcess, start):
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    with server.client() as client:
        assert (
            "Access-Control-Allow-Origin" not in client.options("/predict", headers=asked).headers
        )
        told = client.post("/predict", content=GOOD, headers=asked)
        assert "Access-Control-Allow-Origin" not in told.headers
    open_server = start("--allow-origin", "https://example.org", "--max-bytes", 5000).started()
    with open_server.client() as client:
        assert client.options("/predict", headers=asked).status_code == 200
        for body, status in ((GOOD, 200), (b"x" * 5001, 413)):
            told = client.post("/predict", content=body, headers=asked)
            assert told.status_code == status
            assert told.headers["Access-Control-Allow-Origin"] == "https://example.org"
        others = asked | {"Origin": "https://example.com"}
        told = client.post("/predict", content=GOOD, headers=others)
        assert "Access-Control-Allow-Origin" not in told.headers
    open_server.stop_without_a_word()


DAMAGES = [
    (form_name, kind, seed)
    for form_name in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF")
    for kind in ("cut", "changed")
    for seed in range(8)
]


def test_damaged_files_of_every_format_are_answered(server: ServerProcess):
    files = []
    for form_name, kind, seed in DAMAGES:
        rng = np.random.default_rng(seed)
        content = bytearray(encoded(picture(seed), form_name))
        if kind == "cut":
            content = content[: int(rng.integers(1, len(content)))]
        else:
            for place in rng.integers(0, min(len(content), 400), 6).tolist():
                content[place] = int(rng.integers(256))
        files.append(("f", (f"{form_name}-{kind}-{seed}", bytes(content))))
    with server.client() as client:
        answers = [client.post("/predict?top-k=1", files=[file]) for file in files]
        assert {answer.status_code for answer in answers} <= {200, 413, 422}
        told = [answer.json() for answer in answers]
        together = [
            file for file, one in zip(files, answers, strict=True) if one.status_code != 413
        ]
        rows = client.post("/predict?top-k=1", files=together).json()
    assert len(rows) == len(together)
    errors = {row["path"]: row["error"] for row in rows if row["error"]}
    alone = {
        file[1][0]: one["error"]
        for file, one, answer in zip(files, told, answers, strict=True)
        if answer.status_code == 422
    }
    addresses = re.compile(r"0x[0-9a-f]+")  # Pillow names streams by theirs
    assert {n: addresses.sub("", e) for n, e in errors.items()} == {
        n: addresses.sub("", e) for n, e in alone.items()
    }
    assert errors and len(errors) < len(rows)


def test_httpx_is_refused_in_words_and_not_by_a_reset(server: ServerProcess):
    """A client that sends all before it listens hears why it was refused."""
    for _ in range(5):
        answer = httpx.post(f"{server.url}/predict", content=b"x" * 30_000_000, timeout=60)
        assert answer.status_code == 413
