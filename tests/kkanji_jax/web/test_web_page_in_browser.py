"""The page in a real browser: drawn, dropped, pasted, boxed, and read as `predict` reads.

Chromium is needed (a CHROMIUM or one on the path); AXE_CORE names axe-core's axe.min.js.
"""

import base64
import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from kkanji_jax import predict
from kkanji_jax.answers.rows import Row
from kkanji_jax.export.__main__ import main
from kkanji_jax.glyphs.glyph_image import glyph_image, glyph_steps
from kkanji_jax.glyphs.image_files import load_picture
from kkanji_jax.inference.orientation import TURNED
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.saved.trained import PRETRAINED

pytestmark = pytest.mark.slow

READY = "document.documentElement?.classList.contains('is-ready')"
ANSWERS = "Number(document.documentElement.dataset.answers ?? 0)"
CANDIDATES = "[...document.querySelectorAll('.candidate')].map((e) => ({ ...e.dataset }))"
MIME = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "CSV": "text/csv",
}
STATUS = "document.getElementById('status').textContent"
CHOICES = "[...document.querySelectorAll('.choose')].map((e) => [e.dataset.box, e.textContent])"
at_desk = pytest.mark.parametrize("page", [1440], indirect=True)
on_phone = pytest.mark.parametrize("page", [390], indirect=True)


class Site(NamedTuple):
    """A page and the recogniser of the same bundle."""

    address: str
    recogniser: Recogniser


@pytest.fixture(scope="module")
def bundle(tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "bundle"
    arguments = ["--model", str(tiny_run.workdir), "--out", str(out), "--web"]
    assert main([*arguments, "--dataset", str(tiny_run.dataset)]) == 0
    return out


@pytest.fixture(scope="module")
def site(bundle: Path, serve) -> Site:
    return Site(serve(bundle / "web"), load(bundle, backend="onnx"))


@pytest.fixture(params=[1440, 360])
def page(request, site: Site, open_page: Callable[..., Any]):
    """A tab, ready; when it closes, it has asked no other machine for anything, and no error."""
    page = open_page(site.address, request.param)
    page.wait_for(READY)
    yield page
    asked = {event["request"]["url"] for event in page.events("Network.requestWillBeSent")}
    assert any("params.npz" in url for url in asked)  # the worker's requests are seen as well
    assert all(url.startswith((site.address, f"blob:{site.address}")) for url in asked), asked
    logged = page.events("Log.entryAdded") + page.events("Runtime.exceptionThrown")
    assert not logged
    assert page.ask("document.documentElement.scrollWidth") <= request.param
    page.close()


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def photograph(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Dark strokes on paper that is darker on one side."""
    tones = rng.integers(170, 240, (2, 3, 3), np.uint8)
    paper = Image.fromarray(tones).resize((width, height), Image.Resampling.BICUBIC)
    points = rng.uniform(0.2, 0.8, (5, 2)) * (width, height)
    strokes = [(float(x), float(y)) for x, y in points]
    ImageDraw.Draw(paper).line(strokes, fill=(40, 30, 25), width=max(3, min(width, height) // 12))
    return paper.filter(ImageFilter.GaussianBlur(0.8))


def hand_over(page, event: str, content: bytes, form: str = "PNG", name: str = "crop") -> None:
    """Drops or pastes a file as the browser would."""
    kind, field = (
        ("DragEvent", "dataTransfer") if event == "drop" else ("ClipboardEvent", "clipboardData")
    )
    page.ask(
        f"(() => {{ const bytes = Uint8Array.from(atob({base64.b64encode(content).decode()!r}),"
        "(c) => c.charCodeAt(0)); const transfer = new DataTransfer();"
        f"transfer.items.add(new File([bytes], {name!r}, {{type: {MIME[form]!r}}}));"
        f"document.querySelector('main').dispatchEvent(new {kind}({event!r},"
        f"{{{field}: transfer, bubbles: true, cancelable: true}})); }})()"
    )


def answer_after(page, act: Callable[[], None]) -> list[tuple[str, float]]:
    """The candidates that the page shows when it has answered what `act` did."""
    before = page.ask(ANSWERS)
    act()
    page.wait_for(f"{ANSWERS} > {before}")
    return [(each["codepoint"], float(each["probability"])) for each in page.ask(CANDIDATES)]


def assert_same(told: list[tuple[str, float]], site: Site, image: Any) -> None:
    reading = site.recogniser.predict([image], top_k=5)[0]
    assert [codepoint for codepoint, _ in told] == [each.codepoint for each in reading]
    expected = [each.probability for each in reading]
    # Float sums in another order; a photograph's JPEG may be decoded a grey level apart.
    np.testing.assert_allclose([share for _, share in told], expected, atol=5e-3)


def test_a_drawing_is_read_as_predict_reads_it(page, site: Site):
    place = page.place_of("#paper")
    x, y, side = place["x"], place["y"], place["width"]
    strokes = [[(0.3, 0.2), (0.4, 0.5), (0.3, 0.8)], [(0.7, 0.2), (0.7, 0.5), (0.6, 0.85)]]
    told = []
    for stroke in strokes:
        points = [(x + side * across, y + side * down) for across, down in stroke]
        told = answer_after(page, lambda points=points: page.drag(points))
    drawn = page.ask("document.getElementById('paper').toDataURL()")
    image = Image.open(io.BytesIO(base64.b64decode(drawn.partition(",")[2])))
    assert_same(told, site, image)
    seen = page.ask(
        "[...document.getElementById('glyph').getContext('2d').getImageData(0, 0, 64, 64).data]"
    )
    glyph = np.array(seen, np.uint8).reshape(64, 64, 4)[..., 0]
    assert np.abs(glyph.astype(int) - glyph_image(image)).max() <= 2
    strips = page.ask(
        "[...document.querySelectorAll('.examples')].map((e) => [e.ariaLabel, e.children.length,"
        "getComputedStyle(e.lastChild).backgroundImage])"
    )
    assert len(strips) == 5 and all(label and number == 3 for label, number, _ in strips)
    assert all("lookalikes/0.png" in image for *_, image in strips)
    page.ask("document.getElementById('clear').click()")
    assert page.ask("document.getElementById('result').hidden")


@at_desk
@pytest.mark.parametrize("button", ["undo", "clear"])
def test_a_stroke_that_is_undone_while_it_is_drawn_leaves_nothing(page, button: str):
    place = page.place_of("#paper")
    at = {"button": "left", "buttons": 1, "clickCount": 1, "y": place["y"] + 100}
    for kind, x in (("Pressed", 50), ("Moved", 100), ("", 0), ("Moved", 150), ("Released", 200)):
        if kind:
            page.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=place["x"] + x, **at)
        else:
            page.ask(f"document.getElementById({button!r}).click()")
    is_white = (
        "document.getElementById('paper').getContext('2d')"
        ".getImageData(0, 0, 512, 512).data.every((value) => value === 255)"
    )
    assert page.ask(is_white)


@pytest.mark.parametrize(("event", "form"), [("drop", "PNG"), ("paste", "JPEG")])
def test_a_file_dropped_or_pasted_is_read_as_predict_reads_it(page, site, rng, event, form):
    image = photograph(rng, 180, 240)
    content = file_of(image, form)
    told = answer_after(page, lambda: hand_over(page, event, content, form))
    assert_same(told, site, io.BytesIO(content))


def test_a_box_on_a_page_is_read_as_predict_reads_it(page, site: Site, rng):
    scan = photograph(rng, 900, 1300)
    scan.paste(photograph(rng, 160, 200), (400, 500))
    hand_over(page, "drop", file_of(scan))
    page.wait_for("!document.getElementById('reader').hidden")
    assert page.ask(ANSWERS) == 0  # a page is not taken for a character
    sheet = page.place_of("#sheet")
    scale = sheet["width"] / 900
    corners = [(400, 500), (470, 640), (560, 700)]
    points = [(sheet["x"] + x * scale, sheet["y"] + y * scale) for x, y in corners]
    told = answer_after(page, lambda: page.drag(points))
    names = ("left", "top", "width", "height")
    box = [page.ask(f"Number(document.getElementById('numbers').{name}.value)") for name in names]
    assert np.abs(np.array(box) - (400, 500, 160, 200)).max() <= 1 / scale + 1
    left, top, width, height = map(int, box)
    assert_same(told, site, scan.crop((left, top, left + width, top + height)))


def test_the_keyboard_places_a_box_and_reads_it(page, site: Site, rng):
    scan = photograph(rng, 900, 700)
    hand_over(page, "drop", file_of(scan))
    page.wait_for("!document.getElementById('reader').hidden")
    page.ask("document.getElementById('viewer').focus()")

    def press(key: str, shift: bool = False) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key=key, modifiers=8 * shift)

    for key, shift, times in (
        ("ArrowLeft", False, 6),
        ("ArrowDown", True, 40),
        ("ArrowRight", True, 40),
    ):
        for _ in range(times):
            press(key, shift)
    told = answer_after(page, lambda: press("Enter"))
    box = [
        page.ask(f"Number(document.getElementById('numbers').{name}.value)")
        for name in ("left", "top", "width", "height")
    ]
    left, top, width, height = map(int, box)
    assert width > 150 and height > 150
    assert_same(told, site, scan.crop((left, top, left + width, top + height)))


def test_a_finger_draws_a_box(page, rng):
    hand_over(page, "drop", file_of(photograph(rng, 900, 1300)))
    page.wait_for("!document.getElementById('reader').hidden")
    sheet = page.place_of("#sheet")

    def touch() -> None:
        for kind, part in (("touchStart", 0.05), ("touchMove", 0.5), ("touchMove", 0.95)):
            spot = {
                "x": sheet["x"] + part * sheet["width"],
                "y": sheet["y"] + part * sheet["height"],
            }
            page.send("Input.dispatchTouchEvent", type=kind, touchPoints=[spot])
        page.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    assert len(answer_after(page, touch)) == 5


def test_the_browser_decodes_as_pillow_does(page, rng):
    """50 files of four kinds: the glyphs are within 2 grey levels."""
    kinds = [("PNG", {}), ("JPEG", {"quality": 90}), ("PNG", {}), ("WEBP", {"lossless": True})]
    files = []
    for number in range(50):
        form, options = kinds[number % 4]
        image = photograph(rng, *(int(side) for side in rng.integers(20, 260, 2)))
        image = image.convert("L") if number % 3 == 0 else image
        if number % 8 == 1:  # a telephone held sideways
            exif = Image.Exif()
            exif[0x0112] = 6
            options = options | {"exif": exif}
        files.append((form, file_of(image, form, **options)))
    encoded = [[MIME[form], base64.b64encode(content).decode()] for form, content in files]
    told = page.ask(
        "(async () => { const { decode, pixelsOf } = await import('./picture.js');"
        "const { greyOf } = await import('./colour.js'), glyphs = [];"
        "const { normaliseGlyph } = await import('./glyph_image.js');"
        f"for (const [type, text] of {json.dumps(encoded)}) {{"
        "const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));"
        "const bitmap = await decode(new Blob([bytes], { type }));"
        "const { width, height } = bitmap;"
        "const pixels = pixelsOf(bitmap, { left: 0, top: 0, width, height });"
        "glyphs.push([...normaliseGlyph(greyOf(pixels)).data]); } return glyphs; })()"
    )
    expected = [glyph_image(io.BytesIO(content)) for _, content in files]
    worst = [
        np.abs(np.array(ours).reshape(64, 64) - own).max()
        for ours, own in zip(told, expected, strict=True)
    ]
    assert max(worst) <= 2, worst


@pytest.mark.parametrize(
    ("size", "is_one"),
    [((400, 100), True), ((100, 400), True), ((401, 400), False), ((400, 99), False)],
)
def test_a_small_picture_that_is_not_long_is_one_character(page, size, is_one: bool):
    getter = "Object.getOwnPropertyDescriptor(Picture.prototype, 'isOneCharacter').get"
    of = json.dumps({"size": {"width": size[0], "height": size[1]}})
    asked = f"import('./picture.js').then(({{ Picture }}) => {getter}.call({of}))"
    assert page.ask(asked) is is_one  # as docs/web-page.md says


def test_a_large_scan_is_a_page_and_no_character(page, site: Site, rng):
    scan = photograph(rng, 5616, 3744).convert("L")  # what a camera makes: 21 million pixels
    hand_over(page, "drop", file_of(scan, "JPEG", quality=80), "JPEG")
    page.wait_for("!document.getElementById('reader').hidden")
    page.ask("document.getElementById('whole').click()")
    page.wait_for("document.getElementById('status').textContent.includes('5,616')")
    assert page.ask(ANSWERS) == 0
    for name, value in (("left", 1000), ("top", 600), ("width", 3600), ("height", 2500)):
        page.ask(f"document.getElementById('numbers').{name}.value = {value}")
    page.ask("document.getElementById('numbers').dispatchEvent(new Event('change'))")
    submit = "document.getElementById('numbers').requestSubmit()"
    told = answer_after(page, lambda: page.ask(submit))
    assert len(told) == 5


def test_what_is_no_picture_is_said_so(page):
    hand_over(page, "drop", b"<!doctype html><title>404</title>")
    page.wait_for("document.getElementById('status').textContent.includes('cannot read')")


def test_both_languages_are_a_button_away_and_axe_finds_nothing(page, rng):
    program = os.environ.get("AXE_CORE")
    if not program:
        pytest.skip("AXE_CORE is unset: no axe.min.js to look for barriers with")
    page.ask(Path(program).read_text() + "; true")
    for language in ("ja", "en"):
        page.ask(f"document.querySelector('[data-language={language}]').click()")
        assert page.ask("document.documentElement.lang") == language
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            page.send("Emulation.setEmulatedMedia", features=[feature])
            found = page.ask(
                "axe.run(document).then(({ violations, passes }) =>"
                "[passes.length, violations.map((v) => [v.id, v.nodes.map((n) => n.html)])])"
            )
            assert found[0] > 10 and found[1] == []
        image = photograph(rng, 180, 240)
        answer_after(page, lambda image=image: hand_over(page, "drop", file_of(image)))


def test_a_browser_that_cannot_run_it_says_so(open_page, serve, bundle: Path, tmp_path: Path):
    shutil.copytree(bundle / "web", tmp_path / "web")
    (tmp_path / "web" / "kernels.wasm").write_bytes(b"\0asm of a later kind")
    page = open_page(serve(tmp_path / "web"), 1440)
    for language, needs in (("en", "it takes WebAssembly"), ("ja", "WebAssembly が必要です")):
        page.ask(f"document.querySelector('[data-language={language}]')?.click()")
        page.wait_for(f"document.getElementById('status')?.textContent.includes({needs!r})")
    assert page.ask("document.getElementById('progress').hidden")
    page.close()


def test_a_drawn_line_is_the_character_for_one(open_page, serve, tmp_path: Path):
    assert main(["--model", str(PRETRAINED), "--out", str(tmp_path / "bundle"), "--web"]) == 0
    page = open_page(serve(tmp_path / "bundle" / "web"), 1440)
    page.wait_for(READY)
    place = page.place_of("#paper")
    points = [
        (
            place["x"] + place["width"] * (0.15 + 0.07 * step),
            place["y"] + place["height"] * (0.52 - 0.004 * step),
        )
        for step in range(11)
    ]
    told = answer_after(page, lambda: page.drag(points))
    assert "U+4E00" in [codepoint for codepoint, _ in told]
    page.close()


def open_page_of(page, scan: Image.Image, name: str = "page.png") -> dict[str, float]:
    """Drops a page, and gives the place of its sheet in the window, and `scale`."""
    hand_over(page, "drop", file_of(scan), name=name)
    page.wait_for("document.getElementById('sheet').clientWidth > 0")
    page.wait_for(f"{STATUS}.includes('Drag a box')")
    sheet = page.place_of("#sheet")
    return {**sheet, "scale": sheet["width"] / scan.width}


def choose(page, field: str, value: str) -> None:
    """Sets a control as a hand would."""
    page.ask(
        f"(() => {{ const e = document.getElementById({field!r}); e.value = {value!r};"
        "e.dispatchEvent(new Event('change')); })()"
    )


@at_desk
def test_a_picture_that_is_slow_to_open_never_replaces_a_later_one(page, site: Site, rng):
    page.ask(
        "(() => { const real = window.createImageBitmap; let number = 0;"
        "window.createImageBitmap = async (...a) => { const own = number++;"
        "const made = await real(...a);"
        "if (own === 0) await new Promise((done) => setTimeout(done, 1500));"
        "window.numOpened = number; window.lastOpened = own; return made; } })()"
    )
    slow, quick = photograph(rng, 300, 200), photograph(rng, 180, 240)
    hand_over(page, "drop", file_of(slow))
    told = answer_after(page, lambda: hand_over(page, "drop", file_of(quick)))
    assert_same(told, site, quick)
    page.wait_for("window.numOpened === 2 && window.lastOpened === 0")  # the slow one, at last
    page.ask("new Promise((done) => setTimeout(done, 400))")
    assert page.ask("document.getElementById('scan').naturalWidth") == 180
    shown = [(each["codepoint"], float(each["probability"])) for each in page.ask(CANDIDATES)]
    assert shown == told and page.ask(ANSWERS) == 1


@at_desk
def test_each_mode_shows_the_answer_to_what_it_shows(page, site: Site, rng):
    image = photograph(rng, 180, 240)
    hand_over(page, "drop", file_of(image))
    page.ask("document.querySelector('[data-mode=draw]').click()")  # before it is opened
    page.ask("new Promise((done) => setTimeout(done, 1500))")
    assert page.ask(ANSWERS) == 0 and page.ask("document.getElementById('result').hidden")

    to_picture = "document.querySelector('[data-mode=picture]').click()"
    told = answer_after(page, lambda: page.ask(to_picture))
    assert_same(told, site, image)
    page.ask("document.querySelector('[data-mode=draw]').click()")
    assert page.ask("document.getElementById('result').hidden")  # the paper is empty
    place = page.place_of("#paper")
    middle, half = place["x"] + place["width"] / 2, place["height"] / 2
    stroke = [(middle, place["y"] + 0.4 * half), (middle, place["y"] + 1.6 * half)]
    drawn = answer_after(page, lambda: page.drag(stroke))
    assert drawn != told
    assert answer_after(page, lambda: page.ask(to_picture)) == told
    to_paper = "document.querySelector('[data-mode=draw]').click()"
    assert answer_after(page, lambda: page.ask(to_paper)) == drawn


@at_desk
def test_a_window_resized_while_the_picture_is_hidden_shows_it_whole(page, rng):
    scan = photograph(rng, 900, 700)
    open_page_of(page, scan)
    page.ask("document.querySelector('[data-mode=draw]').click()")
    size = {"width": 700, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.send("Emulation.setDeviceMetricsOverride", **size)
    page.ask("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")
    page.ask("document.querySelector('[data-mode=picture]').click()")
    sheet, viewer = page.place_of("#sheet"), page.place_of("#viewer")
    assert 300 < sheet["width"] <= viewer["width"] and sheet["height"] <= viewer["height"]
    assert abs(sheet["width"] / sheet["height"] - 900 / 700) < 0.01
    scale = sheet["width"] / 900
    corners = [
        (sheet["x"] + x * scale, sheet["y"] + y * scale) for x, y in ((200, 100), (500, 600))
    ]
    answer_after(page, lambda: page.drag(corners))
    ((box, _),) = page.ask(CHOICES)
    assert np.abs(np.array([*map(int, box.split())]) - (200, 100, 300, 500)).max() <= 1 / scale + 1


def test_a_tap_that_jitters_draws_no_box_and_keeps_the_one_there(page, rng):
    sheet = open_page_of(page, photograph(rng, 3000, 2400))
    assert sheet["scale"] < 0.4  # a pixel of the screen is several of the page
    x, y = sheet["x"] + 60, sheet["y"] + 50
    answer_after(page, lambda: page.drag([(x, y), (x + 40, y + 60)]))
    before = page.ask(CHOICES)
    for jitter in ([(x + 90, y + 9), (x + 91, y + 10)], [(x, y), (x + 2, y - 2)], [(x, y)]):
        page.drag(jitter)
    touched = [{"x": x + 80, "y": y + 80}, {"x": x + 84, "y": y + 85}]
    for kind, spots in (("touchStart", touched[:1]), ("touchMove", touched[1:]), ("touchEnd", [])):
        page.send("Input.dispatchTouchEvent", type=kind, touchPoints=spots)
    page.ask("new Promise((done) => setTimeout(done, 500))")
    assert page.ask(CHOICES) == before and page.ask(ANSWERS) == 1
    left = page.ask("Number(document.getElementById('numbers').left.value)")
    assert left == int(before[0][0].split()[0])


@on_phone
def test_two_fingers_enlarge_the_page_about_their_middle(page, rng):
    sheet = open_page_of(page, photograph(rng, 900, 1300))
    middle = (sheet["x"] + sheet["width"] * 0.6, sheet["y"] + sheet["height"] * 0.4)

    def fingers(kind: str, apart: float) -> None:
        spots = [{"x": middle[0] + way * apart, "y": middle[1], "id": way} for way in (0, 1)]
        spots[0]["x"] -= apart
        page.send("Input.dispatchTouchEvent", type=kind, touchPoints=spots)

    fingers("touchStart", 20)
    for apart in (30, 45, 60):
        fingers("touchMove", apart)
    page.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    now = page.ask(
        "(() => { const r = document.getElementById('sheet').getBoundingClientRect();"
        "return { x: r.x, y: r.y, width: r.width, height: r.height }; })()"
    )
    assert 2.5 < now["width"] / sheet["width"] < 3.5
    under = [
        (middle[0] - now["x"]) / now["width"],
        (middle[1] - now["y"]) / now["height"],
    ]
    np.testing.assert_allclose(under, [0.6, 0.4], atol=0.03)
    assert page.ask(CHOICES) == [] and page.ask(ANSWERS) == 0


@at_desk
def test_a_wheel_with_ctrl_enlarges_what_is_under_it(page, rng):
    sheet = open_page_of(page, photograph(rng, 900, 1300))
    x, y = sheet["x"] + sheet["width"] * 0.3, sheet["y"] + sheet["height"] * 0.7
    page.send(
        "Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-70, modifiers=2
    )
    page.wait_for(f"document.getElementById('sheet').clientWidth > {1.5 * sheet['width']}")
    now = page.ask("document.getElementById('sheet').getBoundingClientRect().toJSON()")
    under = [(x - now["x"]) / now["width"], (y - now["y"]) / now["height"]]
    np.testing.assert_allclose(under, [0.3, 0.7], atol=0.02)


@at_desk
def test_pictures_that_lie_turned_are_turned_where_that_is_asked(page, site: Site, rng):
    contents = (file_of(photograph(rng, 180, 240)) for _ in range(60))
    found = ((c, site.recogniser.predict([io.BytesIO(c)], orient="auto")[0]) for c in contents)
    content, reading = next((c, r) for c, r in found if set(r.remarks) & set(TURNED[1:]))
    free = answer_after(page, lambda: hand_over(page, "drop", content))
    told = answer_after(page, lambda: choose(page, "orient", "auto"))
    assert [codepoint for codepoint, _ in told] == [each.codepoint for each in reading]
    assert told != free
    assert "It was turned" in page.ask("document.getElementById('verdict-means').textContent")
    assert answer_after(page, lambda: choose(page, "orient", "no")) == free


@at_desk
def test_ink_and_characters_are_controls(page, site: Site, rng):
    image = photograph(rng, 180, 240)
    content = file_of(image)
    free = answer_after(page, lambda: hand_over(page, "drop", content))
    told = answer_after(page, lambda: choose(page, "ink", "bright"))
    steps = glyph_steps(load_picture(io.BytesIO(content)), True)
    outputs = site.recogniser.outputs(steps.glyph[None])
    (expected,) = site.recogniser.readings_of(outputs, steps.glyph[None], 5)
    assert [codepoint for codepoint, _ in told] == [each.codepoint for each in expected]
    assert told != free
    assert answer_after(page, lambda: choose(page, "ink", "auto")) == free

    page.ask("document.getElementById('characters').value = 'listed'")
    told = answer_after(page, lambda: choose(page, "listed", "春 U+590F犬"))
    (reading,) = site.recogniser.predict([io.BytesIO(content)], characters="春夏")
    assert [codepoint for codepoint, _ in told] == [each.codepoint for each in reading]
    shares = [each.probability for each in reading]
    np.testing.assert_allclose([share for _, share in told], shares, atol=5e-3)
    lacking = page.ask("document.getElementById('lacking').textContent")
    assert "犬 U+72AC" in lacking and "春" not in lacking
    for language, words in (("ja", "このモデルにない文字"), ("en", "The model lacks 1")):
        page.ask(f"document.querySelector('[data-language={language}]').click()")
        told = page.ask("document.getElementById('lacking').textContent")
        assert words in told and "犬 U+72AC" in told
    choose(page, "listed", "犬")
    page.wait_for(f"{STATUS}.includes('knows none')")
    assert page.ask("document.getElementById('result').hidden")
    assert answer_after(page, lambda: choose(page, "characters", "all")) == free


@at_desk
def test_a_tiff_is_read_as_predict_reads_it_or_refused_in_one_line(page, site: Site, rng):
    image = photograph(rng, 180, 240)
    for options in ({"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}):
        content = file_of(image, "TIFF", **options)
        told = answer_after(page, lambda content=content: hand_over(page, "drop", content, "TIFF"))
        assert_same(told, site, io.BytesIO(content))
        page.wait_for("document.getElementById('scan').naturalWidth === 180")
    jpeg = file_of(image, "TIFF", compression="jpeg")
    hand_over(page, "drop", jpeg, "TIFF", name="old.tif")
    page.wait_for(
        f"{STATUS}.includes('old.tif is a TIFF that cannot be read here (compression JPEG)')"
    )


def download(page, folder: Path) -> Path:
    """Saves the boxes of page.png as a table in a folder."""
    page.browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.ask("document.getElementById('download').click()")
    saved = folder / "page-boxes.csv"
    # Chromium holds the name with an empty file until all of the download is there.
    while not (saved.exists() and saved.stat().st_size):
        page.ask("new Promise((done) => setTimeout(done, 50))")
    return saved


@at_desk
def test_boxes_go_to_csv_to_predict_and_back(page, site: Site, bundle: Path, rng, tmp_path: Path):
    scan = photograph(rng, 900, 700)
    for left, top in ((40, 30), (400, 60), (600, 400)):
        scan.paste(photograph(rng, 160, 200), (left, top))
    scan.save(tmp_path / "page.png")
    open_page_of(page, scan)
    given = "id,x,y,w,h,image\n=1+1,40,30,160,200,page.png\nb,400,60,160,200,page\n"
    given += "c,-20,390,200,200,\nd,0,0,9,9,other.png\ne,2000,0,9,9,\n"
    hand_over(page, "drop", given.encode(), "CSV", name="boxes.csv")
    page.wait_for(f"{CHOICES}.length === 3 && !{CHOICES}.some(([, t]) => t.includes('not read'))")
    assert "3 boxes" in page.ask(STATUS) and "2 left out" in page.ask(STATUS)
    assert page.ask("document.querySelectorAll('.mark').length") == 3
    assert page.ask("document.getElementById('progress').hidden")

    saved = download(page, tmp_path / "got")
    content = saved.read_text(encoding="utf-8")
    assert content.startswith("\ufeff" + ",".join(Row._fields) + "\n")
    with saved.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["'=1+1", "b", "c"]  # no formula
    assert [row["box"] for row in rows] == ["40 30 160 200", "400 60 160 200", "0 390 180 200"]

    flags = ["--boxes", str(saved), "--model", str(bundle), "--backend", "onnx", "--top-k", "2"]
    out = tmp_path / "again.csv"
    argv = [str(tmp_path / "page.png"), *flags, "--format", "csv", "--bom", "--out", str(out)]
    assert predict.main(argv) == 0
    with out.open(encoding="utf-8-sig", newline="") as file:
        again = [row for row in csv.DictReader(file) if row["rank"] in ("", "1")]
    for mine, theirs in zip(rows, again, strict=True):
        for name in ("id", "box", "character", "codepoint", "verdict", "variants", "remark"):
            assert mine[name] == theirs[name], name
        shares = [float(row["probability"] or 0) for row in (mine, theirs)]
        assert abs(shares[0] - shares[1]) < 5e-3
    assert sum(bool(row["probability"]) for row in rows) >= 2

    open_page_of(page, scan)
    hand_over(page, "drop", out.read_bytes(), "CSV", name="again.csv")
    page.wait_for(f"{CHOICES}.length === 3 && !{CHOICES}.some(([, t]) => t.includes('not read'))")
    told = answer_after(page, lambda: page.ask("document.querySelectorAll('.choose')[1].click()"))
    assert_same(told, site, scan.crop((400, 60, 560, 260)))
    page.ask("document.querySelector('.remove').click()")
    assert [box for box, _ in page.ask(CHOICES)] == ["400 60 160 200", "0 390 180 200"]
    assert page.ask("document.activeElement.classList.contains('choose')")
    for _ in range(2):
        page.ask("document.querySelector('.remove').click()")
    assert page.ask(f"{CHOICES}.length === 0 && document.activeElement.id") == "viewer"

    for text, expected in (
        ("a,b\n1,2\n", "There are no boxes in x.csv"),
        ("x,y,w,h\n1,2,3,?\n", "line 2"),
    ):
        hand_over(page, "drop", text.encode(), "CSV", name="x.csv")
        page.wait_for(f"{STATUS}.includes({expected!r})")


@at_desk
def test_boxes_are_read_with_the_options_of_pictures_in_either_mode(page, rng):
    scan = photograph(rng, 900, 700)
    open_page_of(page, scan)
    given = b"x,y,w,h\n40,30,300,300\n400,60,300,300\n200,300,300,300\n"
    hand_over(page, "drop", given, "CSV", name="boxes.csv")
    are_read = f"{CHOICES}.length === 3 && !{CHOICES}.some(([, t]) => t.includes('not read'))"
    page.wait_for(are_read)
    dark = page.ask(CHOICES)
    page.ask("document.querySelectorAll('.choose')[1].click()")
    choose(page, "ink", "bright")
    page.wait_for(are_read)
    bright = page.ask(CHOICES)
    assert bright != dark
    choose(page, "ink", "auto")
    page.wait_for(are_read)
    assert page.ask(CHOICES) == dark
    page.ask("document.querySelector('[data-mode=draw]').click()")
    choose(page, "ink", "bright")
    page.wait_for(are_read)
    assert page.ask(CHOICES) == bright


@at_desk
def test_two_ids_on_one_box_are_two_rows(page, rng, tmp_path: Path):
    open_page_of(page, photograph(rng, 900, 700))
    one, other = "40 30 160 200", "400 60 160 200"
    given = "id,x,y,w,h\na,40,30,160,200\nb,40,30,160,200\n,400,60,160,200\n"
    given += "a,40,30,160,200\n"  # a line that is there twice
    are_read = f"{CHOICES}.length === 3 && !{CHOICES}.some(([, t]) => t.includes('not read'))"
    for _ in range(2):  # the same table once more adds nothing
        hand_over(page, "drop", given.encode(), "CSV", name="boxes.csv")
        page.wait_for(are_read)
        assert "3 boxes" in page.ask(STATUS) and "0 left out" in page.ask(STATUS)
        assert [box for box, _ in page.ask(CHOICES)] == [one, one, other]
    again = b"id,x,y,w,h\nc,400,60,160,200\n"  # a name for a box that had none
    hand_over(page, "drop", again, "CSV", name="boxes.csv")
    page.wait_for(f"{STATUS}.includes('1 boxes')")
    page.ask("document.querySelectorAll('.choose')[1].click()")  # the second keeps its place
    chosen = "[...document.querySelectorAll('.choose')].map((e) => e.ariaCurrent)"
    assert page.ask(chosen) == ["false", "true", "false"]
    choose(page, "ink", "bright")
    page.wait_for(are_read)
    assert page.ask(chosen) == ["false", "true", "false"]
    with download(page, tmp_path / "got").open(encoding="utf-8-sig", newline="") as file:
        rows = [(row["id"], row["box"]) for row in csv.DictReader(file)]
    assert rows == [("a", one), ("b", one), ("c", other)]
    page.ask("document.querySelectorAll('.remove')[0].click()")  # that at the same place stays
    assert page.ask(chosen) == ["true", "false"]
    assert not page.ask("document.getElementById('result').hidden")


@at_desk
def test_a_box_that_was_removed_does_not_come_back(page, rng):
    open_page_of(page, photograph(rng, 900, 700))
    given = b"x,y,w,h\n40,30,300,300\n400,60,300,300\n200,300,300,300\n"
    hand_over(page, "drop", given, "CSV", name="boxes.csv")
    page.wait_for(f"{CHOICES}.length === 3 && !{CHOICES}.some(([, t]) => t.includes('not read'))")
    answer_after(page, lambda: page.ask("document.querySelectorAll('.choose')[1].click()"))
    page.ask("document.querySelectorAll('.remove')[0].click()")  # another one: the answer stays
    assert not page.ask("document.getElementById('result').hidden")
    assert not page.ask("document.getElementById('box').hidden")
    page.ask("document.querySelectorAll('.remove')[0].click()")
    left = ["200 300 300 300"]
    assert [box for box, _ in page.ask(CHOICES)] == left
    assert page.ask("document.getElementById('result').hidden")
    assert page.ask("document.getElementById('box').hidden")
    for mode in ("draw", "picture"):
        page.ask(f"document.querySelector('[data-mode={mode}]').click()")
    assert "Drag a box" in page.ask(STATUS)
    choose(page, "ink", "bright")
    page.wait_for(f"!{CHOICES}.some(([, t]) => t.includes('not read'))")
    page.ask("new Promise((done) => setTimeout(done, 500))")
    assert [box for box, _ in page.ask(CHOICES)] == left


@at_desk
def test_a_row_that_is_chosen_by_key_keeps_the_focus_also_while_boxes_are_read(page, rng):
    open_page_of(page, photograph(rng, 900, 700))
    rows = "".join(f"{20 * i},{15 * i},150,150\n" for i in range(30))
    hand_over(page, "drop", f"x,y,w,h\n{rows}".encode(), "CSV", name="boxes.csv")
    page.wait_for(f"{CHOICES}.length === 30")
    page.ask("document.querySelectorAll('.choose')[20].focus()")
    page.wait_for(f"!{CHOICES}.some(([, t]) => t.includes('not read'))")
    focused = "[document.activeElement.className, document.activeElement.dataset.box]"
    assert page.ask(focused) == ["choose", "400 300 150 150"]
    press = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    before = page.ask(ANSWERS)
    page.send("Input.dispatchKeyEvent", type="keyDown", text="\r", **press)
    page.send("Input.dispatchKeyEvent", type="keyUp", **press)
    page.wait_for(f"{ANSWERS} > {before}")
    assert page.ask(focused) == ["choose", "400 300 150 150"]
    page.ask("document.querySelectorAll('.remove')[20].focus()")
    page.ask(
        "(() => { window.drawn = 0; new MutationObserver((changes) => {"
        "for (const change of changes) window.drawn += change.addedNodes.length; })"
        ".observe(document.getElementById('boxes'), { childList: true }); })()"
    )
    choose(page, "ink", "bright")
    page.wait_for(f"!{CHOICES}.some(([, t]) => t.includes('not read'))")
    assert (
        page.ask("[...document.querySelectorAll('.remove')].indexOf(document.activeElement)") == 20
    )
    assert 30 <= page.ask("drawn") <= 120  # all of them once or twice, and not for each answer


@on_phone
def test_on_a_phone_progress_and_answer_are_in_view(page, open_page, site: Site, rng):
    seen = (
        "['status', 'progress', 'brief'].map((id) => document.getElementById(id))"
        ".filter((e) => !e.hidden).map((e) => [e.id, e.getBoundingClientRect()])"
        ".map(([id, r]) => [id, r.top >= 0 && r.bottom <= innerHeight && r.height > 3])"
    )
    loading = open_page(site.address, 390)
    loading.wait_for("document.getElementById('progress')?.value < 1")
    assert ["progress", True] in loading.ask(seen)
    loading.close()
    sheet = open_page_of(page, photograph(rng, 900, 1300))
    right, bottom = sheet["x"] + sheet["width"], sheet["y"] + sheet["height"]
    corners = [(sheet["x"] + 9, sheet["y"] + 9), (right - 9, bottom - 9)]
    answer_after(page, lambda: page.drag(corners))
    assert page.ask(seen) == [["status", True], ["brief", True]]
    best = page.ask(CANDIDATES)[0]["codepoint"]
    assert page.ask("document.getElementById('brief').textContent") == chr(int(best[2:], 16))
    page.ask("document.getElementById('brief').click()")
    page.wait_for("document.getElementById('answer-title').getBoundingClientRect().top < 700")
