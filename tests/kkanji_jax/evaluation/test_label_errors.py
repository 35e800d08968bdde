"""A planted wrong label is found, and a hard image is not taken for one."""

import numpy as np

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.forward import predictions_of
from kkanji_jax.evaluation.label_errors import find_suspects


def test_planted_wrong_labels_come_first(rng: np.random.Generator):
    k, n = 8, 400
    truth = rng.integers(0, k, n)
    logits = rng.normal(0, 1, (n, k)).astype(np.float32)
    logits[np.arange(n), truth] += rng.uniform(4, 8, n).astype(np.float32)
    labels = truth.copy()
    planted = rng.choice(n, 12, replace=False)
    labels[planted] = (labels[planted] + 1) % k
    index = ClassIndex.from_codepoints(f"U+{0x4E00 + i:04X}" for i in range(k))
    suspects = find_suspects(predictions_of(logits, labels), index)
    found = {suspect.row for suspect in suspects}
    assert found <= set(planted.tolist()) and len(found) >= 6  # those read with usual certainty
    for suspect in suspects:
        assert suspect.predicted_id == truth[suspect.row] != suspect.true_id
        assert suspect.predicted_probability > suspect.label_probability
    margins = [suspect.margin for suspect in suspects]
    assert margins == sorted(margins, reverse=True)
    assert len(find_suspects(predictions_of(logits, labels), index, most=2)) == 2


def test_an_unsure_error_is_no_suspect():
    # Class 0 is read at 0.9 as a rule; the last example is read as 0 at 0.4.
    probabilities = np.array([[0.9, 0.05, 0.05]] * 5 + [[0.4, 0.3, 0.3]])
    labels = np.array([0] * 5 + [1])
    index = ClassIndex.from_codepoints(["U+4E00", "U+4E01", "U+4E02"])
    readings = predictions_of(np.log(probabilities).astype(np.float32), labels)
    assert find_suspects(readings, index) == []
