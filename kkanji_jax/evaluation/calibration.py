"""Calibrated probabilities, and verdicts of known accuracy: fitted on val, NumPy only.

Version 1 told characters outside the index by `standardised_logit`; version 2, and version 3 where
val has too few images for a support, decide by the highest probability alone. Otherwise version 3
also has the support of `support.py`: an image is accepted that has both, a probability and a
support, and is unknown by the two together, its familiarity.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kkanji_jax.array_types import Bool, Float, Float64, Int
from kkanji_jax.evaluation import support as support_lib
from kkanji_jax.evaluation.support import Copies, Support

VERSION = 3
VERSIONS = (1, 2, VERSION)
FILE_NAME = "calibration.json"
ACCEPT, ASK, UNKNOWN = "accept", "ask", "unknown"
VERDICTS = (ACCEPT, ASK, UNKNOWN)
ACCEPT_ACCURACY = 0.99  # the accuracy that accepted answers should have
GROUP_ACCEPT_ACCURACY = 0.93  # the same for each part of val, such as its photographs
UNKNOWN_SHARE = 0.03  # the share of val that is called unknown, although all of it is in the index
ACCEPT_LOSS = 0.01  # the share of accepted answers of a group that the least support may cost
COPIES_WEIGHT = 0.1  # of odd copies, against all of val, where familiarity is fitted
SMALL_PENALTY = 1e-4  # of familiarity: finite where a line parts the examples
LEAST_LIKELY = 0.3  # less probable answers are not accepted anyway, and left out of the support
LEAST_EXAMPLES = 20  # fewer cannot show an accuracy of 99 %
INVERSE_TEMPERATURES = (0.05, 5.0)  # limits of the search, reached if val has no error
TOP_K = 5
_ROWS = 32  # rows of logits at a time, so that intermediate arrays stay in the cache
_STATED = {"threshold", "accuracy", "coverage", "n"}

Logits = Float[np.ndarray, "n k"]


class Familiarity(NamedTuple):
    """Log odds that an image is of a known character and read right, from its two scores."""

    bias: float
    of_log_odds: float  # of the highest calibrated probability
    of_support: float

    def of(
        self, confidences: Float[np.ndarray, " n"], supports: Float[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """The familiarity of each image."""
        odds = log_odds(confidences)
        return self.bias + self.of_log_odds * odds + self.of_support * supports


class Evidence(NamedTuple):
    """What a support is fitted to: features of the examples, and odd copies of some of them."""

    features: Float[np.ndarray, "n d"]
    kernel: Float[np.ndarray, "d k"]  # the classifier's weights
    copies: Copies


class Calibration(NamedTuple):
    """Turns logits into probabilities and verdicts; made by `fit` or `load`.

    `stated` has for each verdict {threshold, accuracy, top5_accuracy, coverage, n} as measured on
    val. accept.threshold is the lowest calibrated probability that is accepted (None: nothing is),
    and unknown.threshold the lowest of a character that is taken to be in the index; in version 1
    it is the lowest `standardised_logit`. With a support, accept.least_support is the lowest that
    is accepted, and unknown.threshold the lowest familiarity.
    """

    temperature: float
    weights: str  # ema or raw: the weights that it was fitted on
    stated: dict[str, dict[str, Any]]
    fitted_on: dict[str, Any]
    version: int = VERSION
    support: Support | None = None
    familiarity: Familiarity | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Reads calibration.json. ValueError for a damaged file or another version."""
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except ValueError as err:
            raise ValueError(
                f"cannot read {path}: {err}; write it anew with kkanji_jax.evaluate --of val"
            ) from err

    @classmethod
    def from_json(cls, content: Any) -> "Calibration":
        """The inverse of `to_json`; ValueError names what is missing or impossible."""
        found = content.get("version") if isinstance(content, dict) else content
        if not isinstance(content, dict) or found not in VERSIONS:
            raise ValueError(f"expected a calibration of version 1 to {VERSION}, got {found!r}")
        missing = {"temperature", "weights", "verdicts", "fitted_on"} - content.keys()
        if missing:
            raise ValueError(f"the calibration lacks {', '.join(sorted(missing))}")
        temperature, stated = content["temperature"], content["verdicts"]
        if not _is_number(temperature) or temperature <= 0:
            raise ValueError(f"expected a positive temperature, got {temperature!r}")
        for name in VERDICTS:
            if not isinstance(stated.get(name), dict) or not _STATED <= stated[name].keys():
                raise ValueError(f"the calibration lacks {', '.join(sorted(_STATED))} of {name}")
        accept, unknown = (stated[name]["threshold"] for name in (ACCEPT, UNKNOWN))
        if not (accept is None or _is_number(accept)) or not _is_number(unknown):
            raise ValueError(f"expected numbers for thresholds, got {accept!r} and {unknown!r}")
        fitted_on = content["fitted_on"]
        support, familiarity = _support_in(content)
        return cls(
            float(temperature), content["weights"], stated, fitted_on, found, support, familiarity
        )

    def to_json(self) -> dict[str, Any]:
        """The content of calibration.json."""
        content: dict[str, Any] = {
            "version": self.version,
            "temperature": self.temperature,
            "weights": self.weights,
            "verdicts": self.stated,
            "fitted_on": self.fitted_on,
        }
        if self.support is not None and self.familiarity is not None:
            content["familiarity"] = self.familiarity._asdict()
            content["support"] = self.support.to_json()
        return content

    def probabilities(self, logits: Logits) -> Float64[np.ndarray, "n k"]:
        """Softmax of logits / temperature; each row sums to 1."""
        return softmax(logits, self.temperature)

    def supports_of(
        self,
        logits: Logits,
        features: Float[np.ndarray, "n d"],
        kernel: Float[np.ndarray, "d k"],
    ) -> Float64[np.ndarray, " n"] | None:
        """The support of each image; None for a calibration without one.

        `kernel` holds the classifier's weights. ValueError if the support is of other features.
        """
        if self.support is None:
            return None
        if len(self.support.weights) != features.shape[1]:
            raise ValueError(
                f"the calibration has a support of {len(self.support.weights)} features and the "
                f"network {features.shape[1]}: they are not of one run; evaluate --of val again"
            )
        return self.support.of(features, logits.argmax(axis=1), kernel)

    def verdicts(
        self,
        logits: Logits,
        confidences: Float[np.ndarray, " n"] | None = None,
        supports: Float[np.ndarray, " n"] | None = None,
    ) -> list[str]:
        """One of accept, ask and unknown for each row.

        `confidences` are the highest calibrated probabilities, where they are known already, and
        `supports` those of `supports_of`.
        """
        if confidences is None:
            confidences = top_probability(logits, self.temperature)
        known = standardised_logit(logits) if self.version == 1 else confidences
        return self.verdicts_at(confidences, known, supports)

    def verdicts_at(
        self,
        confidences: Float[np.ndarray, " n"],
        standardised: Float[np.ndarray, " n"],
        supports: Float[np.ndarray, " n"] | None = None,
    ) -> list[str]:
        """`verdicts` of the highest calibrated probabilities, standardised logits and supports."""
        accept, unknown = (self.stated[name]["threshold"] for name in (ACCEPT, UNKNOWN))
        known = standardised if self.version == 1 else confidences
        if self.familiarity is None:
            return _decide(confidences, known, accept, unknown)
        if supports is None:
            raise ValueError("a calibration with a support needs those of the images, got none")
        least = self.stated[ACCEPT]["least_support"]
        known = self.familiarity.of(confidences, supports)
        return _decide(np.where(supports < least, -np.inf, confidences), known, accept, unknown)

    def accuracy_of(self, verdict: str) -> float | None:
        """Top-1 accuracy on val of the examples with this verdict; None if there were none."""
        if verdict not in VERDICTS:
            raise ValueError(f"expected a verdict of {', '.join(VERDICTS)}, got {verdict!r}")
        return self.stated[verdict]["accuracy"]


def _support_in(content: Mapping[str, Any]) -> tuple[Support | None, Familiarity | None]:
    """What a calibration of version 3 has besides; ValueError if a part is missing or no number."""
    if content["version"] < VERSION or "support" not in content:
        return None, None
    support, familiarity = content["support"], content.get("familiarity")
    least = content["verdicts"][ACCEPT].get("least_support")
    weights = support.get("weights") if isinstance(support, dict) else None
    told = familiarity if isinstance(familiarity, dict) else {}
    if (
        not isinstance(weights, list)
        or not weights
        or told.keys() != set(Familiarity._fields)
        or not all(map(_is_number, [*weights, support.get("bias"), *told.values(), least]))
    ):
        raise ValueError(
            "expected a support of weights and a bias, a familiarity of "
            f"{', '.join(Familiarity._fields)}, and least_support of accept, all numbers"
        )
    return (
        Support(np.array(weights, np.float32), float(support["bias"])),
        Familiarity(**{name: float(told[name]) for name in Familiarity._fields}),
    )


# --- scores from logits ---------------------------------------------------------------------------


def softmax(logits: Logits, temperature: float = 1.0) -> Float64[np.ndarray, "n k"]:
    """Probabilities of logits / temperature."""
    shifted = _centred(logits) / temperature
    np.exp(shifted, out=shifted)
    return shifted / shifted.sum(axis=1, keepdims=True)


def softmax_sums(logits: Logits, temperature: float = 1.0) -> Float64[np.ndarray, " n"]:
    """What `softmax` divides by: the sum over each row of exp((logit - largest) / temperature)."""
    found = np.empty(len(logits))
    for rows in _slices(len(logits)):
        shifted = _centred(logits[rows])
        shifted /= temperature
        found[rows] = np.exp(shifted, out=shifted).sum(axis=1)
    return found


def top_probability(logits: Logits, temperature: float = 1.0) -> Float64[np.ndarray, " n"]:
    """The highest of the probabilities of each row."""
    # The largest logit is 0 once centred, and exp(0) is 1.
    return 1 / softmax_sums(logits, temperature)


def log_odds(confidences: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """log(p / (1 - p)), of probabilities up to 1 - 1e-9."""
    shares = np.clip(confidences.astype(np.float64), 1e-300, 1 - 1e-9)
    return np.log(shares) - np.log1p(-shares)


def standardised_logit(logits: Logits) -> Float64[np.ndarray, " n"]:
    """(largest - mean) / standard deviation of each row of logits; 0 for a row of equal ones.

    Calibrations of version 1 used it to detect characters outside the index. It is a little better
    than the highest probability on images of the same books, and far worse on photographs of other
    books (docs/RESULTS.md).
    """
    found = np.zeros(len(logits))
    for rows in _slices(len(logits)):
        wide = logits[rows].astype(np.float64)
        spread = wide.std(axis=1)
        above = wide.max(axis=1) - wide.mean(axis=1)
        np.divide(above, spread, out=found[rows], where=spread > 0)
    return found


def mean_loss(logits: Logits, labels: Int[np.ndarray, " n"], temperature: float = 1.0) -> float:
    """Mean cross-entropy of the labels in nats."""
    total = 0.0
    for rows in _slices(len(logits)):
        scaled = _centred(logits[rows]) / temperature
        true = np.take_along_axis(scaled, labels[rows, None], axis=1)[:, 0]
        total += float((np.log(np.exp(scaled).sum(axis=1)) - true).sum())
    return total / len(logits)


# --- fitting -----------------------------------------------------------------------------------


def fit_temperature(logits: Logits, labels: Int[np.ndarray, " n"]) -> float:
    """The temperature in [0.2, 20] of least mean cross-entropy (Guo et al., arXiv:1706.04599).

    The loss is convex in 1 / temperature, so Newton's step inside a shrinking bracket finds it.
    """
    low, high = INVERSE_TEMPERATURES
    inverse = 1.0
    for _ in range(100):
        slope, curvature = _loss_slope(logits, labels, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        following = inverse - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = float(np.sqrt(low * high))
        if abs(following - inverse) <= 1e-9 * inverse:
            break
        inverse = following
    return 1 / inverse


def fit(
    logits: Logits,
    labels: Int[np.ndarray, " n"],
    *,
    weights: str,
    fitted_on: Mapping[str, Any],
    accept_accuracy: float = ACCEPT_ACCURACY,
    unknown_share: float = UNKNOWN_SHARE,
    groups: Sequence[str] | None = None,
    evidence: Evidence | None = None,
) -> Calibration:
    """Fits temperature and thresholds to held-out examples at their natural frequency.

    Examples are ordered by their highest probability. The lowest share, `unknown_share`, is
    `unknown`. From the top, as many as possible are `accept` while the share `accept_accuracy` of
    them is right. The rest is `ask`. With `groups`, a name for each example, the share
    GROUP_ACCEPT_ACCURACY of the accepted examples of each name must be right as well, if the name
    has at least LEAST_EXAMPLES. `fitted_on` describes the examples; n, and that of each group, is
    added to it.

    With `evidence`, a support is fitted as well, unless there are too few examples or copies. Then
    `unknown` goes by the familiarity, and accepted examples have at least a support that all but
    the share ACCEPT_LOSS of those of each group have. What is stated is of examples whose support
    was fitted without them, on the other half.
    """
    if len(logits) < LEAST_EXAMPLES or len(logits) != len(labels):
        raise ValueError(
            f"a calibration needs {LEAST_EXAMPLES} labelled examples or more, got {len(logits)} "
            f"and {len(labels)} labels: build the dataset with a larger share of val"
        )
    if not np.isfinite(logits).all():
        raise ValueError("expected finite logits, got others: the model is damaged")
    temperature = fit_temperature(logits, labels)
    confidences = top_probability(logits, temperature)
    is_right = logits.argmax(axis=1) == labels
    names = np.array(groups if groups is not None else [""] * len(labels), str)
    sizes = {str(name): int((names == name).sum()) for name in np.unique(names)}
    backing = None
    if evidence is not None:
        backing = _fit_backing(logits, labels, confidences, names, evidence, temperature)
    known = confidences
    if backing is not None:
        known = backing.familiarity.of(confidences, backing.supports)
    unknown = float(np.quantile(known, unknown_share, method="higher"))
    is_candidate = known >= unknown

    def lowest_accepted(among: Bool[np.ndarray, " n"]) -> float | None:
        parts = [
            ((names == name)[among], GROUP_ACCEPT_ACCURACY)
            for name, size in sizes.items()
            if groups is not None and size >= LEAST_EXAMPLES
        ]
        return accept_threshold(confidences[among], is_right[among], accept_accuracy, parts)

    accept = lowest_accepted(is_candidate)
    least_support = None
    if backing is not None:
        supports = backing.supports
        is_accepted = is_candidate & (confidences >= (np.inf if accept is None else accept))
        least_support = _least_support(supports, is_accepted, names)
        accept = lowest_accepted(is_candidate & (supports >= least_support))
    decided = confidences
    if backing is not None:
        decided = np.where(backing.supports < least_support, -np.inf, confidences)
    verdicts = np.array(_decide(decided, known, accept, unknown))
    stated = verdict_scores(verdicts, is_right, _in_top5(logits, labels))
    stated[ACCEPT] |= {"threshold": accept, "aims_at_accuracy": accept_accuracy}
    stated[ASK] |= {"threshold": None}
    stated[UNKNOWN] |= {"threshold": unknown, "aims_at_share": unknown_share}
    fitted_on = {**fitted_on, "num_examples": len(labels)}
    if groups is not None:
        fitted_on["num_examples_by_group"] = sizes
    if backing is None:
        return Calibration(temperature, weights, stated, fitted_on)
    stated[ACCEPT]["least_support"] = least_support
    fitted_on["num_odd_copies"] = backing.num_copies
    return Calibration(
        temperature,
        weights,
        stated,
        fitted_on,
        support=backing.support,
        familiarity=backing.familiarity,
    )


class _Backing(NamedTuple):
    """A support and what follows from it; `supports` are of examples that it was not fitted on."""

    support: Support
    familiarity: Familiarity
    supports: Float64[np.ndarray, " n"]
    num_copies: int


def _fit_backing(
    logits: Logits,
    labels: Int[np.ndarray, " n"],
    confidences: Float[np.ndarray, " n"],
    names: np.ndarray,
    evidence: Evidence,
    temperature: float,
) -> _Backing | None:
    """The support of examples against their odd copies; None if there are too few of either.

    A copy that is read as its example, as 口 is on its side, is none. A group weighs as the root of
    its size, so that photographs, few of val, are not taken for odd.
    """
    copies, kernel = evidence.copies, evidence.kernel
    best, copies_best = logits.argmax(axis=1), copies.outputs.logits.argmax(axis=1)
    copies_confidences = top_probability(copies.outputs.logits, temperature)
    is_odd = copies_best != labels[copies.rows]
    is_likely = confidences >= LEAST_LIKELY
    is_likely_odd = is_odd & (copies_confidences >= LEAST_LIKELY)
    of_whole = support_lib.evidence(evidence.features, best, kernel)
    of_copies = support_lib.evidence(copies.outputs.features, copies_best, kernel)
    _, group, sizes = np.unique(names, return_inverse=True, return_counts=True)
    importance = 1 / np.sqrt(sizes[group])

    def fitted(whole: Bool[np.ndarray, " n"], odd: Bool[np.ndarray, " m"]) -> Support | None:
        whole, odd = whole & is_likely, odd & is_likely_odd
        if min(whole.sum(), odd.sum()) < LEAST_EXAMPLES:
            return None
        return support_lib.fit_support(of_whole[whole], of_copies[odd], importance[whole])

    support = fitted(np.ones(len(labels), bool), np.ones(len(copies.rows), bool))
    supports, copies_supports = np.zeros(len(labels)), np.zeros(len(copies.rows))
    half, half_of_copies = np.arange(len(labels)) % 2, copies.rows % 2
    for other in (0, 1):
        found = fitted(half != other, half_of_copies != other)
        if support is None or found is None:
            return None
        mine, my_copies = half == other, half_of_copies == other
        supports[mine] = of_whole[mine] @ found.weights + found.bias
        copies_supports[my_copies] = of_copies[my_copies] @ found.weights + found.bias
    scores = np.stack(
        [
            np.append(log_odds(confidences), log_odds(copies_confidences[is_odd])),
            np.append(supports, copies_supports[is_odd]),
        ],
        axis=1,
    )
    is_good = np.append(best == labels, np.zeros(int(is_odd.sum()), bool))
    each = COPIES_WEIGHT * len(labels) / is_odd.sum()
    weights = np.append(np.ones(len(labels)), np.full(int(is_odd.sum()), each))
    familiarity = Familiarity(
        *support_lib.logistic(scores, is_good, weights, SMALL_PENALTY).tolist()
    )
    return _Backing(support, familiarity, supports, len(copies.rows))


def _least_support(
    supports: Float[np.ndarray, " n"], is_accepted: Bool[np.ndarray, " n"], names: np.ndarray
) -> float:
    """The support that all but ACCEPT_LOSS of the accepted examples of each group have."""
    found = [
        float(np.quantile(supports[inside], ACCEPT_LOSS, method="lower"))
        for name in np.unique(names)
        if (inside := is_accepted & (names == name)).sum() >= LEAST_EXAMPLES
    ]
    return min(found, default=float(supports.min()))


def accept_threshold(
    confidences: Float[np.ndarray, " n"],
    is_right: Bool[np.ndarray, " n"],
    accuracy: float,
    parts: Sequence[tuple[Bool[np.ndarray, " n"], float]] = (),
) -> float | None:
    """The lowest confidence such that examples with it or more are right as often as `accuracy`.

    For each of the `parts`, (its examples, an accuracy), its examples with that confidence or more
    must also be right as often as the accuracy of the part. None if no threshold is high enough.
    Equal confidences are accepted together or not at all.
    """
    order = np.argsort(-confidences, kind="stable")
    sorted_confidences = confidences[order]
    passes = np.append(sorted_confidences[1:] != sorted_confidences[:-1], True)
    for inside, expected in ((np.ones(len(order), bool), accuracy), *parts):
        counts = np.cumsum(inside[order])
        right = np.cumsum((inside & is_right)[order])
        passes &= (counts == 0) | (right / np.maximum(counts, 1) >= expected)
    (passing,) = np.nonzero(passes)
    return float(sorted_confidences[passing[-1]]) if passing.size else None


def verdict_scores(
    verdicts: np.ndarray, is_right: Bool[np.ndarray, " n"], is_in_top5: Bool[np.ndarray, " n"]
) -> dict[str, dict[str, Any]]:
    """For each verdict the n that got it, their share, top-1 and top-5 accuracy."""
    found = {}
    for name in VERDICTS:
        chosen = verdicts == name
        n = int(chosen.sum())
        found[name] = {
            "n": n,
            "coverage": n / len(verdicts),
            "accuracy": float(is_right[chosen].mean()) if n else None,
            "top5_accuracy": float(is_in_top5[chosen].mean()) if n else None,
        }
    return found


def _decide(
    confidences: Float[np.ndarray, " n"],
    known: Float[np.ndarray, " n"],
    accept: float | None,
    unknown: float,
) -> list[str]:
    is_sure = confidences >= (np.inf if accept is None else accept)
    verdicts = np.where(is_sure, ACCEPT, ASK)
    return np.where(known < unknown, UNKNOWN, verdicts).tolist()


def _loss_slope(
    logits: Logits, labels: Int[np.ndarray, " n"], inverse: float
) -> tuple[float, float]:
    """First and second derivative of the summed loss by the inverse temperature."""
    slope = curvature = 0.0
    for rows in _slices(len(logits)):
        centred = _centred(logits[rows])
        weights = np.exp(centred * inverse)
        weights /= weights.sum(axis=1, keepdims=True)
        mean = (weights * centred).sum(axis=1)
        true = np.take_along_axis(centred, labels[rows, None], axis=1)[:, 0]
        slope += float((mean - true).sum())
        curvature += float(((weights * centred**2).sum(axis=1) - mean**2).sum())
    return slope, curvature


def _in_top5(logits: Logits, labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    return (logits > true).sum(axis=1) < TOP_K


def _centred(logits: Logits) -> Float64[np.ndarray, "n k"]:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True, initial=-np.inf)
    return wide


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, n, _ROWS))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
