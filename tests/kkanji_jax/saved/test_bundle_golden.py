"""A bundle of format version 1 loads for ever, and says what it has always said."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from kkanji_jax.config import FIELDS, default_config, differences, value_of
from kkanji_jax.inference.recogniser import load
from kkanji_jax.model.onnx_graph import model_in_memory
from kkanji_jax.saved.bundle import PARAMS, read_bundle
from kkanji_jax.web.web_page import model_content

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "bundle"
    folder.mkdir()
    for path in GOLDEN.glob("*.gz"):
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return folder


def test_it_reads_what_it_read_when_it_was_written(unpacked: Path):
    recogniser = load(unpacked, backend="onnx")
    glyphs, expected = np.load(GOLDEN / "glyphs.npy"), np.load(GOLDEN / "logits.npy")
    # Another ONNX Runtime may add up in another order.
    np.testing.assert_allclose(recogniser.outputs(glyphs)[0], expected, rtol=1e-3, atol=1e-3)
    assert len(np.unique(expected.argmax(1))) > 1
    (first, *_) = recogniser.predict(glyphs, top_k=7)
    assert {c.codepoint for c in first} >= {"U+795E", "U+FA19", "U+241C6"}
    assert first.verdict in ("accept", "ask", "unknown")
    assert recogniser.accuracy_of("accept") is not None


def test_its_onnx_file_says_the_same(unpacked: Path):
    session = onnxruntime.InferenceSession(str(unpacked / "model.onnx"))
    told: Any = session.run(["logits"], {"images": np.load(GOLDEN / "glyphs.npy")})
    np.testing.assert_allclose(told[0], np.load(GOLDEN / "logits.npy"), rtol=1e-3, atol=1e-3)


def test_what_it_tells_of_itself_is_read(unpacked: Path):
    bundle = read_bundle(unpacked)
    assert bundle.about["step"] == 7 and bundle.about["format_version"] == 1
    assert bundle.train_counts["U+FA19"] == 14 and bundle.config["model"]["variant"] == "nano"


def test_config_fields_that_came_later_have_their_defaults(unpacked: Path):
    config = read_bundle(unpacked).config
    assert differences(config, default_config().to_dict())  # it is a run of its own
    for path, field in FIELDS.items():
        assert field.problem_of(value_of(config, path)) is None, path


def test_the_web_page_and_a_new_graph_are_made_from_it(unpacked: Path):
    bundle = read_bundle(unpacked)
    content = model_content(bundle, unpacked / PARAMS, bundle.about["dtype"])
    assert len(content["blocks"]) == 7
    graph = model_in_memory(bundle.config["model"], bundle.class_index, bundle.variables)
    glyphs = {"images": np.load(GOLDEN / "glyphs.npy")}
    told: Any = onnxruntime.InferenceSession(graph).run(["logits"], glyphs)
    np.testing.assert_allclose(told[0], np.load(GOLDEN / "logits.npy"), rtol=1e-3, atol=1e-3)
