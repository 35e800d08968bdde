"""Calibrated probabilities, and verdicts of known accuracy, NumPy only.

`calibration_fit.fit` makes a calibration of val.

Version 1 told characters outside the index by `standardised_logit`; version 2, and version 3 where
val has too few images for a support, decide by the highest probability alone. Otherwise version 3
also has the support of `support.py`: an image is accepted that has both, a probability and a
support, and is unknown by the two together, its familiarity.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kkanji_jax.array_types import Float, Float64, Int
from kkanji_jax.evaluation.support import Support

VERSION = 3
VERSIONS = (1, 2, VERSION)
FILE_NAME = "calibration.json"
ACCEPT, ASK, UNKNOWN = "accept", "ask", "unknown"
CALIBRATED_VERDICTS = (ACCEPT, ASK, UNKNOWN)  # a reading may have others: inference.reading
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


class Calibration(NamedTuple):
    """Turns logits into probabilities and verdicts; made by `calibration_fit.fit` or `load`.

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
        for name in CALIBRATED_VERDICTS:
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
            return decide(confidences, known, accept, unknown)
        if supports is None:
            raise ValueError("a calibration with a support needs those of the images, got none")
        least = self.stated[ACCEPT]["least_support"]
        known = self.familiarity.of(confidences, supports)
        return decide(np.where(supports < least, -np.inf, confidences), known, accept, unknown)

    def accuracy_of(self, verdict: str) -> float | None:
        """Top-1 accuracy on val of the examples with this verdict; None if there were none."""
        if verdict not in CALIBRATED_VERDICTS:
            raise ValueError(
                f"expected a verdict of {', '.join(CALIBRATED_VERDICTS)}, got {verdict!r}"
            )
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
    shifted = centred_rows(logits) / temperature
    np.exp(shifted, out=shifted)
    return shifted / shifted.sum(axis=1, keepdims=True)


def softmax_sums(logits: Logits, temperature: float = 1.0) -> Float64[np.ndarray, " n"]:
    """What `softmax` divides by: the sum over each row of exp((logit - largest) / temperature)."""
    found = np.empty(len(logits))
    for rows in row_slices(len(logits)):
        shifted = centred_rows(logits[rows])
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
    for rows in row_slices(len(logits)):
        wide = logits[rows].astype(np.float64)
        spread = wide.std(axis=1)
        above = wide.max(axis=1) - wide.mean(axis=1)
        np.divide(above, spread, out=found[rows], where=spread > 0)
    return found


def mean_loss(logits: Logits, labels: Int[np.ndarray, " n"], temperature: float = 1.0) -> float:
    """Mean cross-entropy of the labels in nats."""
    total = 0.0
    for rows in row_slices(len(logits)):
        scaled = centred_rows(logits[rows]) / temperature
        true = np.take_along_axis(scaled, labels[rows, None], axis=1)[:, 0]
        total += float((np.log(np.exp(scaled).sum(axis=1)) - true).sum())
    return total / len(logits)


def decide(
    confidences: Float[np.ndarray, " n"],
    known: Float[np.ndarray, " n"],
    accept: float | None,
    unknown: float,
) -> list[str]:
    """The verdict of each image, from its two scores and their thresholds."""
    is_sure = confidences >= (np.inf if accept is None else accept)
    verdicts = np.where(is_sure, ACCEPT, ASK)
    return np.where(known < unknown, UNKNOWN, verdicts).tolist()


def centred_rows(logits: Logits) -> Float64[np.ndarray, "n k"]:
    """Logits less the largest of each row, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True, initial=-np.inf)
    return wide


def row_slices(n: int) -> Iterator[slice]:
    """Slices of `n` rows, each small enough for the cache."""
    return (slice(start, start + _ROWS) for start in range(0, n, _ROWS))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
