"""One image or many, in whatever form: the same reading, and never more than a few programs."""

import pickle
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import kkanji_jax
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.calibration import Calibration, Familiarity, softmax
from kkanji_jax.evaluation.support import Support
from kkanji_jax.glyphs.image_files import load_image
from kkanji_jax.inference.jax_backend import BATCH_SIZES, JaxBackend
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.inputs.note import Note
from kkanji_jax.model.network import make_graphdef, make_logits_fn
from kkanji_jax.saved import trained
from kkanji_jax.saved.checkpoint import load_variables
from kkanji_jax.saved.trained import Trained


@pytest.fixture(scope="module")
def recogniser(tiny_run) -> Recogniser:
    return load(tiny_run.workdir)


def glyph_files(tiny_run, count: int) -> list[Path]:
    return sorted(tiny_run.source.rglob("*.png"))[:count]


def test_candidates_are_the_softmax_of_the_average_weights(tiny_run, recogniser: Recogniser):
    files = glyph_files(tiny_run, 5)
    images = np.stack([load_image(file) for file in files])
    loaded = load_variables(tiny_run.workdir)
    model = loaded.meta["config"]["model"]
    logits_fn = make_logits_fn(make_graphdef(model, 6), model["image_px"])
    logits, features = logits_fn(loaded.ema_params, loaded.ema_batch_stats, jax.device_put(images))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for row, candidates in enumerate(recogniser.predict(files, top_k=6)):
        ids = [recogniser.class_index.id_of(c.codepoint) for c in candidates]
        assert sorted(ids) == list(range(6))
        probabilities = [c.probability for c in candidates]
        np.testing.assert_allclose(probabilities, expected[row, ids], rtol=1e-4)
        assert probabilities == sorted(probabilities, reverse=True)
        assert [c.rank for c in candidates] == [1, 2, 3, 4, 5, 6]
        assert all(
            c.character == recogniser.class_index.character(i)
            for c, i in zip(candidates, ids, strict=True)
        )
    np.testing.assert_allclose(recogniser.embed(images), features, rtol=1e-4, atol=1e-5)


def test_what_was_learnt_is_read(tiny_run, recogniser: Recogniser):
    files = glyph_files(tiny_run, 144)
    readings = recogniser.predict(files, top_k=1)
    right = [c.codepoint == f.parent.name for f, (c,) in zip(files, readings, strict=True)]
    assert np.mean(right) > 0.7


def test_raw_weights_read_otherwise_and_are_named(tiny_run, recogniser: Recogniser):
    file = glyph_files(tiny_run, 1)[0]
    raw = load(tiny_run.workdir, weights="raw")
    assert (recogniser.weights, raw.weights, raw.step) == ("ema", "raw", 7)
    assert not np.allclose(raw.embed(file), recogniser.embed(file))


def test_every_form_of_the_same_image_is_read_alike(tiny_run, recogniser: Recogniser):
    file = glyph_files(tiny_run, 1)[0]
    image = Image.open(file)
    array = np.asarray(image)
    forms = [
        file,
        str(file),
        image,
        array,
        [array],
        (file,),
        iter([file]),
        array[None],
        array[..., None],
        array[None, ..., None],
        255 - array,
        np.repeat(array[..., None], 3, 2),
    ]
    expected = recogniser.predict(file)[0]
    for form in forms:
        (candidates,) = recogniser.predict(form)
        assert candidates == expected


@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_padding_a_batch_changes_no_reading(count: int, tiny_run, recogniser: Recogniser):
    files = glyph_files(tiny_run, count)
    together = recogniser.embed(files)
    assert together.shape == (count, recogniser.embed(glyph_files(tiny_run, 1)).shape[1])
    assert together.dtype == np.float32
    assert len(recogniser.predict(files)) == count
    for row, file in enumerate(files[:3]):
        # Another batch size is another program: equal but for float32's rounding.
        np.testing.assert_allclose(together[row], recogniser.embed(file)[0], rtol=1e-4, atol=1e-5)


def test_more_images_than_a_batch_holds_keep_their_order(tiny_run, recogniser: Recogniser):
    glyphs = np.stack([load_image(file) for file in glyph_files(tiny_run, 100)])
    many = np.concatenate([glyphs, glyphs])
    features = recogniser.embed(many)
    np.testing.assert_allclose(features[:100], features[100:], rtol=1e-4, atol=1e-5)
    assert len(np.unique(features.round(4), axis=0)) > 90
    assert isinstance(recogniser._run, JaxBackend)
    assert recogniser._run._compiled <= set(BATCH_SIZES)


def test_the_package_loads_models_too(tiny_run):
    assert isinstance(kkanji_jax.load(str(tiny_run.workdir)), Recogniser)


# --- the best of many ----------------------------------------------------------------------------


def recogniser_of(num_classes: int, calibration: Calibration | None) -> Recogniser:
    """One without a network, to be given logits."""
    index = ClassIndex.from_codepoints(f"U+{0x4E00 + n:04X}" for n in range(num_classes))
    trained = Trained(Path("nowhere"), True, {}, index, {}, {}, "ema", 0, {}, {}, None, None)
    return Recogniser(trained, lambda glyphs: (glyphs, glyphs), calibration)


def with_features(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a network would give: no calibration without a support looks at the features."""
    return logits, np.zeros((len(logits), 3), np.float32)


def sorted_whole(logits: np.ndarray, ids: np.ndarray, top_k: int, temperature: float) -> list:
    """Class ids and probabilities by a stable sort and a softmax of all classes in float64."""
    kept = logits.astype(np.float64).take(ids, axis=1)
    order = np.argsort(-kept, axis=1, kind="stable")[:, :top_k]
    shares = softmax(kept, temperature)
    return [
        [(int(ids[column]), float(own[column])) for column in columns]
        for columns, own in zip(order, shares, strict=True)
    ]


@given(data=st.data())
def test_the_best_are_those_of_a_whole_sort_to_the_bit(data: st.DataObject):
    num_classes = data.draw(st.integers(1, 300))
    top_k = data.draw(st.integers(1, 12) | st.just(num_classes) | st.just(num_classes + 1))
    num_rows = data.draw(st.integers(0, 40))
    levels = data.draw(st.sampled_from([1, 2, 5, 50, 10**6]))  # few: ties everywhere
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    logits = (rng.integers(-levels, levels, (num_rows, num_classes)) * 0.37).astype(np.float32)
    temperature = data.draw(st.sampled_from([1.0, 0.83, 2.0]))
    is_calibrated = data.draw(st.booleans())
    version = data.draw(st.sampled_from([1, 2]))
    stated: dict = {"accept": {"threshold": 0.3}, "ask": {}, "unknown": {"threshold": 0.1}}
    calibration = Calibration(temperature, "ema", stated, {}, version)
    recogniser = recogniser_of(num_classes, calibration if is_calibrated else None)
    ids, characters = np.arange(num_classes), None
    if data.draw(st.booleans()):
        ids = np.flatnonzero(rng.random(num_classes) < 0.5)
        ids = ids if len(ids) else np.array([0])
        characters = [chr(0x4E00 + i) for i in ids]
    glyphs = np.full((num_rows, 64, 64), 255, np.uint8)
    glyphs[1::7] = 0
    readings = recogniser.readings_of(with_features(logits), glyphs, top_k, characters=characters)
    expected = sorted_whole(logits, ids, top_k, temperature if is_calibrated else 1.0)
    told = [[(ord(c.character) - 0x4E00, c.probability) for c in r] for r in readings]
    assert told == [[] if row % 7 == 1 else content for row, content in enumerate(expected)]
    assert all([c.rank for c in r] == list(range(1, len(r) + 1)) for r in readings)
    assert all(c.codepoint == f"U+{ord(c.character):04X}" for r in readings for c in r)
    wide = logits.astype(np.float64)
    verdicts = calibration.verdicts(wide) if is_calibrated else [""] * num_rows
    for row, reading in enumerate(readings):
        verdict = verdicts[row]
        if verdict and expected[row][0][0] != wide[row].argmax():
            verdict = "unknown"
        assert reading.verdict == ("blank" if row % 7 == 1 else verdict)


def test_what_is_remarkable_is_not_accepted_and_what_is_in_trouble_has_no_candidates():
    stated: dict = {"accept": {"threshold": 0.3}, "ask": {}, "unknown": {"threshold": 0.1}}
    recogniser = recogniser_of(4, Calibration(1.0, "ema", stated, {}, 2))
    logits = np.tile(np.array([9, 0, 0, 0], np.float32), (4, 1))
    glyphs = np.full((4, 64, 64), 255, np.uint8)
    notes = [Note(), Note("", ("several characters",)), Note("unclear"), Note("blank")]
    readings = recogniser.readings_of(with_features(logits), glyphs, notes=notes)
    assert [reading.verdict for reading in readings] == ["accept", "ask", "unclear", "blank"]
    assert [len(reading) for reading in readings] == [4, 4, 0, 0]
    assert readings[1].remarks == ("several characters",)


KERNEL = np.array([[1, 0, 0], [1, 0, 0]], np.float32)


def recogniser_with_support() -> tuple[Recogniser, Calibration]:
    """Its classifier has KERNEL; the second feature counts for the support, the first against."""
    stated: dict = {
        "accept": {"threshold": 0.9, "least_support": 0.0},
        "ask": {},
        "unknown": {"threshold": -5.0},
    }
    support = Support(np.array([-1, 2], np.float32), -1.0)
    calibration = Calibration(1.0, "ema", stated, {}, 3, support, Familiarity(0.0, 0.5, 1.0))
    recogniser = recogniser_of(3, calibration)
    trained = recogniser.trained._replace(params={"classifier": {"kernel": KERNEL}})
    return Recogniser(trained, recogniser._run, calibration), calibration


def test_a_probable_reading_that_few_features_support_is_not_accepted():
    recogniser, calibration = recogniser_with_support()
    features = np.array([[4, 4], [8, 0], [20, 0], [2, 0]], np.float32)
    outputs = (features @ KERNEL, features)
    # Supports 3, -9, -21, -3; familiarity is half of the log odds and the support.
    readings = recogniser.readings_of(outputs, np.full((4, 64, 64), 255, np.uint8))
    assert [reading.verdict for reading in readings] == ["accept", "unknown", "unknown", "ask"]
    assert readings[2][0].probability > 0.9999
    again = pickle.loads(pickle.dumps(calibration))
    supports = again.supports_of(*outputs, KERNEL)
    assert again.verdicts(outputs[0], supports=supports) == [r.verdict for r in readings]


def test_strokes_that_seem_cut_off_are_accepted_only_with_much_support():
    recogniser, _ = recogniser_with_support()
    features = np.array([[8, 5.7], [8, 5.8], [8, 5.8], [8, 5.8]], np.float32)  # 2.4 and 2.6 nats
    cut = ("cut off at the side",)
    notes = [Note("", remarks) for remarks in (cut, cut, (*cut, "few pixels"), ("few pixels",))]
    glyphs = np.full((4, 64, 64), 255, np.uint8)
    readings = recogniser.readings_of((features @ KERNEL, features), glyphs, notes=notes)
    assert [reading.verdict for reading in readings] == ["ask", "accept", "ask", "ask"]
    assert [reading.remarks for reading in readings] == [note.remarks for note in notes]


def test_without_a_support_strokes_that_seem_cut_off_are_not_accepted():
    stated: dict = {"accept": {"threshold": 0.3}, "ask": {}, "unknown": {"threshold": 0.1}}
    recogniser = recogniser_of(4, Calibration(1.0, "ema", stated, {}, 2))
    logits, glyphs = np.array([[9, 0, 0, 0]], np.float32), np.full((1, 64, 64), 255, np.uint8)
    notes = [Note("", ("cut off at the side",))]
    (reading,) = recogniser.readings_of(with_features(logits), glyphs, notes=notes)
    assert reading.verdict == "ask"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused(bad: float):
    logits = np.zeros((2, 5), np.float32)
    logits[1, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        recogniser_of(5, None).readings_of(with_features(logits), np.zeros((2, 64, 64), np.uint8))


def test_a_top_k_of_nothing_is_refused(tiny_run, recogniser: Recogniser):
    with pytest.raises(ValueError, match="top_k of at least 1"):
        recogniser.predict(glyph_files(tiny_run, 1), top_k=0)


def test_what_is_no_model_is_named(tmp_path: Path, tiny_run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trained, "PRETRAINED", tmp_path / "gone")
    with pytest.raises(ValueError, match="the package's model is missing"):
        load(None)
    with pytest.raises(ValueError, match="no model at .*missing"):
        load(tmp_path / "missing")
    with pytest.raises(ValueError, match="neither a run .* nor a bundle"):
        load(tmp_path)
    (tmp_path / "params.npz").touch()
    with pytest.raises(ValueError, match="has no SHA256SUMS"):
        load(tmp_path)
    with pytest.raises(ValueError, match="ema or raw"):
        load(tiny_run.workdir, weights="average")
