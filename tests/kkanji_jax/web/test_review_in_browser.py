"""Readings are corrected in a browser, and the corrections are labels for evaluate and build."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_tools import build
from kkanji_jax import evaluate, predict

pytestmark = pytest.mark.slow
SHOWN = "document.readyState === 'complete' && document.querySelector('.card')"
DONE = "Number(document.getElementById('done').textContent)"


class Work:
    """A folder of unlabelled crops and a page with boxes, and the sheet of their readings."""

    def __init__(self, folder: Path, tiny_run) -> None:
        self.folder, self.model = folder, str(tiny_run.workdir)
        files = sorted(tiny_run.source.rglob("*.png"))[::18]  # 8 of 6 characters
        self.truth = {}
        (folder / "scans").mkdir(parents=True)
        page = Image.new("L", (100 * len(files[:3]), 100), 0)
        boxes = ["id,x,y,w,h"]
        for number, file in enumerate(files[:3]):
            page.paste(Image.open(file), (100 * number + 18, 18))
            boxes.append(f"=b{number},{100 * number},0,100,100")
            self.truth[f"scans/page.png#{100 * number} 0 100 100"] = file.parent.name
        page.save(folder / "scans" / "page.png")
        (folder / "boxes.csv").write_text("\n".join(boxes))
        for number, file in enumerate(files[3:]):
            name = f"scans/=c {number}, x.png"
            (folder / name).write_bytes(file.read_bytes())
            self.truth[name] = file.parent.name
        self.sheet = folder / "review.html"

    def read(self, *more: str) -> None:
        flags = ["--model", self.model, "--backend", "onnx", "--review", str(self.sheet)]
        assert predict.main([*more, *flags]) == 0


@pytest.fixture
def crops(tmp_path: Path, tiny_run) -> Work:
    work = Work(tmp_path / "work", tiny_run)
    work.read(*sorted(str(path) for path in work.folder.glob("scans/=c*")))
    return work


@pytest.fixture
def boxes(tmp_path: Path, tiny_run) -> Work:
    work = Work(tmp_path / "work", tiny_run)
    work.read(str(work.folder / "scans/page.png"), "--boxes", str(work.folder / "boxes.csv"))
    return work


def opened(open_page: Callable[..., Any], sheet: Path, width: int = 1440) -> Any:
    """The sheet in a tab of its own, without what tests before have decided on."""
    page = open_page(sheet.as_uri(), width)
    page.wait_for(SHOWN)
    page.ask("localStorage.clear()")
    reload(page)
    return page


def reload(page) -> None:
    page.ask("window.isOld = true; location.reload()")
    page.wait_for(f"!window.isOld && {SHOWN}")
    page.ask("document.querySelector('.pick').focus()")


def press(page, *keys: str) -> None:
    for key in keys:
        for kind in ("rawKeyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key=key)


def click(page, selector: str) -> None:
    """Clicks the middle of an element as a hand would."""
    place = page.place_of(selector)
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    for kind in ("mousePressed", "mouseReleased"):
        page.send(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
        )


def name_of(item: dict[str, Any]) -> str:
    return item["path"] + (f"#{item['box']}" if item["box"] else "")


def correct_all(page, truth: dict[str, str]) -> None:
    """Decides on every image as a reader would who knows them, by keys alone."""
    items = json.loads(page.ask("document.getElementById('data').textContent"))
    for _ in range(len(items)):
        number = page.ask("groups[state.group].members[state.card]")
        item = items[number]
        wanted = chr(int(truth[name_of(item)][2:], 16))
        among = [character for character, _ in item["candidates"]]
        if wanted == among[0]:
            press(page, "Enter")
        elif wanted in among:
            press(page, str(among.index(wanted) + 1))
        else:
            press(page, "c")
            page.send("Input.insertText", text=wanted)
            page.ask("document.getElementById('write').requestSubmit()")


def saved(page, folder: Path) -> list[dict[str, str]]:
    """Saves the table beside the sheet, as a reader would who moves it there."""
    got = folder / "labels.csv"
    page.browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.ask("document.getElementById('save').click()")
    for _ in range(200):
        # Chromium holds the name with an empty file until all of the download is there.
        if got.exists() and got.stat().st_size:
            break
        page.ask("new Promise((done) => setTimeout(done, 50))")
    with got.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def assert_no_errors(page) -> None:
    assert not page.events("Runtime.exceptionThrown") and not page.events("Log.entryAdded")
    asked = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked


def test_crops_are_corrected_by_keys_and_go_to_evaluate_and_build(
    crops: Work, open_page, tmp_path: Path
):
    page = opened(open_page, crops.sheet)
    correct_all(page, crops.truth)
    assert page.ask(DONE) == 5
    rows = saved(page, crops.folder)
    assert_no_errors(page)
    page.close()
    wanted = {name: codepoint for name, codepoint in crops.truth.items() if "#" not in name}
    # A path that a spreadsheet would take for a formula begins at "scans/", which is none.
    assert {row["path"]: row["codepoint"] for row in rows} == wanted

    scores = tmp_path / "scores"
    flags = ["--model", crops.model, "--backend", "onnx", "--out", str(scores)]
    assert evaluate.main(["--images", str(crops.folder / "labels.csv"), *flags]) == 0
    told = json.loads((scores / "images.json").read_text())
    assert told["num_images"] == 5 and not told["num_unreadable"]
    read_right = sum(row["read"] == row["character"] for row in rows)
    assert told["top1"]["value"] == read_right / 5

    out = tmp_path / "dataset"
    argv = [
        "--source",
        str(crops.folder),
        "--out",
        str(out),
        "--ratios",
        "100/0/0",
        "--workers",
        "1",
    ]
    assert build.main(argv) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["splits"]["train"]["num_examples"] == 5
    index = json.loads((out / "index.json").read_text())
    assert all(codepoint in json.dumps(index) for codepoint in wanted.values())


def test_boxes_on_a_page_are_labels_too(boxes: Work, open_page, tmp_path: Path):
    page = opened(open_page, boxes.sheet, 390)
    assert page.ask("document.documentElement.scrollWidth") <= 390
    correct_all(page, boxes.truth)
    rows = saved(page, boxes.folder)
    page.close()
    assert [row["id"] for row in rows] == ["'=b0", "'=b1", "'=b2"]
    told = {f"{row['path']}#{row['box']}": row["codepoint"] for row in rows}
    assert told == {name: code for name, code in boxes.truth.items() if "#" in name}
    flags = ["--model", boxes.model, "--backend", "onnx", "--out", str(tmp_path / "scores")]
    assert evaluate.main(["--images", str(boxes.folder / "labels.csv"), *flags]) == 0
    out = str(tmp_path / "dataset")
    argv = ["--source", str(boxes.folder), "--out", out, "--ratios", "100/0/0", "--workers", "1"]
    assert build.main(argv) == 0
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    assert manifest["splits"]["train"]["num_examples"] == 3


def test_decisions_outlive_the_page_and_are_undone_one_by_one(crops: Work, open_page):
    page = opened(open_page, crops.sheet)
    press(page, "Enter", "x", "2")
    assert page.ask(DONE) == 3
    labels = page.ask("[...state.labels]")
    # Where any tab finds it. That a second tab's process sees it is the browser's promise: a busy
    # Chromium broke it now and then, for a reason that was not found.
    assert page.ask("localStorage.length") == 1
    reload(page)
    assert page.ask(DONE) == 3 and page.ask("[...state.labels]") == labels
    assert "3 decisions" in page.ask("document.getElementById('status').textContent")
    press(page, "u")
    assert page.ask("[...state.labels]") == labels[:2]
    page.ask("document.getElementById('undo').click()")
    assert page.ask("[...state.labels]") == labels[:1]
    press(page, "Backspace")
    number = page.ask("groups[state.group].members[state.card]")
    assert number not in [each for each, _ in page.ask("[...state.labels]")]
    assert [row["path"] for row in saved(page, crops.folder)] == [
        page.ask(f"items[{labels[0][0]}].path") for _ in page.ask("[...state.labels]")
    ]

    page.ask("showGroup(0, true)")
    press(page, "c")
    page.send("Input.insertText", text="ab")
    page.ask("document.getElementById('write').requestSubmit()")
    assert "Expected one character" in page.ask("document.getElementById('status').textContent")
    press(page, "Escape")
    assert page.ask("document.getElementById('write').hidden")
    # As programs write them: a kana and its mark, a character and the selector of its form.
    assert page.ask("['か\\u3099', '辻\\u{e0100}', 'は\\u309a', 'かき'].map(labelOf)") == [
        *("が", "辻", "ぱ"),
        None,
    ]
    page.close()


def test_that_nothing_is_kept_stays_told(crops: Work, open_page):
    page = opened(open_page, crops.sheet)
    status = "document.getElementById('status').textContent"
    full = "throw new DOMException('', 'QuotaExceededError')"
    page.ask(f"Storage.prototype.setItem = () => {{ {full} }}")
    press(page, "Enter", "u")
    told = page.ask(status)
    assert "keeps no decisions (QuotaExceededError): save the CSV" in told
    assert told.endswith(" Undone.")
    page.ask("Storage.prototype.setItem = () => {}")
    press(page, "Enter", "u")
    assert page.ask(status) == "Undone."
    page.close()


def test_a_whole_group_is_confirmed_and_undone_at_once(crops: Work, open_page):
    page = opened(open_page, crops.sheet)
    page.ask("showGroup(groups.findIndex(({ members }) => members.length > 1), true)")
    size = page.ask("groups[state.group].members.length")
    assert size >= 2
    press(page, "a")
    assert page.ask(DONE) == size
    press(page, "u")
    assert page.ask(DONE) == 0
    page.close()


@pytest.mark.parametrize("is_focused", [True, False], ids=["focused", "as in Safari"])
def test_keys_decide_about_the_image_that_was_clicked_last(
    crops: Work, open_page, is_focused: bool
):
    page = opened(open_page, crops.sheet)
    if not is_focused:  # Safari gives the focus to no button that is clicked
        page.ask("addEventListener('mousedown', (event) => event.preventDefault(), true)")
    show = "showGroup(groups.findIndex(({ members }) => members.length > 1), true)"
    page.ask(show)
    second = page.ask("groups[state.group].members[1]")
    for key, keeps in (("x", [[second, ""]]), ("Backspace", [])):
        page.ask(show)
        click(page, f"#card-{second} .candidates button:nth-child(2)")
        assert [number for number, _ in page.ask("[...state.labels]")] == [second]
        page.ask("document.activeElement.blur()")  # as a click on the blank page does
        current = "[...document.querySelectorAll('.card[aria-current=true]')].map(({ id }) => id)"
        assert page.ask(current) == [f"card-{second}"]
        press(page, key)
        assert page.ask("[...state.labels]") == keeps
    page.ask(show)
    click(page, f"#card-{second} .facts")
    press(page, "2")
    assert [number for number, _ in page.ask("[...state.labels]")] == [second]
    page.close()


def test_a_key_that_is_held_decides_once(crops: Work, open_page):
    page = opened(open_page, crops.sheet)
    for key, code in (("a", 65), ("Enter", 13), ("x", 88), ("1", 49)):
        page.ask("showGroup(0, true)")
        size = page.ask("groups[0].members.length") if key == "a" else 1
        held = {"key": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r" if key == "Enter" else key}
        page.send("Input.dispatchKeyEvent", type="keyDown", **held, **text)
        for _ in range(4):
            page.send("Input.dispatchKeyEvent", type="keyDown", autoRepeat=True, **held, **text)
        page.send("Input.dispatchKeyEvent", type="keyUp", **held)
        assert page.ask(DONE) == size, key
        held = {"key": "u", "windowsVirtualKeyCode": 85, "text": "u"}
        page.ask("decide([groups.at(-1).members[0]], OUT)")
        page.send("Input.dispatchKeyEvent", type="keyDown", **held)
        page.send("Input.dispatchKeyEvent", type="keyDown", autoRepeat=True, **held)
        assert page.ask(DONE) == size, "u"
        press(page, "u")
        assert page.ask(DONE) == 0
    page.ask("showGroup(groups.findIndex(({ members }) => members.length > 1), true)")
    page.send("Input.dispatchKeyEvent", type="rawKeyDown", key="ArrowRight", autoRepeat=True)
    assert page.ask("state.card") == 1
    page.close()


@pytest.mark.parametrize("told", ["isComposing: true", "keyCode: 229"])
def test_escape_of_an_input_method_keeps_the_text(crops: Work, open_page, told: str):
    page = opened(open_page, crops.sheet)
    press(page, "c")
    page.send("Input.insertText", text="はる")
    field = "document.getElementById('written')"
    event = f"new KeyboardEvent('keydown', {{ key: 'Escape', bubbles: true, {told} }})"
    page.ask(f"{field}.dispatchEvent({event})")
    assert page.ask(f"[{field}.value, document.activeElement === {field}]") == ["はる", True]
    press(page, "Escape")
    assert page.ask("document.getElementById('write').hidden")
    page.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing(crops: Work, open_page, width: int):
    program = os.environ.get("AXE_CORE")
    if not program:
        pytest.skip("AXE_CORE is unset: no axe.min.js to look for barriers with")
    page = opened(open_page, crops.sheet, width)
    press(page, "Enter", "x")
    page.ask(Path(program).read_text() + "; document.querySelector('.help').open = true")
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.send("Emulation.setEmulatedMedia", features=[feature])
        found = page.ask(
            "axe.run(document).then(({ violations, passes }) =>"
            "[passes.length, violations.map((v) => [v.id, v.nodes.map((n) => n.html)])])"
        )
        assert found[0] > 10 and found[1] == []
    page.close()


def test_the_thumbnail_is_the_image(crops: Work, open_page):
    page = opened(open_page, crops.sheet)
    number = page.ask("groups[0].members[0]")
    told = page.ask(
        "(async () => { const image = document.querySelector('.pick img'); await image.decode();"
        "const canvas = document.createElement('canvas'); canvas.width = image.naturalWidth;"
        "canvas.height = image.naturalHeight; const context = canvas.getContext('2d');"
        "context.drawImage(image, 0, 0);"
        "return [...context.getImageData(0, 0, canvas.width, canvas.height).data]; })()"
    )
    shown = np.array(told, np.uint8).reshape(64, 64, 4)[..., 0].astype(int)
    path = crops.folder / page.ask(f"items[{number}].path")
    own = np.asarray(Image.open(path).convert("L")).astype(int)
    assert np.abs(shown - own).mean() < 6  # of JPEG
    page.close()
