"""Images that lie on their side are turned, those that stand are not, and doubt is told."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax import predict as command
from kkanji_jax.answers.rows import RowOptions, predict_rows
from kkanji_jax.data.scripts import script_of
from kkanji_jax.glyphs.glyph_image import glyph_image
from kkanji_jax.inference.orientation import (
    DOUBTFUL,
    MIN_GAIN,
    TURNED,
    oriented,
    sureness_of,
    turned_glyphs,
)
from kkanji_jax.inference.recogniser import load
from kkanji_jax.inputs.image_input import ImageInput

NUM_CLASSES, LEVEL = 5, 4


def read_as(turns: list[tuple[int, float]], is_read: bool = True):
    """What `oriented` makes of a glyph whose turns read these classes, so surely."""
    glyph = np.zeros((1, 64, 64), np.uint8)
    glyph[0, 5:9, 20:60] = 255
    logits = np.full((4, NUM_CLASSES), -400.0, np.float32)
    for turn, (class_id, sureness) in enumerate(turns):
        logits[turn, class_id] = 2 * sureness
    features = np.arange(4, dtype=np.float32)[:, None]
    turned = turned_glyphs(glyph, [is_read])
    places = np.arange(1, 4) if is_read else []
    others = logits[places].reshape(-1, NUM_CLASSES), features[places].reshape(-1, 1)
    found = oriented(glyph, (logits[:1], features[:1]), turned, others, 2.0, LEVEL)
    turn = int(found.features[0, 0])
    np.testing.assert_array_equal(found.logits[0], logits[turn])
    np.testing.assert_array_equal(found.glyphs[0], np.rot90(glyph[0], turn))
    return turn, found.remarks[0]


@pytest.mark.parametrize(
    "turns, expected",
    [
        ([(0, 9), (1, 3), (2, 4), (3, 5)], (0, ())),
        ([(0, 5), (1, 3), (2, 4), (3, 9.5)], (3, (TURNED[3],))),
        ([(0, 3), (1, 9), (2, 4), (3, 5)], (1, (TURNED[1],))),
        ([(0, 3), (1, 4), (2, 9), (3, 9)], (2, (TURNED[2], DOUBTFUL))),
        ([(0, 5), (1, 3), (2, 5 + MIN_GAIN - 0.5), (3, 1)], (0, (DOUBTFUL,))),
        ([(0, 5), (0, 12), (0, 12), (0, 12)], (0, ())),  # 口: the same in all turns
        ([(0, 5), (LEVEL, 12), (1, 3), (LEVEL, 12)], (0, ())),  # し lies like 一
        ([(LEVEL, 5), (1, 3), (LEVEL, 7), (1, 3)], (0, ())),
    ],
)
def test_the_surest_turn_is_taken_if_it_is_surer_by_far_and_doubt_is_told(turns, expected):
    assert read_as(turns) == expected


def test_a_blank_glyph_is_not_turned():
    assert read_as([(0, 1), (1, 20), (1, 20), (1, 20)], is_read=False) == (0, ())


def test_sureness_is_the_logarithm_of_the_sum_of_all_weights():
    logits = np.log(np.array([[1, 2, 5], [300, 300, 400]], np.float32)) * 3
    np.testing.assert_allclose(sureness_of(logits, 3.0), np.log([8, 1000]), rtol=1e-6)


@pytest.fixture(scope="module")
def pictures(tiny_run) -> list[Image.Image]:
    """Glyphs in all turns, and a blank one."""
    files = sorted(tiny_run.source.rglob("*.png"))[::11]
    turned = [Image.open(file).rotate(90 * (n % 4)) for n, file in enumerate(files)]
    return [*turned, Image.new("L", (50, 50), 255)]


def test_rows_are_those_of_the_surest_turn(tiny_run, pictures, tmp_path: Path, capsys):
    recogniser = load(tiny_run.workdir, backend="onnx")
    readings = recogniser.predict(pictures, 2, orient="auto")
    num_turned = 0
    for picture, reading in zip(pictures, readings, strict=True):
        glyph = glyph_image(picture)
        turns = [TURNED.index(remark) for remark in reading.remarks if remark in TURNED]
        upright = np.rot90(glyph, turns[0] if turns else 0)[None]
        if reading:
            (alone,) = recogniser.predict_glyphs(np.ascontiguousarray(upright), 2)
            assert [c.codepoint for c in reading] == [c.codepoint for c in alone]
        assert not (reading.remarks and reading.verdict == "accept")
        num_turned += len(turns)
    assert num_turned >= 3
    assert readings[-1].verdict == "blank" and not readings[-1].remarks

    found = [ImageInput(str(n), image=picture) for n, picture in enumerate(pictures)]
    rows = list(predict_rows(recogniser, found, RowOptions(1, orient="auto")))
    assert [row.character for row in rows] == [r[0].character if r else None for r in readings]
    assert [row.remark for row in rows] == ["; ".join(r.remarks) for r in readings]

    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number:03}.png")
    flags = ["--model", str(tiny_run.workdir), "--backend", "onnx", "--format", "jsonl"]
    assert command.main([str(tmp_path), *flags, "--orient", "auto", "--top-k", "1"]) == 0
    told = capsys.readouterr().out
    assert sum(told.count(remark) for remark in TURNED[1:]) == num_turned


def test_an_unknown_orientation_is_refused(tiny_run, pictures):
    recogniser = load(tiny_run.workdir, backend="onnx")
    with pytest.raises(ValueError, match="expected an orient of no or auto, got 'left'"):
        recogniser.predict(pictures, orient="left")


@pytest.mark.slow
def test_photographed_kanji_on_their_side_are_read_or_not_accepted():
    """By the released model; kana on their side often look like other kana."""
    folder = os.environ.get("KKANJI_CROPS")
    if not folder:
        pytest.skip("KKANJI_CROPS names no folder of photographed crops")
    recogniser = load(backend="onnx")
    images = [Image.open(path).convert("RGB") for path in sorted(Path(folder).rglob("*.jpg"))[::3]]
    plain = recogniser.predict(images, 1)
    sure = [
        (image, reading)
        for image, reading in zip(images, plain, strict=True)
        if reading.verdict == "accept" and script_of(reading[0].codepoint) == "kanji"
    ]
    assert len(sure) >= 60
    stood = recogniser.predict([image for image, _ in sure], 1, orient="auto")
    turned_though_upright = [r for r in stood if set(r.remarks) & set(TURNED[1:])]
    assert len(turned_though_upright) <= 0.02 * len(sure)
    for degrees in (90, 180, 270):
        lying = [image.rotate(degrees, expand=True) for image, _ in sure]
        read = recogniser.predict(lying, 1, orient="auto")
        pairs = [(a[0].character, b) for a, (_, b) in zip(read, sure, strict=True) if a]
        assert sum(c == b[0].character for c, b in pairs) >= 0.7 * len(sure), degrees
        accepted = [a for a in read if a.verdict == "accept"]
        as_they_lie = recogniser.predict(lying, 1)
        assert len(accepted) <= max(2, len([r for r in as_they_lie if r.verdict == "accept"]) / 2)
