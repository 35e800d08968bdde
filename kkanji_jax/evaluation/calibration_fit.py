"""Fits a calibration to val: the temperature, the thresholds and the support. NumPy only."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kkanji_jax.array_types import Bool, Float, Float64, Int
from kkanji_jax.evaluation import support as support_lib
from kkanji_jax.evaluation.calibration import (
    ACCEPT,
    ASK,
    CALIBRATED_VERDICTS,
    UNKNOWN,
    Calibration,
    Familiarity,
    Logits,
    centred_rows,
    decide,
    log_odds,
    row_slices,
    top_probability,
)
from kkanji_jax.evaluation.counts import TOP_K
from kkanji_jax.evaluation.support import Copies, Support

ACCEPT_ACCURACY = 0.99  # the accuracy that accepted answers should have
GROUP_ACCEPT_ACCURACY = 0.93  # the same for each part of val, such as its photographs
UNKNOWN_SHARE = 0.03  # the share of val that is called unknown, although all of it is in the index
ACCEPT_LOSS = 0.01  # the share of accepted answers of a group that the least support may cost
COPIES_WEIGHT = 0.1  # of odd copies, against all of val, where familiarity is fitted
SMALL_PENALTY = 1e-4  # of familiarity: finite where a line parts the examples
LEAST_LIKELY = 0.3  # less probable answers are not accepted anyway, and left out of the support
LEAST_EXAMPLES = 20  # fewer cannot show an accuracy of 99 %
MOST_EXAMPLES = 100_000  # the logits of a million need 16 GB, with 3,910 characters
INVERSE_TEMPERATURES = (0.05, 5.0)  # limits of the search, reached if val has no error


class Evidence(NamedTuple):
    """What a support is fitted to: features of the examples, and odd copies of some of them."""

    features: Float[np.ndarray, "n d"]
    kernel: Float[np.ndarray, "d k"]  # the classifier's weights
    copies: Copies


def rows_to_fit(sample_ids: Sequence[str]) -> Int[np.ndarray, " m"]:
    """The rows of the examples that a calibration is fitted to: at most MOST_EXAMPLES, in order.

    Of more, those whose ids have the smallest SHA-256: a share of each class and each source.
    """
    if len(sample_ids) <= MOST_EXAMPLES:
        return np.arange(len(sample_ids))
    digests = [hashlib.sha256(name.encode()).digest() for name in sample_ids]
    chosen = sorted(range(len(sample_ids)), key=digests.__getitem__)[:MOST_EXAMPLES]
    return np.array(sorted(chosen), np.int64)


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


class Aims(NamedTuple):
    """What thresholds are chosen for, as shares of val."""

    accept_accuracy: float = ACCEPT_ACCURACY  # that accepted answers should have
    group_accept_accuracy: float = GROUP_ACCEPT_ACCURACY  # the same for each group
    unknown_share: float = UNKNOWN_SHARE  # that is called unknown, although the index has all of it


AIMS = Aims()


def fit(
    logits: Logits,
    labels: Int[np.ndarray, " n"],
    *,
    weights: str,
    fitted_on: Mapping[str, Any],
    aims: Aims = AIMS,
    groups: Sequence[str] | None = None,
    evidence: Evidence | None = None,
) -> Calibration:
    """Fits temperature and thresholds to held-out examples at their natural frequency.

    Examples are ordered by their highest probability. The lowest share, `aims.unknown_share`, is
    `unknown`. From the top, as many as possible are `accept` while the share `aims.accept_accuracy`
    of them is right. The rest is `ask`. With `groups`, a name for each example, the share
    `aims.group_accept_accuracy` of the accepted examples of each name must be right as well, if the
    name has at least LEAST_EXAMPLES. `fitted_on` describes the examples; n, and that of each group,
    is added to it.

    With `evidence`, a support is fitted as well, unless there are too few examples or copies. Then
    `unknown` goes by the familiarity, and accepted examples have at least a support that all but
    the share ACCEPT_LOSS of those of each group have. What is stated is of examples whose support
    was fitted without them, on the other half.

    ValueError for fewer than LEAST_EXAMPLES examples, and for logits that are not finite.
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
    backing = None
    if evidence is not None:
        backing = _fit_backing(logits, labels, confidences, names, evidence, temperature)
    scored = _Scored(confidences, is_right, names, backing)
    chosen = _choose_thresholds(scored, aims, has_groups=groups is not None)
    verdicts = np.array(chosen.verdicts(scored))
    stated = verdict_scores(verdicts, is_right, _in_top5(logits, labels))
    stated[ACCEPT] |= {"threshold": chosen.accept, "aims_at_accuracy": aims.accept_accuracy}
    stated[ASK] |= {"threshold": None}
    stated[UNKNOWN] |= {"threshold": chosen.unknown, "aims_at_share": aims.unknown_share}
    told = {**fitted_on, "num_examples": len(labels)}
    if groups is not None:
        told["num_examples_by_group"] = _sizes_of(names)
    if backing is not None:
        stated[ACCEPT]["least_support"] = chosen.least_support
        told["num_odd_copies"] = backing.num_copies
    return Calibration(
        temperature,
        weights,
        stated,
        told,
        support=backing.support if backing is not None else None,
        familiarity=backing.familiarity if backing is not None else None,
    )


class _Backing(NamedTuple):
    """A support and what follows from it; `supports` are of examples that it was not fitted on."""

    support: Support
    familiarity: Familiarity
    supports: Float64[np.ndarray, " n"]
    num_copies: int


class _Scored(NamedTuple):
    """What thresholds are chosen from: the scores of each example, and whether it is read right."""

    confidences: Float64[np.ndarray, " n"]  # highest calibrated probabilities
    is_right: Bool[np.ndarray, " n"]
    names: np.ndarray  # of its group
    backing: _Backing | None

    @property
    def known(self) -> Float64[np.ndarray, " n"]:
        """What `unknown` goes by: the familiarity; without a support, the confidence."""
        if self.backing is None:
            return self.confidences
        return self.backing.familiarity.of(self.confidences, self.backing.supports)


class _Thresholds(NamedTuple):
    """The lowest scores that are accepted, and that are not unknown."""

    accept: float | None  # None: nothing is accepted
    unknown: float
    least_support: float | None  # None: without a support

    def verdicts(self, scored: _Scored) -> list[str]:
        """The verdict of each example."""
        confidences = scored.confidences
        if scored.backing is not None and self.least_support is not None:
            has_support = scored.backing.supports >= self.least_support
            confidences = np.where(has_support, confidences, -np.inf)
        return decide(confidences, scored.known, self.accept, self.unknown)


def _choose_thresholds(scored: _Scored, aims: Aims, *, has_groups: bool) -> _Thresholds:
    """Thresholds by which the examples meet the aims, also in each group if there are any."""
    confidences, known = scored.confidences, scored.known
    unknown = float(np.quantile(known, aims.unknown_share, method="higher"))
    is_candidate = known >= unknown
    large = [name for name, size in _sizes_of(scored.names).items() if size >= LEAST_EXAMPLES]
    groups = [scored.names == name for name in large] if has_groups else []

    def lowest_accepted(among: Bool[np.ndarray, " n"]) -> float | None:
        parts = [(inside[among], aims.group_accept_accuracy) for inside in groups]
        right = scored.is_right[among]
        return accept_threshold(confidences[among], right, aims.accept_accuracy, parts)

    accept = lowest_accepted(is_candidate)
    if scored.backing is None:
        return _Thresholds(accept, unknown, None)
    supports = scored.backing.supports
    is_accepted = is_candidate & (confidences >= (np.inf if accept is None else accept))
    least_support = _least_support(supports, is_accepted, scored.names)
    accept = lowest_accepted(is_candidate & (supports >= least_support))
    return _Thresholds(accept, unknown, least_support)


def _sizes_of(names: np.ndarray) -> dict[str, int]:
    """How many examples each group has, in the order of the names."""
    found, sizes = np.unique(names, return_counts=True)
    return dict(zip(found.tolist(), sizes.tolist(), strict=True))


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
    for name in CALIBRATED_VERDICTS:
        chosen = verdicts == name
        n = int(chosen.sum())
        found[name] = {
            "n": n,
            "coverage": n / len(verdicts),
            "accuracy": float(is_right[chosen].mean()) if n else None,
            "top5_accuracy": float(is_in_top5[chosen].mean()) if n else None,
        }
    return found


def _loss_slope(
    logits: Logits, labels: Int[np.ndarray, " n"], inverse: float
) -> tuple[float, float]:
    """First and second derivative of the summed loss by the inverse temperature."""
    slope = curvature = 0.0
    for rows in row_slices(len(logits)):
        centred = centred_rows(logits[rows])
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
