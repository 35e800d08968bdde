"""Cut strokes cost an accepted reading exactly what `predict` makes them cost."""

import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kkanji_jax.glyphs.glyph_image import BAND, CUT_OFF
from kkanji_jax.inference.reading import CUT_SUPPORT, may_accept
from kkanji_jax.inference.recogniser import load


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/cut_off")


def test_the_rule_that_is_measured_is_that_of_predict(script: ModuleType):
    assert CUT_SUPPORT in script.NATS
    for remarks in ((), (CUT_OFF,), (BAND,), (CUT_OFF, BAND)):
        for support in (-1.0, CUT_SUPPORT - 0.1, CUT_SUPPORT, 9.0):
            measured = script.Read(True, True, remarks, support)
            assert measured.is_accepted(CUT_SUPPORT) == may_accept(remarks, support)
            assert measured.is_accepted(math.inf) == (not remarks)
            assert not measured._replace(is_sure=False).is_accepted(0)


def test_wholes_and_halves_are_counted_apart(script: ModuleType):
    cut, sure = (CUT_OFF,), script.Read(True, True, (), 0.0)
    whole = [sure, sure._replace(is_right=False), script.Read(True, True, cut, 1.2)]
    halves = [script.Read(False, True, cut, 0.7), script.Read(True, True, (), 5.0)]
    rows = {row["nats"]: row for row in script.counts_of(whole, halves)}
    assert [*rows] == [None, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0]
    assert rows[None] == {"nats": None, "accepted": 2, "right": 1, "halves": 0}
    assert rows[1.5] == rows[None] | {"nats": 1.5}
    assert rows[1.0] == {"nats": 1.0, "accepted": 3, "right": 2, "halves": 0}
    assert rows[0.5] == {"nats": 0.5, "accepted": 3, "right": 2, "halves": 1}


def test_an_image_is_read_as_predict_reads_it(script: ModuleType):
    recogniser = load(backend="onnx")
    images = []
    for height in (60, 44):  # 一 whole, and 口 without its lower side
        picture = Image.new("RGB", (60, height), "white")
        pen = ImageDraw.Draw(picture)
        if height == 60:
            pen.line((8, 30, 52, 28), fill="black", width=5)
        else:
            pen.rectangle((12, 12, 48, 70), outline="black", width=6)
        images.append(picture)
    samples = [script.Sample(str(n), "一", image) for n, image in enumerate(images)]
    reads = script.read(recogniser, samples, images)
    readings = recogniser.predict(images, 1)
    assert [each.remarks for each in reads] == [(), (CUT_OFF,)]
    for measured, reading in zip(reads, readings, strict=True):
        assert measured.remarks == reading.remarks
        assert measured.is_right == (reading[0].character == "一")
        assert measured.is_accepted(CUT_SUPPORT) == (reading.verdict == "accept")
        assert np.isfinite(measured.support)
    assert reads[0].is_right
