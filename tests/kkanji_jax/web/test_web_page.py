"""The page's own arithmetic, run by node: it sees what Python sees, and says what Python says."""

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from kkanji_jax.data.class_index import ClassIndex, codepoint_of
from kkanji_jax.evaluation.calibration import (
    CALIBRATED_VERDICTS,
    Familiarity,
    standardised_logit,
    top_probability,
)
from kkanji_jax.evaluation.support import Support, evidence
from kkanji_jax.export.__main__ import main
from kkanji_jax.glyphs.glyph_image import BAND, CUT_OFF, RED_INK, glyph_image, glyph_steps
from kkanji_jax.glyphs.image_files import load_picture
from kkanji_jax.inference.allowed_characters import characters_in
from kkanji_jax.inference.orientation import DOUBTFUL, TURNED
from kkanji_jax.inference.reading import CUT_SUPPORT, may_accept
from kkanji_jax.inference.recogniser import load
from kkanji_jax.saved.bundle import read_bundle
from kkanji_jax.saved.trained import kernel_of
from kkanji_jax.web import web_page as web

Node = Callable[..., Any]

MAKE_NETWORK = (
    'const plan = JSON.parse(fs.readFileSync(model + "/model.json"));'
    'const file = fs.readFileSync(model + "/params.npz");'
    "const weights = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);"
    'const kernels = await compiled(fs.readFileSync(folder + "/kernels.wasm"));'
    "const network = new Network(plan, weights, kernels);"
)
READ_IMAGES = """
const bytes = fs.readFileSync(folder + "/images.bin");
const images = [];
for (let at = 0; at < bytes.length; ) {
  const [width, height] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)];
  const data = new Uint8ClampedArray(bytes.subarray(at + 8, at + 8 + 4 * width * height));
  images.push({ width, height, data });
  at += 8 + 4 * width * height;
}
"""


def photographs(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    """RGBA pictures of strokes on uneven paper, of all sizes, some the other way round."""
    found = []
    for number in range(n):
        width, height = (int(side) for side in rng.integers(9, 330, 2))
        base = Image.fromarray(rng.integers(170, 240, (4, 3, 3), np.uint8))
        paper = base.resize((width, height), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(paper)
        for _ in range(int(rng.integers(1, 5))):
            points = rng.uniform(0.15, 0.85, (4, 2)) * (width, height)
            tone = tuple(int(value) for value in rng.integers(0, 110, 3))
            thick = max(1, int(min(width, height) * rng.uniform(0.03, 0.14)))
            pen.line([(float(x), float(y)) for x, y in points], fill=tone, width=thick)
        paper = paper.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 2))))
        pixels = np.array(paper.convert("RGBA"))
        pixels[..., :3] = np.clip(pixels[..., :3] + rng.normal(0, 4, (height, width, 1)), 0, 255)
        if number % 4 == 0:
            pixels[..., :3] = 255 - pixels[..., :3]
        if number % 5 == 0:
            pixels[..., 3] = rng.integers(0, 256, (height, width))
        found.append(pixels)
    return found


def odd_pictures(rng: np.random.Generator) -> list[np.ndarray]:
    """What has rules of its own: published glyphs, blanks, one pixel, white ink on nothing."""
    glyph = np.zeros((64, 64), np.uint8)
    glyph[20:26, 8:56] = 255
    small = np.zeros((28, 28), np.uint8)
    small[9:12, 4:24] = 255
    greys = [
        glyph,
        255 - glyph,
        small,
        255 - small,
        np.full((40, 30), 200, np.uint8),
        np.zeros((1, 1), np.uint8),
        np.zeros((64, 64), np.uint8),
        rng.integers(0, 256, (3, 200), np.uint8),
    ]
    pictures = [np.dstack([grey, grey, grey, np.full_like(grey, 255)]) for grey in greys]
    white = np.full((64, 64, 4), 255, np.uint8)
    white[..., 3] = glyph
    return [*pictures, white]


def soiled(rng: np.random.Generator, n: int) -> list[np.ndarray]:
    """RGBA pictures with frames, rules, seals, neighbours and noise."""
    found = []
    for number, pixels in enumerate(photographs(rng, n)):
        image = Image.fromarray(pixels).convert("RGB").resize((120, int(rng.integers(90, 190))))
        pen, (width, height) = ImageDraw.Draw(image), image.size
        kind = number % 12
        if kind == 0:
            image = ImageOps.expand(image, int(rng.integers(1, 30)), (int(rng.integers(256)),) * 3)
        elif kind == 1:
            image = image.rotate(float(rng.uniform(-8, 8)), expand=bool(number % 2))
        elif kind == 2:
            for x in rng.integers(2, width - 2, 2).tolist():
                pen.line((x, 0, x + 1, height), (50, 44, 40), int(rng.integers(1, 5)))
        elif kind == 3:
            pen.ellipse((10, 10, 100, 90), outline=(200, 60, 45), width=int(rng.integers(2, 9)))
        elif kind == 4:
            wide = Image.new("RGB", (width + 60, height), (205, 200, 190))
            wide.paste(image, (0, 0))
            wide.paste(image.resize((30, 40)), (width + 20, 10))
            image = wide
        elif kind == 5:
            image = image.convert("1").convert("RGB")
        elif kind == 6:
            pen.rectangle((0, 0, width // 3, height), (12, 12, 12))
        elif kind == 7:  # a cell, of whose rules some lie at the picture's side
            for place in (int(rng.integers(0, 4)), width - 4):
                pen.line((place, 0, place, height), (60, 52, 46), 3)
            for place in (3, height - int(rng.integers(2, 6))):
                pen.line((0, place, width, place), (60, 52, 46), 3)
        elif kind == 8:
            side = int(rng.integers(8, 12))
            image.thumbnail((side, side))
        elif kind == 9:
            top = int(rng.integers(0, height // 2))
            pen.rectangle((0, top, width, top + height // 3), (16, 14, 12))
        elif kind == 10:
            image = image.crop((0, 0, width // 2, height))
        else:
            image = Image.new("RGB", (90, 90), (220, 205, 170))
            ImageDraw.Draw(image).rectangle((20, 30, 70, 44), (200, 60, 45))
        found.append(np.asarray(image.convert("RGBA")))
    return found


def crops_at_hand() -> list[np.ndarray]:
    """Photographed crops in the folder that KKANJI_CROPS names, if it does."""
    folder = os.environ.get("KKANJI_CROPS")
    paths = sorted(Path(folder).rglob("*.jpg"))[:60] if folder else []
    return [np.asarray(Image.open(path).convert("RGBA")) for path in paths]


def test_the_page_prepares_pictures_as_python_does(node: Node, rng: np.random.Generator):
    pictures = [*photographs(rng, 50), *odd_pictures(rng), *soiled(rng, 70), *crops_at_hand()]
    told = node(
        'import { glyphOf } from "./glyph_image.js";'
        + READ_IMAGES
        + "const made = images.map(glyphOf);"
        "const answer = made.map((m) => ({ ...m, data: [...m.glyph.data] }));",
        pictures,
    )
    steps = [glyph_steps(load_picture(Image.fromarray(picture))) for picture in pictures]
    assert sum(not made.trouble for made in steps) >= 45
    assert {remark for made in steps for remark in made.remarks} >= {BAND, CUT_OFF, RED_INK}
    for picture, made, ours in zip(pictures, steps, told, strict=True):
        glyph, theirs = made.glyph, np.array(ours["data"]).reshape(64, 64)
        # Pillow's arithmetic is copied bit by bit; 2 grey levels leave room for its next version.
        assert np.abs(theirs - glyph).max() <= 2, f"a picture of {picture.shape}"
        assert (ours["trouble"], tuple(ours["remarks"])) == (made.trouble, made.remarks)


@pytest.mark.parametrize("is_ink_bright", [True, False])
def test_the_page_takes_the_inks_tone_as_it_is_told(node: Node, rng, is_ink_bright: bool):
    pictures = [*photographs(rng, 12), *odd_pictures(rng)]
    told = node(
        'import { glyphOf } from "./glyph_image.js";'
        + READ_IMAGES
        + f"const options = {{ inkIsBright: {json.dumps(is_ink_bright)} }};"
        "const made = images.map((image) => glyphOf(image, options));"
        "const answer = made.map((m) => ({ trouble: m.trouble, data: [...m.glyph.data] }));",
        pictures,
    )
    num_changed = 0
    for picture, theirs in zip(pictures, told, strict=True):
        loaded = load_picture(Image.fromarray(picture))
        own = glyph_steps(loaded, is_ink_bright)
        assert theirs["trouble"] == own.trouble
        assert np.abs(np.array(theirs["data"]).reshape(64, 64) - own.glyph).max() <= 2
        num_changed += (own.glyph != glyph_steps(loaded).glyph).any()
    assert num_changed >= 3  # else nothing was told


def between(values: np.ndarray, share: float) -> float:
    """A threshold with `share` of the values below it, as far from any as can be there."""
    ordered = np.sort(values)
    place = int(share * len(values))
    gaps = np.diff(ordered[place - 1 : place + 3])
    best = place - 1 + int(gaps.argmax())
    return float((ordered[best] + ordered[best + 1]) / 2)


# Of version 1, `unknown` goes by another score; version 3 has a support.
@pytest.fixture(scope="module", params=[("float16", 3), ("bfloat16", 1), ("int8", 2)])
def exported(request, tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dtype, version = request.param
    out = tmp_path_factory.mktemp("web") / "bundle"
    glyphs = [glyph_image(path) for path in sorted(tiny_run.source.rglob("*.png"))[::9]]
    recogniser = load(tiny_run.workdir)
    logits, features = recogniser.outputs(np.stack(glyphs))
    confidences = top_probability(logits, 0.8)
    known = standardised_logit(logits) if version == 1 else confidences
    more = {}
    if version == 3:
        rng, kernel = np.random.default_rng(5), kernel_of(recogniser.trained.params)
        spread = evidence(features, logits.argmax(axis=1), kernel).std(axis=0)
        weights = rng.normal(size=len(spread)) / np.maximum(spread, spread.mean())
        support = Support(weights.astype(np.float32), 0.3)
        supports = support.of(features, logits.argmax(axis=1), kernel)
        familiarity = Familiarity(0.5, 0.1, 2 / supports.std())
        known = familiarity.of(confidences, supports)
        more = {"support": support.to_json(), "familiarity": familiarity._asdict()}
    thresholds = {"accept": between(confidences, 0.4), "unknown": between(known, 0.2)}
    calibration = {
        "version": version,
        "temperature": 0.8,
        "weights": "ema",
        "fitted_on": {"split": "val"},
        "verdicts": {
            name: {"threshold": thresholds.get(name), "accuracy": 0.7, "coverage": 0.4, "n": 40}
            for name in CALIBRATED_VERDICTS
        },
        **more,
    }
    if version == 3:
        calibration["verdicts"]["accept"]["least_support"] = between(supports, 0.5)
    workdir = tmp_path_factory.mktemp("run") / "tiny"
    shutil.copytree(tiny_run.workdir, workdir)
    (workdir / "calibration.json").write_text(json.dumps(calibration))
    arguments = ["--model", str(workdir), "--out", str(out), "--web"]
    assert main([*arguments, "--dtype", dtype]) == 0
    return out


def test_the_page_says_what_predict_says(node: Node, tiny_run, exported: Path):
    files = sorted(tiny_run.source.rglob("*.png"))[::9]
    told = node(
        'import { glyphOf } from "./glyph_image.js";'
        'import { compiled } from "./kernels.js"; import { Network } from "./network.js";'
        'import { readingOf } from "./reading.js";'
        + READ_IMAGES
        + 'const plan = JSON.parse(fs.readFileSync(model + "/model.json"));'
        'const file = fs.readFileSync(model + "/params.npz");'
        "const start = file.byteOffset;"
        "const weights = file.buffer.slice(start, start + file.length);"
        'const kernels = await compiled(fs.readFileSync(folder + "/kernels.wasm"));'
        "const network = new Network(plan, weights, kernels);"
        "const answer = images.map((image) => { const { glyph, trouble, remarks } = glyphOf(image);"
        "return readingOf(network.run(glyph.data), plan, trouble, remarks); });",
        [np.asarray(Image.open(path).convert("RGBA")) for path in [*files]]
        + [np.full((50, 50, 4), 255, np.uint8)],
        model=exported / "web",
    )
    expected = load(exported, backend="onnx").predict(
        [*files, Image.new("L", (50, 50), 255)], top_k=6
    )
    assert {reading.verdict for reading in expected} == {"accept", "ask", "unknown", "blank"}
    for theirs, ours in zip(told, expected, strict=True):
        assert theirs["verdict"] == ours.verdict
        for candidate, own in zip(theirs["candidates"], ours, strict=True):
            assert (candidate["codepoint"], candidate["character"]) == own[1::-1]
            # Sums of float32 products in another order, through some ten layers.
            assert abs(candidate["probability"] - own.probability) < 1e-4


def test_an_answer_among_some_characters_is_that_of_predict(node: Node, tiny_run, exported: Path):
    files = sorted(tiny_run.source.rglob("*.png"))[::9]
    for asked, restriction in (
        ("夏 U+51AC犬", "夏冬犬"),
        ("kanji", "春夏秋冬山川"),
        ("川", "川"),
    ):
        told = node(
            'import { glyphOf } from "./glyph_image.js";'
            'import { compiled } from "./kernels.js"; import { Network } from "./network.js";'
            'import { allowedIds, readingOf } from "./reading.js";'
            + READ_IMAGES
            + MAKE_NETWORK
            + f"const {{ ids, lacking }} = allowedIds({json.dumps(asked)}, plan);"
            "const answer = { lacking, readings: images.map((image) => {"
            "const { glyph, trouble, remarks } = glyphOf(image);"
            "return readingOf(network.run(glyph.data), plan, trouble, remarks, ids); }) };",
            [np.asarray(Image.open(path).convert("RGBA")) for path in files],
            model=exported / "web",
        )
        assert told["lacking"] == (["U+72AC"] if "犬" in asked else [])
        recogniser = load(exported, backend="onnx")
        expected = recogniser.predict([*files], top_k=6, characters=restriction)
        for theirs, ours in zip(told["readings"], expected, strict=True):
            assert theirs["verdict"] == ours.verdict
            for candidate, own in zip(theirs["candidates"], ours, strict=True):
                assert candidate["codepoint"] == own.codepoint
                assert abs(candidate["probability"] - own.probability) < 1e-4
    assert {reading.verdict for reading in expected} >= {"unknown"}


def test_the_page_turns_pictures_as_predict_does(node: Node, tiny_run, exported: Path):
    files = sorted(tiny_run.source.rglob("*.png"))[::9]
    pictures = [Image.open(path).rotate(90 * (n % 4)) for n, path in enumerate(files)]
    told = node(
        'import { glyphOf } from "./glyph_image.js";'
        'import { compiled } from "./kernels.js"; import { Network } from "./network.js";'
        'import { surestTurn } from "./orientation.js"; import { readingOf } from "./reading.js";'
        + READ_IMAGES
        + MAKE_NETWORK
        + "const answer = images.map((image) => {"
        "const { glyph, trouble, remarks } = glyphOf(image);"
        "const run = (pixels) => network.run(pixels);"
        "const found = surestTurn(glyph.data, run, plan);"
        "const all = [...remarks, ...found.remarks];"
        "const reading = readingOf(found.output, plan, trouble, all);"
        "return { ...reading, glyph: [...found.data] }; });",
        [np.asarray(picture.convert("RGBA")) for picture in pictures],
        model=exported / "web",
    )
    recogniser = load(exported, backend="onnx")
    expected = recogniser.predict(pictures, top_k=6, orient="auto")
    every = [remark for reading in expected for remark in reading.remarks]
    assert sum(remark in TURNED[1:] for remark in every) >= 3
    for picture, theirs, ours in zip(pictures, told, expected, strict=True):
        assert (theirs["verdict"], tuple(theirs["remarks"])) == (ours.verdict, ours.remarks)
        for candidate, own in zip(theirs["candidates"], ours, strict=True):
            assert candidate["codepoint"] == own.codepoint
            assert abs(candidate["probability"] - own.probability) < 1e-4
        turns = max(TURNED.index(r) if r in TURNED else 0 for r in ("", *ours.remarks))
        upright = np.rot90(glyph_image(picture), turns)
        np.testing.assert_array_equal(np.array(theirs["glyph"]).reshape(64, 64), upright)


@pytest.mark.parametrize(
    "turns, expected",
    [
        ([(0, 9), (1, 3), (0, 4), (1, 5)], []),
        ([(0, 3), (1, 4), (1, 9), (0, 4)], [TURNED[2]]),
        ([(0, 5), (1, 3), (1, 6), (1, 1)], [DOUBTFUL]),
        ([(0, 5), (2, 12), (0, 12), (2, 12)], []),  # 2 is 一, as し is on its side
    ],
)
def test_the_page_tells_doubt_about_a_turn_by_the_rules_of_predict(node: Node, turns, expected):
    logits = [[2 * sure if i == best else -400 for i in range(3)] for best, sure in turns]
    told = node(
        'import { surestTurn } from "./orientation.js";'
        f"const logits = {json.dumps(logits)};"
        'const plan = { codepoints: ["U+3042", "U+6625", "U+4E00"], '
        "calibration: { temperature: 2 } };"
        "const run = () => ({ logits: Float32Array.from(logits.shift()) });"
        "const answer = surestTurn(new Uint8Array(4096), run, plan).remarks;"
    )
    assert told == expected


@pytest.mark.parametrize("has_support", [True, False])
def test_the_page_accepts_strokes_that_seem_cut_off_as_predict_does(node: Node, has_support: bool):
    remarks = [(), (CUT_OFF,), (CUT_OFF, BAND), (BAND,)]
    asked = [(CUT_SUPPORT + more, told) for more in (-0.1, 0, 0.1) for told in remarks]
    calibration: dict[str, Any] = {
        "version": 3 if has_support else 2,
        "temperature": 1,
        "verdicts": {"accept": {"threshold": 0.5, "least_support": 0}, "unknown": {"threshold": 0}},
    }
    if has_support:
        calibration["familiarity"] = {"bias": 0, "of_log_odds": 1, "of_support": 0}
    else:
        asked = [(None, told) for told in remarks]
    plan = {
        "codepoints": ["U+3042", "U+6625"],
        "forms": {},
        "train_counts": [1, 1],
        "calibration": calibration,
    }
    verdicts = node(
        'import { readingOf } from "./reading.js";'
        f"const plan = {json.dumps(plan)};"
        f"const answer = {json.dumps(asked)}.map(([support, remarks]) =>"
        '  readingOf({ logits: Float32Array.of(5, 0), support }, plan, "", remarks).verdict);'
    )
    assert verdicts == ["accept" if may_accept(told, nats) else "ask" for nats, told in asked]


def test_kana_are_asked_for_and_a_list_of_strangers_is_no_answer(node: Node):
    model = {"codepoints": ["U+3042", "U+6625"], "scripts": "ai"}  # kana, kanji
    told = node(
        'import { allowedIds } from "./reading.js";'
        f"const tiny = {json.dumps(model)};"
        'const answer = ["all", "kana", "kanji", "犬", ""].map((c) => allowedIds(c, tiny));'
    )
    assert [each["ids"] for each in told] == [None, [0], [1], [], []]
    assert told[3]["lacking"] == ["U+72AC"]


def test_lists_and_ranges_are_understood_as_predict_understands_them(node: Node):
    index = ClassIndex.from_codepoints(["U+304C", "U+3042", "U+590F", "U+6625", "U+24FA3"])
    model = {"codepoints": list(index.codepoints), "scripts": "aaiii"}
    texts = ["U+3041-U+3050", "お-あ犬", "U+590F-春", "u+6625", "春 - 夏", "-あ-", "か\u3099"]
    texts += ["春\U000e0100夏\ufe00", "U+6625U+590F春", "𤾢-𤾤 が\u3099"]
    told = node(
        'import { allowedIds } from "./reading.js";'
        f"const tiny = {json.dumps(model)};"
        f"const answer = {json.dumps(texts)}.map((text) => allowedIds(text, tiny));"
    )
    for text, theirs in zip(texts, told, strict=True):
        ours = characters_in(text, index, "the list")
        assert {index.character(number) for number in theirs["ids"]} == ours.known, text
        assert theirs["lacking"] == [codepoint_of(c) for c in ours.lacking], text


def test_what_is_no_character_is_told_by_its_number_alone(node: Node):
    told = node(
        'import { allowedIds, named } from "./reading.js";'
        'const tiny = { codepoints: ["U+3042"], scripts: "a" };'
        'const answer = allowedIds("あ春 U+D800U+FFFFFF", tiny).lacking.map(named);'
    )
    assert told == ["春 U+6625", "U+D800", "U+FFFFFF"]


def test_the_page_is_part_of_the_bundle_and_its_weights_are_on_disk_once(exported: Path):
    assert read_bundle(exported).calibration
    listed = (exported / "SHA256SUMS").read_text()
    assert all(f"web/{name}" in listed for name in ("index.html", "app.js", "model.json"))
    inner, outer = exported / "web" / "params.npz", exported / "params.npz"
    assert inner.samefile(outer)
    (exported / "web" / "app.js").write_text("tampered")
    with pytest.raises(ValueError, match=r"web/app\.js is damaged"):
        read_bundle(exported)


def test_it_names_no_address_but_those_it_cites_and_allows_only_its_own_files():
    cited = {
        "https://doi.org/10.20676/00000341",
        "https://doi.org/10.20676/00000340",
        "https://creativecommons.org/licenses/by-sa/4.0/",
        "http://www.w3.org/2000/svg",
    }
    for path in web.ASSETS.iterdir():
        named = set(re.findall(r"https?://[^\s\"'<>)]+", path.read_bytes().decode("latin-1")))
        assert named <= cited, path.name
    html = (web.ASSETS / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy and policy[1].startswith(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    )
    assert policy[1].count("unsafe") == 1
    attribution = "“KMNIST Dataset” (created by CODH), adapted from “Kuzushiji Dataset”"
    assert attribution in html


def test_the_page_without_its_weights_stays_small():
    sizes = {path.name: path.stat().st_size for path in web.ASSETS.iterdir()}
    assert sum(sizes.values()) <= 200_000, sizes
    assert max(sizes.values()) <= 30_000, sizes


def test_both_languages_say_everything(node: Node):
    told = node('import { STRINGS } from "./strings.js"; const answer = STRINGS;')
    english, japanese = told["en"], told["ja"]
    assert english.keys() == japanese.keys()
    for key, text in english.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", japanese[key])), key
    html = (web.ASSETS / "index.html").read_text()
    used = set(re.findall(r'data-(?:text|label)="(\w+)"', html))
    assert used <= english.keys()
    for key, text in re.findall(r'data-text="(\w+)"[^>]*>([^<]+)<', html):
        assert text == english[key], key  # what stands there before a script runs


def test_a_page_half_made_leaves_nothing(tiny_run, tmp_path: Path, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(web, "network_plan", full)
    out = tmp_path / "bundle"
    errors = io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    assert main(["--model", str(tiny_run.workdir), "--out", str(out), "--web"]) == 1
    assert "No space left" in errors.getvalue() and list(tmp_path.iterdir()) == []
