"""The page in a real browser: drawn, dropped, pasted, boxed, and read as `predict` reads.

Chromium is needed (a CHROMIUM or one on the path); AXE_CORE names axe-core's axe.min.js.
"""

import base64
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

from kkanji_jax.export.__main__ import main
from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.saved.trained import PRETRAINED

pytestmark = pytest.mark.slow

READY = "document.documentElement?.classList.contains('is-ready')"
ANSWERS = "Number(document.documentElement.dataset.answers ?? 0)"
CANDIDATES = "[...document.querySelectorAll('.candidate')].map((e) => ({ ...e.dataset }))"
MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


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


def hand_over(page, event: str, content: bytes, form: str = "PNG") -> None:
    """Drops or pastes a file as the browser would."""
    name, field = (
        ("DragEvent", "dataTransfer") if event == "drop" else ("ClipboardEvent", "clipboardData")
    )
    page.ask(
        f"(() => {{ const bytes = Uint8Array.from(atob({base64.b64encode(content).decode()!r}),"
        "(c) => c.charCodeAt(0)); const transfer = new DataTransfer();"
        f"transfer.items.add(new File([bytes], 'crop', {{type: {MIME[form]!r}}}));"
        f"document.querySelector('main').dispatchEvent(new {name}({event!r},"
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
        "const { greyOf, normaliseGlyph } = await import('./glyph_image.js'); const glyphs = [];"
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
