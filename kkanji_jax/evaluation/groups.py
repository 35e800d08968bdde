"""The scores of parts of a split: script, look, source, official test, forms of a character."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.scripts import script_of
from kkanji_jax.data.source_looks import look_of
from kkanji_jax.evaluation import intervals
from kkanji_jax.evaluation.counts import TOP_K
from kkanji_jax.evaluation.forward import Predictions

FormsOf = Callable[[str], Iterable[str]]  # code point -> code points that count as the same

# Their own class maps, and the size of their official tests.
K49 = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねの"
    "はひふへほまみむめもやゆよらりるれろわゐゑをんゝ"
)
KMNIST = "おきすつなはまやれを"
OFFICIAL_TESTS = {"k49-test": (K49, 38_547, "balanced"), "kmnist-test": (KMNIST, 10_000, "top1")}


def group_scores(
    labels: Int[np.ndarray, " n"],
    top_ids: Int[np.ndarray, "n t"],
    num_classes: int,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """{n, classes_with_examples, top1, top5, macro} of some examples, each score {value, n, ci95}.

    macro is the mean recall of the classes that have an example.
    """
    n = len(labels)
    rng = np.random.default_rng(seed)
    hits = top_ids[:, 0] == labels
    in_top5 = (top_ids[:, :TOP_K] == labels[:, None]).any(axis=1)
    return {
        "n": n,
        "classes_with_examples": len(np.unique(labels)),
        "top1": intervals.share(int(hits.sum()), n),
        "top5": intervals.share(int(in_top5.sum()), n),
        "macro": macro_recall(labels, hits, num_classes, rng, num_bootstrap),
    }


def macro_recall(
    labels: Int[np.ndarray, " n"],
    hits: Bool[np.ndarray, " n"],
    num_classes: int,
    rng: np.random.Generator,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """{value, n, ci95, classes} of the mean recall over the classes with an example."""
    n = len(labels)
    if not n:
        return {"value": None, "n": 0, "ci95": None, "classes": 0}

    def mean_recall(times: Int[np.ndarray, " n"]) -> dict[str, float]:
        true = np.bincount(labels, times, minlength=num_classes)
        right = np.bincount(labels, times * hits, minlength=num_classes)
        present = true > 0
        return {"macro": float((right[present] / true[present]).mean())}

    value = mean_recall(np.ones(n, np.int64))["macro"]
    drawn = intervals.bootstrap(mean_recall, n, rng, num_bootstrap)["macro"]
    return {
        "value": value,
        "n": n,
        "ci95": intervals.mean_interval(drawn, value, n),
        "classes": len(np.unique(labels)),
    }


def by_group(
    names: Sequence[str],
    predictions: Predictions,
    num_classes: int,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> list[dict[str, Any]]:
    """`group_scores` of the examples of each name, in the order of the names."""
    all_names = np.array(names)
    rows = []
    for name in sorted(set(names)):
        inside = all_names == name
        scores = group_scores(
            predictions.labels[inside],
            predictions.top_ids[inside],
            num_classes,
            seed=seed,
            num_bootstrap=num_bootstrap,
        )
        rows.append({"name": name, **scores})
    return rows


def by_script(
    predictions: Predictions,
    class_index: ClassIndex,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> list[dict[str, Any]]:
    """A row for kana, kanji and others, if there are any."""
    scripts = [script_of(codepoint) for codepoint in class_index.codepoints]
    names = [scripts[label] for label in predictions.labels]
    return by_group(names, predictions, len(class_index), seed=seed, num_bootstrap=num_bootstrap)


def looks_and_scripts(
    sample_ids: Sequence[str], predictions: Predictions, class_index: ClassIndex
) -> list[str]:
    """The look and script of each example, such as `photographed kana`."""
    scripts = [script_of(codepoint) for codepoint in class_index.codepoints]
    return [
        f"{look_of(sample_id)} {scripts[label]}"
        for sample_id, label in zip(sample_ids, predictions.labels, strict=True)
    ]


def by_source(
    sample_ids: Sequence[str],
    predictions: Predictions,
    num_classes: int,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> list[dict[str, Any]]:
    """A row for each source, which is the part of a sample id before the first slash."""
    names = [sample_id.split("/")[0] for sample_id in sample_ids]
    return by_group(names, predictions, num_classes, seed=seed, num_bootstrap=num_bootstrap)


# --- official tests ----------------------------------------------------------------------------


def official_columns(source: str, class_index: ClassIndex) -> Int[np.ndarray, " c"] | None:
    """The class ids of an official test's classes; None unless the index has them all."""
    expected = [f"U+{ord(character):04X}" for character in OFFICIAL_TESTS[source][0]]
    known = {codepoint: i for i, codepoint in enumerate(class_index.codepoints)}
    if not all(codepoint in known for codepoint in expected):
        return None
    return np.array([known[codepoint] for codepoint in expected])


def official_tests(
    sample_ids: Sequence[str],
    predictions: Predictions,
    among: Mapping[str, Int32[np.ndarray, " n"]],
    class_index: ClassIndex,
    pooled: Collection[str] = (),
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> list[dict[str, Any]]:
    """The published measure of each official test whose images are in the split.

    Kuzushiji-49 is scored by balanced accuracy (mean recall of its 49 classes), Kuzushiji-MNIST by
    top-1. Each is computed twice: over all classes of the index, and `among` the classes of the
    test. The second is the published task: the answer is the most probable of those classes.
    `is_whole` says whether all images of the test are there. `why_not` says why there is no score,
    for example because the set was pooled and its test images may have been trained on.
    """
    sources = np.array([sample_id.split("/")[0] for sample_id in sample_ids])
    rows = []
    for source, (characters, size, measure) in OFFICIAL_TESTS.items():
        inside = sources == source
        n = int(inside.sum())
        if not n:
            continue
        row: dict[str, Any] = {
            "source": source,
            "measure": measure,
            "n": n,
            "of": size,
            "is_whole": n == size,
            "classes": len(characters),
        }
        rows.append(row)
        if source.split("-")[0] in pooled:
            row["why_not"] = "the official split was pooled: its test images were split anew"
        elif source not in among:
            row["why_not"] = "the model does not know all of its classes"
        else:
            labels = predictions.labels[inside]
            for name, predicted in (
                ("over_all_classes", predictions.top_ids[inside, 0]),
                ("among_its_classes", among[source][inside]),
            ):
                scores = group_scores(
                    labels,
                    predicted[:, None],
                    len(class_index),
                    seed=seed,
                    num_bootstrap=num_bootstrap,
                )
                row[name] = scores["macro" if measure == "balanced" else "top1"]
    return rows


# --- forms of a character ----------------------------------------------------------------------


def variant_tolerant(
    predictions: Predictions,
    class_index: ClassIndex,
    forms_of: FormsOf,
    *,
    seed: int = 0,
    num_bootstrap: int = intervals.NUM_BOOTSTRAP,
) -> dict[str, Any]:
    """{top1, top5, macro, classes}: another form of the right character counts as right.

    Two classes are forms of one character if `forms_of` either names the other. Relations are not
    followed further, because one new form may stand for several old ones that are different
    characters (弁 for 辨, 瓣 and 辯). `classes` is the number of classes with another form in
    the index.
    """
    pairs = form_pairs(class_index, forms_of)
    labels, num_classes = predictions.labels.astype(np.int64), len(class_index)
    cells = labels[:, None] * num_classes + predictions.top_ids[:, :TOP_K]
    is_right = np.isin(cells, pairs)
    rng = np.random.default_rng(seed)
    n = len(labels)
    hits, in_top5 = is_right[:, 0], is_right.any(axis=1)
    return {
        "top1": intervals.share(int(hits.sum()), n),
        "top5": intervals.share(int(in_top5.sum()), n),
        "macro": macro_recall(predictions.labels, hits, num_classes, rng, num_bootstrap),
        "classes": len(
            np.unique(pairs[pairs // num_classes != pairs % num_classes] // num_classes)
        ),
    }


def form_pairs(class_index: ClassIndex, forms_of: FormsOf) -> Int[np.ndarray, " p"]:
    """Sorted true_id * k + predicted_id of all pairs that count as right; symmetric, reflexive."""
    known = {codepoint: i for i, codepoint in enumerate(class_index.codepoints)}
    num_classes = len(known)
    pairs = {i * num_classes + i for i in range(num_classes)}
    for i, codepoint in enumerate(class_index.codepoints):
        for other in (known[form] for form in forms_of(codepoint) if form in known):
            pairs |= {i * num_classes + other, other * num_classes + i}
    return np.array(sorted(pairs), np.int64)
