"""Each example is asked about once and in order, however the split is cut into batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kkanji_jax.config import default_config
from kkanji_jax.evaluation import forward
from kkanji_jax.evaluation.forward import Evaluator, join_predictions, predictions_of
from kkanji_jax.model.network import init_variables
from kkanji_jax.parallel.mesh import make_mesh

MODEL = default_config().model.to_dict() | {"variant": "nano", "image_px": 16}


@jax.jit
def coded_step(params, batch_stats, images, labels):
    """Says of each image only what its own first pixels say: a code of the example."""
    code = images[:, 0, 0].astype(jnp.int32) + params + 256 * images[:, 0, 1].astype(jnp.int32)
    top_ids = jnp.stack([code, code + 1, code + 2], axis=1)
    top_probs = jnp.stack([code * 0.5, code * 0.25, code * 0.125], axis=1)
    return {"loss": code - labels + batch_stats, "top_ids": top_ids, "top_probs": top_probs}


def coded_images(n: int) -> np.ndarray:
    images = np.zeros((n, 4, 4), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(n) % 256, np.arange(n) // 256
    return images


@given(st.integers(1, 70), st.sampled_from([8, 16, 64]), st.sampled_from([1, 8]))
def test_each_example_comes_back_once_and_in_order(n: int, batch_size: int, num_devices: int):
    mesh = make_mesh(jax.devices()[:num_devices])
    evaluator = Evaluator(MODEL, 4, mesh=mesh, batch_size=batch_size)
    evaluator._steps[False] = coded_step
    labels = np.arange(n, dtype=np.int32) * 3
    done: list[int] = []
    with jax.transfer_guard("disallow"):
        answers = evaluator.answers(
            np.int32(7), np.float32(0.5), coded_images(n), labels, on_batch=done.append
        )
        predictions = join_predictions([part.predictions for part in answers])
    code = np.arange(n) + 7
    np.testing.assert_array_equal(predictions.labels, labels)
    np.testing.assert_array_equal(predictions.top_ids, np.stack([code, code + 1, code + 2], 1))
    np.testing.assert_array_equal(predictions.top_probs[:, 1], np.float32(code * 0.25))
    np.testing.assert_array_equal(predictions.losses, np.float32(code - labels + 0.5))
    assert done[-1] == n and len(done) == math.ceil(n / batch_size)


def test_the_device_says_what_the_host_makes_of_the_logits(rng: np.random.Generator):
    evaluator = Evaluator(MODEL, 9, mesh=make_mesh(), batch_size=8)
    params, batch_stats = init_variables(MODEL, 9, seed=1)
    images = rng.integers(0, 256, (11, 64, 64)).astype(np.uint8)
    labels = rng.integers(0, 9, 11).astype(np.int32)
    parts = list(evaluator.answers(params, batch_stats, images, labels, has_outputs=True))
    ours = join_predictions([part.predictions for part in parts])
    kept = [part.outputs for part in parts if part.outputs is not None]
    logits, features = (np.concatenate(column) for column in zip(*kept, strict=True))
    kernel, bias = (np.asarray(params["classifier"][name]) for name in ("kernel", "bias"))
    np.testing.assert_allclose(features @ kernel + bias, logits, rtol=1e-4, atol=1e-5)
    assert logits.shape == (11, 9) and ours.top_ids.shape == ours.top_probs.shape == (11, 5)
    hosts = predictions_of(logits, labels)
    np.testing.assert_array_equal(ours.top_ids, hosts.top_ids)
    np.testing.assert_allclose(ours.top_probs, hosts.top_probs, rtol=1e-5)
    np.testing.assert_allclose(ours.losses, hosts.losses, rtol=1e-5)
    without = evaluator.predictions(params, batch_stats, images, labels)
    np.testing.assert_array_equal(without.top_ids, ours.top_ids)
    # Whatever else is in its batch, an image is normalised by the running statistics.
    alone = evaluator.predictions(params, batch_stats, images[:3], labels[:3])
    np.testing.assert_allclose(alone.losses, without.losses[:3], rtol=1e-5)


def test_an_empty_split_and_an_uneven_batch_are_refused():
    mesh = make_mesh()
    with pytest.raises(ValueError, match="divide by 8 devices"):
        Evaluator(MODEL, 4, mesh=mesh, batch_size=12)
    evaluator = Evaluator(MODEL, 4, mesh=mesh, batch_size=8)
    with pytest.raises(ValueError, match="expected images"):
        evaluator.predictions(0, 0, coded_images(0), np.zeros(0, np.int32))


def test_a_step_is_compiled_once_for_each_kind_of_answer(monkeypatch: pytest.MonkeyPatch):
    made: list[bool] = []
    monkeypatch.setattr(
        forward, "_make_eval_step", lambda *parts: made.append(parts[-1]) or coded_step
    )
    evaluator = Evaluator(MODEL, 4, mesh=make_mesh(), batch_size=8)
    for _ in range(2):
        evaluator.predictions(np.int32(0), np.float32(0), coded_images(3), np.zeros(3, np.int32))
    assert made == [False]
