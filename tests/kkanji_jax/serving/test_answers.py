"""The rows of a server are those of predict, to the byte; and the page and its description."""

import base64
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.predict import main as predict

from .conftest import ServerProcess, encoded, picture

Told = Callable[..., bytes]
DOCS = Path(__file__).resolve().parents[3] / "docs" / "serving.md"
needs_docs = pytest.mark.skipif(not DOCS.is_file(), reason="the documentation is not beside")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of every kind: good ones, without ink, unclear, deep, turned, and none at all."""
    folder = tmp_path_factory.mktemp("images")
    for seed in range(4):
        picture(seed).save(folder / f"good{seed}.png")
    picture(4).save(folder / "turned.jpg", exif=_turned())
    Image.new("L", (90, 90), 220).save(folder / "blank.png")
    noise = np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    deep = np.asarray(picture(5).convert("L")).astype(np.uint16) * 16
    Image.fromarray(deep).save(folder / "twelve_bits.png")
    glyph = Image.new("L", (64, 64))
    glyph.paste(255, (2, 28, 62, 36))
    glyph.save(folder / "くずし字 一.png")
    cut = encoded(picture(6))
    (folder / "cut.png").write_bytes(cut[: len(cut) // 2])
    (folder / "text.png").write_text("no image")
    frames = [picture(seed) for seed in (7, 8)]
    frames[0].save(folder / "frames.tif", save_all=True, append_images=frames[1:])
    _page().save(folder / "page.png")
    return folder


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _page() -> Image.Image:
    page = Image.new("RGB", (700, 500), (226, 214, 190))
    for number in range(6):
        page.paste(picture(20 + number), (20 + 130 * (number % 5), 20 + 200 * (number // 5)))
    return page


@pytest.fixture
def told(folder: Path, tmp_path: Path, recogniser, monkeypatch: pytest.MonkeyPatch) -> Told:
    """What predict writes of files of the folder, called by their names alone."""
    monkeypatch.chdir(folder)
    # It would load the same model each time.
    monkeypatch.setattr("kkanji_jax.inference.recogniser.load", lambda *_, **__: recogniser)

    def call(*arguments: object, form: str = "json") -> bytes:
        out = tmp_path / "rows"
        flags = ["--backend", "onnx", "--format", form, "--out", str(out)]
        predict([*map(str, arguments), *flags])
        return out.read_bytes()

    return call


def form_of(folder: Path, names: Sequence[str]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (name, (folder / name).read_bytes())) for name in names]


ALL = (
    "good0.png good1.png turned.jpg blank.png noise.png twelve_bits.png cut.png text.png "
    "frames.tif page.png"
).split() + ["くずし字 一.png"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top-k": 2},
        {"top-k": 3, "chars": "kana"},
        {"min-probability": 0.3},
        {"invert": "yes"},
        {"orient": "auto", "top-k": 2},
        {"format": "csv"},
        {"format": "jsonl", "top-k": 1},
        {"format": "text"},
    ],
    ids=str,
)
def test_several_files_get_the_rows_of_predict(
    server: ServerProcess, folder: Path, told: Told, options: dict
):
    flags = [w for k, v in options.items() if k != "format" for w in (f"--{k}", v)]
    expected = told(*ALL, *flags, form=options.get("format", "json"))
    with server.client() as client:
        answer = client.post("/predict", params=options, files=form_of(folder, ALL))
    assert answer.status_code == 200, answer.text
    assert answer.content == expected
    assert b"error" in expected and b"blank" in expected


def test_listed_characters_are_those_of_a_file_and_lacking_ones_are_named(
    server: ServerProcess, folder: Path, told: Told, tmp_path: Path, capsys
):
    (tmp_path / "list.txt").write_text("一二三 U+306F\n☃", encoding="utf-8")
    expected = told("good0.png", "good1.png", "--chars", tmp_path / "list.txt")
    assert "☃" in capsys.readouterr().err
    with server.client() as client:
        answer = client.post(
            "/predict",
            params={"chars": "一二三 U+306F\n☃"},
            files=form_of(folder, ["good0.png", "good1.png"]),
        )
    assert answer.content == expected and len(answer.json()) == 8
    assert answer.headers["Kkanji-Lacking-Characters"] == "U+2603"


def test_the_header_of_lacking_characters_says_how_many_it_leaves_out(
    server: ServerProcess, folder: Path
):
    good = (folder / "good0.png").read_bytes()
    hangul = [chr(0xAC00 + number) for number in range(123)]
    for number, more in ((100, []), (101, ["and", "1", "more"]), (123, ["and", "23", "more"])):
        listed = {"chars": "一" + "".join(hangul[:number])}
        with server.client() as client:
            answer = client.post("/predict", params=listed, content=good)
        told = answer.headers["Kkanji-Lacking-Characters"].split()
        assert told == [f"U+{ord(c):X}" for c in hangul[: min(number, 100)]] + more
        assert [row["character"] for row in answer.json()] == ["一"]


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", None])
def test_one_body_gets_the_rows_of_standard_input(
    server: ServerProcess, folder: Path, told: Told, monkeypatch, kind: str | None
):
    content = (folder / "good2.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(content)))
    expected = told("-")
    headers = {"Content-Type": kind} if kind else {}
    with server.client() as client:
        answer = client.post("/predict", content=content, headers=headers)
    assert answer.content == expected and answer.json()[0]["path"] == "-"


BOXES = [
    {"x": 20, "y": 20, "w": 120, "h": 140, "id": "0x10"},
    {"x": 150.4, "y": 20.2, "w": 120, "h": 139.6},
    {"x": 280, "y": 20, "w": 120, "h": 140, "id": "は"},
    {"x": -40, "y": 180, "w": 200, "h": 900, "id": "over the edge"},
    {"x": 701, "y": 20, "w": 120, "h": 140, "id": "outside"},
    {"x": 20, "y": 20, "w": 0, "h": 140, "id": "empty"},
]


def test_boxes_of_a_page_get_the_rows_of_predict_with_boxes(
    server: ServerProcess, folder: Path, told: Told, tmp_path: Path
):
    lines = [",".join(str(box.get(key, "")) for key in ("x", "y", "w", "h", "id")) for box in BOXES]
    (tmp_path / "boxes.csv").write_text("\n".join(["x,y,w,h,id", *lines]), encoding="utf-8")
    expected = told("page.png", "--boxes", tmp_path / "boxes.csv", "--top-k", 2)
    content = base64.encodebytes((folder / "page.png").read_bytes()).decode()  # with line ends
    posted = {"images": [{"path": "page.png", "content": content, "boxes": BOXES}]}
    with server.client() as client:
        answer = client.post("/predict?top-k=2", json=posted)
    assert answer.content == expected
    errors = {row["id"]: row["error"] for row in answer.json() if row["error"]}
    assert errors.keys() == {"outside", "empty"}


def test_a_page_and_images_in_one_request_keep_their_order(
    server: ServerProcess, folder: Path, told: Told
):
    def posted(name: str) -> dict:
        return {"content": base64.b64encode((folder / name).read_bytes()).decode()}

    page = posted("page.png") | {"path": "p", "boxes": BOXES[:2]}
    unboxed = posted("text.png") | {"path": "u", "boxes": []}
    images = [posted("good0.png"), page, posted("text.png"), posted("good1.png"), unboxed]
    body = {"images": images}
    with server.client() as client:
        rows = client.post("/predict?top-k=1", json=body).json()
    assert [row["path"] for row in rows] == ["1", "p", "p", "3", "4", "u"]
    assert rows[5]["error"] == "`boxes` is empty: leave it out to read the image as one character"
    alone = json.loads(told("good0.png", "good1.png", "--top-k", 1))
    seen = [(row["codepoint"], row["probability"]) for row in (rows[0], rows[4])]
    assert seen == [(row["codepoint"], row["probability"]) for row in alone]
    assert "cannot read 3" in rows[3]["error"]


def test_the_page_is_the_one_that_export_writes(server: ServerProcess, tmp_path: Path):
    from kkanji_jax.saved.bundle import read_bundle
    from kkanji_jax.saved.trained import PRETRAINED
    from kkanji_jax.web.web_page import write_web

    bundle, out = read_bundle(PRETRAINED), tmp_path / "web"
    write_web(out, bundle, params=PRETRAINED / "params.npz", dtype=bundle.about["dtype"])
    names = sorted(path.name for path in out.iterdir())
    assert {"index.html", "app.js", "model.json", "params.npz", "kernels.wasm"} <= set(names)
    with server.client() as client:
        for name in names:
            answer = client.get(f"/{name}")
            assert answer.status_code == 200 and answer.content == (out / name).read_bytes(), name
        assert client.get("/").content == (out / "index.html").read_bytes()
        assert client.get("/kernels.wasm").headers["Content-Type"] == "application/wasm"


def test_the_page_has_no_calibration_of_other_weights(tmp_path: Path):
    from kkanji_jax.files import write_sums
    from kkanji_jax.saved.trained import PRETRAINED
    from kkanji_jax.serving.web_page_routes import page_routes

    def calibration_of(model: Path) -> Any:
        route: Any = page_routes(model)[0]
        return json.loads(route.endpoint(None).body)["calibration"]

    copy = Path(shutil.copytree(PRETRAINED, tmp_path / "copy"))
    content = json.loads((copy / "calibration.json").read_text())
    content["fitted_on"]["checkpoint_step"] = 1
    (copy / "calibration.json").write_text(json.dumps(content))
    write_sums(copy)
    assert calibration_of(copy) is None and calibration_of(PRETRAINED) is not None


def test_a_browser_keeps_the_page_and_asks_whether_it_is_still_the_same(server: ServerProcess):
    with server.client() as client:
        for name in ("", "app.js", "worker.js", "kernels.wasm", "model.json", "params.npz"):
            whole = client.get(f"/{name}")
            assert whole.headers["Cache-Control"] == "no-cache", name
            if name != "model.json":
                kept = {"If-None-Match": whole.headers["ETag"]}
                again = client.get(f"/{name}", headers=kept)
                assert (again.status_code, again.content) == (304, b""), name
                assert again.headers["Cache-Control"] == "no-cache", name
                assert client.get(f"/{name}", headers={"If-None-Match": '"x"'}).status_code == 200


def test_every_path_that_can_be_read_answers_head(server: ServerProcess):
    with server.client() as client:
        for path in ("/health", "/metrics", "/docs", "/openapi.json", "/", "/model.json"):
            read, head = client.get(path), client.head(path)
            assert head.status_code == read.status_code == 200, path
            assert (
                head.content == b"" and head.headers["Content-Type"] == read.headers["Content-Type"]
            )
        assert client.head("/predict").status_code == 405
        assert "head" not in client.get("/openapi.json").json()["paths"]["/health"]


def test_the_description_names_every_option_and_loads_nothing_from_elsewhere(
    server: ServerProcess,
):
    with server.client() as client:
        docs, openapi = client.get("/docs").text, client.get("/openapi.json").json()
    operation = openapi["paths"]["/predict"]["post"]
    names = [option["name"] for option in operation["parameters"]]
    assert names == ["top-k", "chars", "min-probability", "invert", "orient", "format"]
    for told in (*names, "20,000,000", "image/*", "multipart/form-data", "Retry-After"):
        assert told in docs, told
    assert "http://" not in docs.replace("http://127.0.0.1:8000", "") and "https://" not in docs
    body = operation["requestBody"]["content"]
    assert set(body) == {
        "image/*",
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }
    assert "$ref" not in json.dumps(body)  # readers of the description look it up nowhere


def test_the_described_row_is_the_row(server: ServerProcess, folder: Path):
    with server.client() as client:
        (row,) = client.post("/predict?top-k=1", content=(folder / "good0.png").read_bytes()).json()
        openapi = client.get("/openapi.json").json()
    described = openapi["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    schema = described["application/json"]["schema"]["items"]
    assert list(schema["properties"]) == list(row)
    assert list(described["application/json"]["example"][0]) == list(row)


def test_health_and_metrics_tell_of_the_work(server: ServerProcess, folder: Path):
    def counts() -> list[float]:
        names = (
            'kkanji_requests_total{status="200"}',
            'kkanji_images_total{verdict="blank"}',
            'kkanji_images_total{verdict="error"}',
            "kkanji_request_seconds_count",
            "kkanji_batch_images_sum",
        )
        return [server.count(name) for name in names]

    before = counts()
    with server.client() as client:
        told = client.get("/health").json()
        assert told["status"] == "ready" and told["model"] == "b0"
        files = form_of(folder, ["good0.png", "blank.png", "text.png"])
        assert client.post("/predict", files=files).status_code == 200
    assert [a - b for a, b in zip(counts(), before, strict=True)] == [1, 1, 1, 1, 2]
    assert server.count("kkanji_queued_images") == server.count("kkanji_held_bytes") == 0


def test_requests_that_are_refused_for_their_options_are_counted(
    server: ServerProcess, folder: Path
):
    def counts() -> list[float]:
        names = ('kkanji_requests_total{status="422"}', "kkanji_request_seconds_count")
        return [server.count(name) for name in names]

    good, before = (folder / "good0.png").read_bytes(), counts()
    with server.client() as client:
        for query in ("topk=3", "top-k=0", "format=xml", "top-k=3&top-k=4", "chars=☃"):
            assert client.post(f"/predict?{query}", content=good).status_code == 422, query
        assert client.get("/predict").status_code == 405  # no request for rows
    assert [a - b for a, b in zip(counts(), before, strict=True)] == [5, 5]


@needs_docs
def test_the_example_of_the_documentation_runs(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    _page().resize((2000, 2000)).save(tmp_path / "page.jpg")
    monkeypatch.chdir(tmp_path)
    exec(code.replace("http://127.0.0.1:8000", server.url), {})
    (row,) = json.loads(capsys.readouterr().out)
    assert row["id"] == "0" and row["box"] == [1467, 1750, 114, 101] and not row["error"]


@needs_docs
def test_the_documented_limits_and_statuses_are_those_of_the_program():
    from kkanji_jax.serve import HELP
    from kkanji_jax.serving.app import ERRORS
    from kkanji_jax.serving.limits import Limits

    text = DOCS.read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for flags, values in re.findall(r"^\| (`--.*?) \| ([\d,. ]+) \|", text, re.MULTILINE):
        names = re.findall(r"--([\w-]+)", flags)
        found |= dict(zip(names, values.split(", "), strict=True))
    told = {name.replace("-", "_"): float(v.replace(",", "")) for name, v in found.items()}
    assert told == {name: getattr(Limits(), name) for name in HELP}
    statuses = {int(status) for status in re.findall(r"^\| (\d{3}) \|", text, re.MULTILINE)}
    assert statuses == {*ERRORS}
