"""The page and the description of a server, in a browser."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "kkanji_jax.serve", "--port", "0"]
        server = subprocess.Popen(command, cwd=ROOT, stderr=file)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r"on (http://\S+)\n", log.read_text())):
            assert server.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield f"{found[1]}/"
    finally:
        server.kill()
        server.wait()


def requests_of(page) -> set[str]:
    return {event["request"]["url"] for event in page.events("Network.requestWillBeSent")}


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_reads_a_drawn_stroke_and_asks_nobody_else(url: str, open_page, width: int):
    page = open_page(url, width)
    page.wait_for("document.readyState === 'complete'")
    page.wait_for("!document.body.innerText.includes('Loading the model')")
    place = page.place_of("canvas")
    left, top, side = place["x"], place["y"], place["width"]
    page.drag([(left + side * (0.15 + 0.07 * step), top + side / 2) for step in range(11)])
    page.wait_for("document.body.innerText.includes('U+4E00')")
    assert page.events("Log.entryAdded") == []
    assert all(each.startswith((url, "blob:", "data:")) for each in requests_of(page))
    page.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_the_description_reads_files_and_fits_the_window(
    url: str, open_page, width: int, tiny_source: Path
):
    page = open_page(f"{url}docs", width)
    page.wait_for("document.readyState === 'complete' && document.getElementById('files')")
    files = sorted((tiny_source / "kkanji2" / "U+6625").iterdir())[:2]
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    chosen = page.send("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    page.send("DOM.setFileInputFiles", nodeId=chosen, files=[str(file) for file in files])
    page.wait_for("document.getElementById('rows').textContent.includes('U+')")
    rows = page.ask("document.getElementById('rows').textContent").splitlines()
    assert len(rows) == 10 and {row.split("\t")[0] for row in rows} == {f.name for f in files}
    assert page.ask("document.documentElement.scrollWidth") <= width
    assert page.ask("document.querySelector('.origin').textContent") == url.removesuffix("/")
    assert page.events("Log.entryAdded") == [], json.dumps(page.events("Log.entryAdded"))
    assert all(each.startswith(url) for each in requests_of(page))
    page.close()
