"""One exact pass over a split, and its scores: each with the n it rests on and an interval."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Shaped, UInt8

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.class_sizes import CLASS_SIZES, class_size_bucket
from kkanji_jax.evaluation import intervals
from kkanji_jax.evaluation.calibration import softmax
from kkanji_jax.evaluation.metrics import TOP_K, weighted_and_macro
from kkanji_jax.evaluation.reliability import BINNING, NUM_BINS, bins_of, calibration_error
from kkanji_jax.parallel import mesh as mesh_lib

_SHARES = ("top1", "top5", "weighted_recall", "macro_recall")


class Predictions(NamedTuple):
    """What a network says of each example of a split, in the split's order."""

    labels: Int32[np.ndarray, " n"]
    top_ids: Int32[np.ndarray, "n t"]  # most probable classes, best first
    top_probs: Float32[np.ndarray, "n t"]
    losses: Float32[np.ndarray, " n"]  # cross-entropy in nats


class _Cases(NamedTuple):
    """Per example, all that a score needs; resampling weighs the rows."""

    labels: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    hits: Bool[np.ndarray, " n"]
    top5_hits: Bool[np.ndarray, " n"]
    losses: Float[np.ndarray, " n"]
    confidences: Float[np.ndarray, " n"]
    bins: Int[np.ndarray, " n"]  # of confidence
    num_classes: int


# --- the pass ----------------------------------------------------------------------------------


def predict_split(
    eval_step: Callable[..., Mapping[str, Array]],
    params: Any,
    batch_stats: Any,
    images: UInt8[np.ndarray, "n h w"],
    labels: Int32[np.ndarray, " n"],
    *,
    batch_size: int,
    mesh: Mesh,
    on_batch: Callable[[int], None] | None = None,
) -> Predictions:
    """Runs `eval_step` over all images, each exactly once and in order; see `run_split`."""
    if len(images) != len(labels):
        raise ValueError(f"wanted a label for each of {len(images)} images, got {len(labels)}")
    parts = [
        results
        for _, results in run_split(
            eval_step,
            params,
            batch_stats,
            (images, labels),
            batch_size=batch_size,
            mesh=mesh,
            on_batch=on_batch,
        )
    ]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Predictions(
        labels=np.asarray(labels, np.int32),
        top_ids=joined["top_ids"].astype(np.int32),
        top_probs=joined["top_probs"].astype(np.float32),
        losses=joined["loss"].astype(np.float32),
    )


def run_split(
    step: Callable[..., Any],
    params: Any,
    batch_stats: Any,
    columns: tuple[Shaped[np.ndarray, "n ..."], ...],
    *,
    batch_size: int,
    mesh: Mesh,
    on_batch: Callable[[int], None] | None = None,
) -> Iterator[tuple[slice, Any]]:
    """Yields (rows, step(params, batch_stats, *columns[rows]) on the host), in order.

    `columns` are images and whatever else `step` takes by example. The last batch is padded, and
    its padding dropped; `batch_size` shrinks to a smaller split. All copies between host and device
    are explicit. `on_batch` is told the number of examples done. Raises ValueError on an empty
    split or a batch that does not divide by the devices of `mesh`.
    """
    num_examples = len(columns[0])
    if not num_examples:
        raise ValueError("wanted images to run the network on, got none")
    mesh_lib.check_divides(batch_size, mesh)
    batch_size = min(batch_size, -(-num_examples // mesh.size) * mesh.size)
    params, batch_stats = mesh_lib.replicate((params, batch_stats), mesh)
    pending: list[tuple[slice, Any]] = []

    def fetch() -> tuple[slice, Any]:
        rows, results = pending.pop(0)
        num_valid = rows.stop - rows.start
        host = jax.tree.map(lambda leaf: np.asarray(leaf)[:num_valid], jax.device_get(results))
        if on_batch:
            on_batch(rows.stop)
        return rows, host

    for start in range(0, num_examples, batch_size):
        rows = slice(start, min(start + batch_size, num_examples))
        batch = tuple(_padded(column[rows], batch_size) for column in columns)
        pending.append((rows, step(params, batch_stats, *mesh_lib.split_whole(batch, mesh))))
        if len(pending) > 1:  # fetch one batch while the device works on the next
            yield fetch()
    while pending:
        yield fetch()


def predictions_of(
    logits: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], temperature: float = 1.0
) -> Predictions:
    """What logits / `temperature` say; a tie goes to the smaller class id, as in argmax."""
    top_ids = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    probabilities = softmax(logits, temperature)
    top_probs = np.take_along_axis(probabilities, top_ids, axis=1)
    true = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0].astype(np.float64)
    best = np.take_along_axis(logits, top_ids[:, :1], axis=1)[:, 0].astype(np.float64)
    return Predictions(
        labels=np.asarray(labels, np.int32),
        top_ids=top_ids.astype(np.int32),
        top_probs=top_probs.astype(np.float32),
        losses=((best - true) / temperature - np.log(top_probs[:, 0])).astype(np.float32),
    )


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """The parts of a split, one after the other."""
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    padding = [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return np.pad(rows, padding)


# --- the scores --------------------------------------------------------------------------------


def summarise(
    predictions: Predictions,
    class_index: ClassIndex,
    train_counts: Mapping[str, int],
    *,
    split: str,
    weights: str,
    seed: int = 0,
    num_bootstrap: int = 1000,
) -> dict[str, Any]:
    """The content of eval.json: plain numbers, every score as {value, n, ci95}.

    `train_counts` is the number of training originals of each codepoint. Intervals are percentiles
    over `num_bootstrap` seeded resamples of the examples; a share that no resample can vary (all
    right, or all wrong) gets the exact binomial bound instead. Macro means run over the classes
    that have an example; `by_class_size` groups classes by their training originals.
    """
    cases = _cases_of(predictions, len(class_index))
    num_examples = len(cases.labels)
    value = _scores(cases, np.ones(num_examples))
    samples = intervals.bootstrap(
        lambda times: _scores(cases, times),
        num_examples,
        np.random.default_rng(seed),
        num_bootstrap,
    )

    def scored(name: str, n: int = num_examples, **more: Any) -> dict[str, Any]:
        is_mean = name.startswith("macro_")
        drawn = intervals.recentred(samples[name], value[name]) if is_mean else samples[name]
        interval = intervals.percentile_interval(drawn)
        if name in _SHARES:
            interval = intervals.share_interval(drawn, value[name], n)
        return {"value": _plain(value[name]), "n": n, "ci95": interval, **more}

    present = np.unique(cases.labels)
    content: dict[str, Any] = {
        "split": split,
        "num_examples": num_examples,
        "num_classes": len(class_index),
        "num_classes_with_examples": len(present),
        "weights": weights,
        "top1": scored("top1"),
        "top5": scored("top5"),
        "macro": scored("macro_recall", classes=len(present)),
    }
    for name in ("precision", "recall", "f1"):
        content[f"macro_{name}"] = scored(f"macro_{name}", classes=len(present))
        content[f"weighted_{name}"] = scored(f"weighted_{name}")
    content["loss"] = scored("loss", unit="nats")
    content["by_class_size"] = by_class_size(
        cases.labels, cases.predicted, class_index, train_counts, seed, num_bootstrap
    )
    content["ece"] = scored("ece", bins=NUM_BINS, binning=BINNING)
    content["intervals"] = {
        "level": intervals.LEVEL,
        "method": intervals.METHOD,
        "num_bootstrap": num_bootstrap,
        "seed": seed,
    }
    return content


def by_class_size(
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    class_index: ClassIndex,
    train_counts: Mapping[str, int],
    seed: int = 0,
    num_bootstrap: int = 1000,
) -> list[dict[str, Any]]:
    """Top-1 by the number of training originals of a class, a row for each of CLASS_SIZES.

    Rows are {min, max, classes, classes_with_examples, n, top1, ci95}; a row without an example
    has None for its score. Intervals as in `summarise`.
    """
    missing = [c for c in class_index.codepoints if c not in train_counts]
    if missing:
        raise ValueError(f"wanted training counts of every class, got none of {missing[0]}")
    row_of_class = np.array([class_size_bucket(train_counts[c]) for c in class_index.codepoints])
    rng = np.random.default_rng(seed)
    rows = []
    for row, (least, most) in enumerate(CLASS_SIZES):
        is_inside = row_of_class[labels] == row
        right = int((is_inside & (labels == predicted)).sum())
        score = intervals.share(right, int(is_inside.sum()), rng, num_bootstrap)
        rows.append({
            "min": least,
            "max": most,
            "classes": int((row_of_class == row).sum()),
            "classes_with_examples": len(np.unique(labels[is_inside])),
            "n": score["n"],
            "top1": score["value"],
            "ci95": score["ci95"],
        })  # fmt: skip
    return rows


def _cases_of(predictions: Predictions, num_classes: int) -> _Cases:
    labels, top_ids, top_probs, losses = predictions
    if not len(labels):
        raise ValueError("scores need at least one example, got none")
    if min(labels.min(), top_ids.min()) < 0 or max(labels.max(), top_ids.max()) >= num_classes:
        raise ValueError(f"wanted class ids in [0, {num_classes}), got others: another class index")
    confidences = top_probs[:, 0].astype(np.float64)
    hits = top_ids[:, 0] == labels
    return _Cases(
        labels=labels,
        predicted=top_ids[:, 0],
        hits=hits,
        top5_hits=(top_ids[:, :TOP_K] == labels[:, None]).any(axis=1),
        losses=losses.astype(np.float64),
        confidences=confidences,
        bins=bins_of(confidences),
        num_classes=num_classes,
    )


def _scores(cases: _Cases, times: Shaped[np.ndarray, " n"]) -> dict[str, float]:
    """Every score with example i counted `times[i]` times."""
    times = times.astype(np.float64)
    hit_times = times * cases.hits
    total = times.sum()  # sums, not dot products: BLAS would wake its threads for each
    columns = ((cases.labels, times), (cases.predicted, times), (cases.labels, hit_times))
    true, predicted, hits = (
        np.bincount(ids, counts, minlength=cases.num_classes).astype(np.int64)
        for ids, counts in columns
    )
    scores = weighted_and_macro(true, predicted, hits)
    scores["top1"] = float(hit_times.sum() / total)
    scores["top5"] = float((times * cases.top5_hits).sum() / total)
    scores["loss"] = float((times * cases.losses).sum() / total)
    scores["ece"] = calibration_error(cases.confidences, cases.hits, cases.bins, times)
    return scores


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
