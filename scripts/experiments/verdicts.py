"""What verdicts gain by a support, and which scores tell what a model should not be sure of.

    python scripts/experiments/verdicts.py --model M --dataset DATASET [--unknown PATH] [--add NAME]

Two calibrations are fitted to val: one by the probability alone, and one with a support
(kkanji_jax/evaluation/support.py). Both give verdicts to test, to turned and halved copies of test
images, and to the images of PATH, whose characters the model does not know. A copy that is read as
its image is not counted as wrong. Beside them, scores that were tried are compared by their AUROC:
the chance that a test image has a higher one than an image of the other kind. --add keeps the
summary in docs/results/verdicts/, for results.py.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import summaries
from jaxtyping import Bool, Float64, Int, UInt8
from summaries import write_json

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.data.resident import Split, load_split
from kkanji_jax.data.source_looks import look_of
from kkanji_jax.data.unknown_characters import load_unknown
from kkanji_jax.evaluation import calibration_fit, intervals
from kkanji_jax.evaluation.calibration import (
    ACCEPT,
    CALIBRATED_VERDICTS,
    UNKNOWN,
    Calibration,
    softmax,
    top_probability,
)
from kkanji_jax.evaluation.odd_copies import odd_copies
from kkanji_jax.evaluation.support import Copies, Outputs
from kkanji_jax.evaluation.unknown import auroc
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.saved.trained import kernel_of

SUMMARIES = summaries.SUMMARIES / "verdicts"
BEFORE, AFTER = "by the probability", "with a support"
TURNED_90, TURNED_180, HALVED = "turned by 90°", "turned by 180°", "a half"
OUTSIDE = "outside the index"
# The order of `odd_copies`: 90°, 180° and 270° to the left, and a half.
_KINDS = (TURNED_90, TURNED_180, TURNED_90, HALVED)
_NUM_PRINCIPAL = 512
_ROWS = 512


class Read(NamedTuple):
    """Images, what the network gives for them, and their class ids; -1 for one outside."""

    outputs: Outputs
    labels: Int[np.ndarray, " n"]

    def rows(self, chosen: Any) -> "Read":
        """Some of them."""
        return Read(Outputs(*(part[chosen] for part in self.outputs)), self.labels[chosen])

    @property
    def is_right(self) -> Bool[np.ndarray, " n"]:
        """Whether the best class is that of the image."""
        return self.outputs.logits.argmax(axis=1) == self.labels


def read(recogniser: Recogniser, glyphs: UInt8[np.ndarray, "n 64 64"], labels: Any) -> Read:
    """The network's outputs, a batch at a time."""
    parts = []
    for start in range(0, len(glyphs), _ROWS):
        parts.append(recogniser.outputs(np.ascontiguousarray(glyphs[start : start + _ROWS])))
        print(f"{min(start + _ROWS, len(glyphs)):,} of {len(glyphs):,}", file=sys.stderr)
    return Read(Outputs(*map(np.concatenate, zip(*parts, strict=True))), np.asarray(labels))


def copies_of(recogniser: Recogniser, split: Split) -> tuple[Int[np.ndarray, " m"], Read]:
    """Turned and halved copies, read; and of which row each is one. Labels are those of the row."""
    looks = [look_of(name) for name in split.sample_ids]
    glyphs = np.asarray(split.images).reshape(-1, 64, 64)
    found = odd_copies(glyphs, split.sample_ids, looks)
    return found.rows, read(recogniser, found.glyphs, split.labels[found.rows])


def told_of(verdicts: np.ndarray, is_right: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    """{n, accept, accept_right, accept_wrong, unknown}: shares with intervals."""
    is_accepted, n = verdicts == ACCEPT, len(verdicts)
    num_accepted = int(is_accepted.sum())
    return {
        "n": n,
        "accept": intervals.share(num_accepted, n),
        "accept_right": intervals.share(
            int((is_accepted & is_right).sum()), int(is_accepted.sum())
        ),
        "accept_wrong": intervals.share(int((is_accepted & ~is_right).sum()), n),
        "unknown": intervals.share(int((verdicts == UNKNOWN).sum()), n),
    }


def verdicts_of(
    calibration: Calibration, found: Read, kernel: np.ndarray
) -> tuple[np.ndarray, Float64[np.ndarray, " n"]]:
    """Verdicts, and the score that `unknown` goes by."""
    confidences = top_probability(found.outputs.logits, calibration.temperature)
    supports = calibration.supports_of(*found.outputs, kernel)
    verdicts = np.array(calibration.verdicts(found.outputs.logits, confidences, supports))
    assert set(verdicts) <= set(CALIBRATED_VERDICTS)
    if calibration.familiarity is None or supports is None:
        return verdicts, confidences
    return verdicts, calibration.familiarity.of(confidences, supports)


class Tried:
    """Scores of an image by its outputs, higher for one that the model may be sure of."""

    def __init__(self, val: Outputs, kernel: np.ndarray, temperature: float) -> None:
        self._kernel, self._temperature = kernel, temperature
        features = val.features.astype(np.float64)
        self._mean = features.mean(axis=0)
        covariance = np.cov(features.T)
        values, self._axes = np.linalg.eigh(covariance)
        spread = values + 1e-3 * values.mean()
        self._precision = (self._axes / spread) @ self._axes.T

    def __call__(self, outputs: Outputs) -> dict[str, Float64[np.ndarray, " n"]]:
        """By name; all from one image alone."""
        parts = list(self._by_rows(outputs))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _by_rows(self, outputs: Outputs) -> Iterator[dict[str, Float64[np.ndarray, " n"]]]:
        lengths = np.linalg.norm(self._kernel, axis=0)
        for start in range(0, len(outputs.logits), _ROWS):
            logits = outputs.logits[start : start + _ROWS].astype(np.float64)
            features = outputs.features[start : start + _ROWS].astype(np.float64)
            best = logits.argmax(axis=1)
            second, first = np.partition(logits, -2, axis=1)[:, -2:].T
            shares = softmax(logits, self._temperature)
            moved = features - self._mean
            along = moved @ self._axes[:, :-_NUM_PRINCIPAL]
            size = np.linalg.norm(features, axis=1)
            inner = np.einsum("nd,nd->n", features, self._kernel.T[best])
            product = np.maximum(size * lengths[best], 1e-9)
            yield {
                "probability": shares.max(axis=1),
                "margin of the two largest logits": first - second,
                "entropy": (shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1),
                "largest logit": first,
                "energy": first + np.log(np.exp(logits - first[:, None]).sum(axis=1)),
                "cosine of features and class weights": inner / product,
                "length of the features": size,
                "distance from 512 principal axes": -np.linalg.norm(along, axis=1),
                "Mahalanobis distance": -np.einsum("nd,nd->n", moved @ self._precision, moved),
            }


def summarise(model: str | None, dataset: Path, unknown: Path | None) -> dict[str, Any]:
    """The summary, as plain data."""
    recogniser = load(model, backend="onnx")
    index, kernel = recogniser.class_index, kernel_of(recogniser.trained.params)
    if index.digest != ClassIndex.load(dataset / "index.json").digest:
        raise ValueError(f"{model} was trained on other classes than those of {dataset}")
    splits = {name: load_split(dataset, name) for name in ("val", "test")}
    found = {
        name: read(recogniser, np.asarray(split.images).reshape(-1, 64, 64), split.labels)
        for name, split in splits.items()
    }
    rows, copies = copies_of(recogniser, splits["val"])
    looks = {name: [look_of(i) for i in split.sample_ids] for name, split in splits.items()}
    val = found["val"]
    evidence = calibration_fit.Evidence(val.outputs.features, kernel, Copies(rows, copies.outputs))
    calibrations = {
        name: calibration_fit.fit(
            val.outputs.logits,
            val.labels,
            weights=recogniser.weights,
            fitted_on={},
            groups=looks["val"],
            evidence=given,
        )
        for name, given in ((BEFORE, None), (AFTER, evidence))
    }
    of_look = np.array(looks["test"])
    test = {"test": found["test"]}
    test |= {f"test, {look}": found["test"].rows(of_look == look) for look in np.unique(of_look)}
    _, copies = copies_of(recogniser, splits["test"])
    kinds = np.repeat(_KINDS, len(copies.labels) // len(_KINDS))
    odd = {kind: copies.rows(kinds == kind) for kind in dict.fromkeys(_KINDS)}
    if unknown is not None:
        images = load_unknown(unknown, index, 5000).images
        odd[OUTSIDE] = read(recogniser, images, np.full(len(images), -1))
    verdicts, scores = {}, {}
    for name, calibration in calibrations.items():
        given = {
            what: verdicts_of(calibration, part, kernel) for what, part in (test | odd).items()
        }
        verdicts[name] = {
            what: told_of(given[what][0], part.is_right) for what, part in (test | odd).items()
        }
        if name == AFTER:
            scores["familiarity"] = {what: given[what][1] for what in given}
    tried = Tried(val.outputs, kernel, calibrations[BEFORE].temperature)
    for what, part in (test | odd).items():
        for name, values in tried(part.outputs).items():
            scores.setdefault(name, {})[what] = values
    photographed = "test, photographed"
    against = [("test", kind) for kind in odd]
    if unknown is not None and photographed in test:
        against.append((photographed, OUTSIDE))
    return {
        "version": 1,
        "dataset_fingerprint": load_manifest(dataset)["fingerprint"],
        "step": recogniser.step,
        "weights": recogniser.weights,
        "verdicts": verdicts,
        "auroc": [
            {
                "score": name,
                "by_kind": [
                    {"known": known, "kind": kind, "value": auroc(of[known], of[kind])}
                    for known, kind in against
                ],
            }
            for name, of in scores.items()
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="M", help="a run or a bundle (default: the package's)")
    parser.add_argument("--dataset", type=Path, required=True, metavar="DATASET")
    parser.add_argument("--unknown", type=Path, metavar="PATH", help="as for kkanji_jax.evaluate")
    parser.add_argument("--add", metavar="NAME", help="keep the summary under this name")
    args = parser.parse_args(argv)
    try:
        summary = summarise(args.model, args.dataset, args.unknown)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    for name, rows in summary["verdicts"].items():
        print(name)
        for what, told in rows.items():
            shares = {key: summaries.told(told[key]) for key in told if key != "n"}
            print(f"  {what}: " + "; ".join(f"{key} {share}" for key, share in shares.items()))
    for row in summary["auroc"]:
        told = [f"{e['kind']} {e['value']:.3f} (against {e['known']})" for e in row["by_kind"]]
        print(f"{row['score']}: {', '.join(told)}")
    if args.add:
        write_json(SUMMARIES / f"{args.add}.json", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
