"""Images whose label the model contradicts with high probability: possible label errors."""

from typing import NamedTuple

import numpy as np

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.evaluation.forward import Predictions

MOST = 200


class Suspect(NamedTuple):
    """An example predicted as another class, with at least that class's usual probability."""

    row: int
    true_id: int
    predicted_id: int
    label_probability: float
    predicted_probability: float
    margin: float  # log of predicted over label probability


def find_suspects(
    predictions: Predictions, class_index: ClassIndex, most: int = MOST
) -> list[Suspect]:
    """The examples most likely to be mislabelled, largest margin first; ties in order of rows.

    As in confident learning (Northcutt et al., arXiv:1911.00068), an example is suspected if its
    predicted class gets at least the probability that the examples of this class get on average. A
    class without examples gives no suspects.
    """
    labels, predicted = predictions.labels, predictions.top_ids[:, 0]
    label_probability = np.exp(-predictions.losses.astype(np.float64))
    num_classes = len(class_index)
    counts = np.bincount(labels, minlength=num_classes)
    own = np.bincount(labels, label_probability, minlength=num_classes)
    usual = np.divide(own, counts, out=np.full(num_classes, np.inf), where=counts > 0)
    predicted_probability = predictions.top_probs[:, 0].astype(np.float64)
    margins = np.log(predicted_probability) + predictions.losses
    is_suspected = (predicted != labels) & (predicted_probability >= usual[predicted])
    (rows,) = np.nonzero(is_suspected)
    rows = rows[np.argsort(-margins[rows], kind="stable")][:most]
    return [
        Suspect(
            int(row),
            int(labels[row]),
            int(predicted[row]),
            float(label_probability[row]),
            float(predicted_probability[row]),
            float(margins[row]),
        )
        for row in rows
    ]
