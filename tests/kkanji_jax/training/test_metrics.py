"""What a step counts on the device is what a loop on the host counts."""

import jax.numpy as jnp
import numpy as np

from kkanji_jax.training.metrics import Norms, StepMetrics, add_metrics, batch_sums


def test_batch_sums_count_hits_top5_and_classes(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(40, 9)).astype(np.float32)
    labels = rng.integers(0, 9, 40).astype(np.int32)
    losses = np.arange(40, dtype=np.float32)
    sums = batch_sums(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(losses))
    order = np.argsort(-logits, axis=1)
    assert int(sums.top5) == np.sum((order[:, :5] == labels[:, None]).any(axis=1))
    assert int(sums.hits.sum()) == np.sum(order[:, 0] == labels)
    np.testing.assert_array_equal(sums.true, np.bincount(labels, minlength=9))
    np.testing.assert_array_equal(sums.predicted, np.bincount(order[:, 0], minlength=9))
    assert float(sums.loss) == losses.sum() and int(sums.count) == 40


def test_metrics_of_two_steps_add_up_field_by_field(rng: np.random.Generator) -> None:
    def some() -> StepMetrics:
        logits = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
        labels = jnp.asarray(rng.integers(0, 4, 6), jnp.int32)
        norms = Norms(jnp.int32(1), *(jnp.float32(value) for value in rng.random(3)))
        return StepMetrics(batch_sums(logits, labels, jnp.ones(6)), norms)

    first, second = some(), some()
    both = add_metrics(first, second)
    assert int(both.norms.count) == 2 and int(both.sums.count) == 12
    for name in ("gradient", "update", "weight"):
        parts = [float(getattr(each.norms, name)) for each in (first, second)]
        assert float(getattr(both.norms, name)) == np.float32(sum(map(np.float32, parts)))
    np.testing.assert_array_equal(both.sums.hits, first.sums.hits + second.sums.hits)
