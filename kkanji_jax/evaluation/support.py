"""Whether all that a character has speaks for a reading, or some of it only: NumPy only.

The logit of a class is the sum of what each feature adds to it, feature times weight: the evidence.
A whole, upright character adds much the same everywhere; one that lies turned, half a character or
one that the network does not know can reach a high logit, and a high probability, by a few features
alone. A linear discriminant of the evidence for the best class tells them apart. It is fitted by
logistic regression to images as they are against turned and halved copies of them, which are
examples of what the network should not be sure of: outlier exposure, Hendrycks et al.,
arXiv:1812.04606, with the network left as it is.
"""

from typing import Any, NamedTuple

import numpy as np

from kkanji_jax.array_types import Bool, Float, Float32, Float64, Int

PENALTY = 0.1  # of squared standardised weights, by the weight of all examples
_STEPS = 50
_ROWS = 1024  # at a time

Features = Float[np.ndarray, "n d"]
Kernel = Float[np.ndarray, "d k"]  # the classifier's weights


class Outputs(NamedTuple):
    """What the network gives for some images."""

    logits: Float[np.ndarray, "n k"]
    features: Features


class Copies(NamedTuple):
    """Copies of examples that are no whole, upright characters, and the network's output."""

    rows: Int[np.ndarray, " m"]  # of which example each is a copy
    outputs: Outputs


class Support(NamedTuple):
    """The discriminant: nats for a whole, upright character that the network knows."""

    weights: Float32[np.ndarray, " d"]
    bias: float

    def of(
        self, features: Features, best: Int[np.ndarray, " n"], kernel: Kernel
    ) -> Float64[np.ndarray, " n"]:
        """The log odds of each image; `best` is the class of its largest logit."""
        found = np.empty(len(features))
        for start in range(0, len(features), _ROWS):
            rows = slice(start, start + _ROWS)
            found[rows] = evidence(features[rows], best[rows], kernel) @ self.weights
        return found + self.bias

    def to_json(self) -> dict[str, Any]:
        """{weights, bias}; a weight has as many digits as tell float32 numbers apart."""
        weights = [float(f"{float(weight):.9g}") for weight in self.weights]
        return {"weights": weights, "bias": self.bias}


def evidence(
    features: Features, best: Int[np.ndarray, " n"], kernel: Kernel
) -> Float32[np.ndarray, "n d"]:
    """What each feature adds to the logit of the class `best`."""
    return (features * kernel.take(best, axis=1).T).astype(np.float32, copy=False)


def fit_support(
    whole: Float32[np.ndarray, "n d"],
    odd: Float32[np.ndarray, "m d"],
    weights: Float[np.ndarray, " n"],
) -> Support:
    """The discriminant of the evidence of `whole` and `odd` images; both sides weigh alike.

    `weights` are those of the whole images, up to a factor.
    """
    examples = np.concatenate([whole, odd])
    mean, spread = examples.mean(axis=0), examples.std(axis=0)
    spread = np.where(spread > 0, spread, 1).astype(np.float32)
    examples -= mean
    examples /= spread
    of_whole = weights * (len(odd) / weights.sum())
    importance = np.concatenate([of_whole, np.ones(len(odd))])
    is_whole = np.arange(len(examples)) < len(whole)
    found = logistic(examples, is_whole, importance, PENALTY)
    standardised = found[1:] / spread
    return Support(standardised.astype(np.float32), float(found[0] - standardised @ mean))


def logistic(
    examples: Float[np.ndarray, "n d"],
    is_positive: Bool[np.ndarray, " n"],
    importance: Float[np.ndarray, " n"],
    penalty: float,
) -> Float64[np.ndarray, " d1"]:
    """The bias and the weights of a logistic regression with squared weights penalised.

    The loss is convex; Newton's steps, halved while they do not lower it, find its least.
    """
    design = np.concatenate([np.ones((len(examples), 1), examples.dtype), examples], axis=1)
    strength = np.full(design.shape[1], penalty * importance.sum())
    strength[0] = 0
    sign = np.where(is_positive, 1.0, -1.0)

    def loss(candidate: Float64[np.ndarray, " d1"]) -> float:
        margins = sign * (design @ candidate.astype(design.dtype))
        return float(importance @ np.logaddexp(0, -margins) + strength @ candidate**2 / 2)

    found = np.zeros(design.shape[1])
    least = loss(found)
    for _ in range(_STEPS):
        shares = 1 / (1 + np.exp(-(design @ found.astype(design.dtype)).astype(np.float64)))
        slope = design.T @ (importance * (shares - is_positive)).astype(design.dtype)
        curvature = (importance * shares * (1 - shares)).astype(design.dtype)
        hessian = (design.T @ (design * curvature[:, None])).astype(np.float64)
        hessian[np.diag_indices_from(hessian)] += strength + 1e-9 * importance.sum()
        step = np.linalg.solve(hessian, slope + strength * found)
        while (reached := loss(found - step)) > least and np.abs(step).max() > 1e-6:
            step /= 2
        if reached > least:
            break
        is_done = least - reached <= 1e-7 * abs(least)
        found, least = found - step, reached
        if is_done:
            break
    return found
