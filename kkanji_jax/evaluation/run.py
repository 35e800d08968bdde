"""An evaluation: one pass of a trained model over a split, and the files that it writes."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32, Int64, UInt8

from kkanji_jax.compilation_cache import enable_compilation_cache
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import (
    LEAK_WARNING,
    LEAKY_PROTOCOL,
    identity_of,
    is_same_dataset,
    load_index,
    load_manifest,
)
from kkanji_jax.data.resident import Split, load_split
from kkanji_jax.data.source_looks import look_of
from kkanji_jax.data.unknown_characters import UnknownCharacters, load_unknown
from kkanji_jax.evaluation import calibration_fit, eval_json
from kkanji_jax.evaluation.calibration import FILE_NAME, Calibration
from kkanji_jax.evaluation.csv_tables import write_tables
from kkanji_jax.evaluation.forward import Evaluator
from kkanji_jax.evaluation.odd_copies import odd_copies
from kkanji_jax.evaluation.scores import summarise
from kkanji_jax.evaluation.support import Copies
from kkanji_jax.files import write_json
from kkanji_jax.glyphs.published_form import GLYPH_PX
from kkanji_jax.parallel import mesh as mesh_lib
from kkanji_jax.saved.trained import Trained, choose_weights, kernel_of, load_trained


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, on what, and where the scores go."""

    model: str | Path | None  # folder of a run, or a bundle; None: the package's
    dataset: Path
    split: str = "test"
    out: Path | None = None  # None: the model's eval/SPLIT, which a bundle does not have
    weights: str | None = None  # ema, raw or both; None: ema where the run kept an average
    which: str = "best"  # or latest: checkpoint of a run
    batch_size: int = 256  # at least; over all devices
    unknown: Path | None = None  # characters outside the index: a DATASET, or a folder
    most_unknown: int = 5000  # of them


def evaluate(
    asked: Evaluation, show: Callable[[dict[str, Any]], None] = lambda content: None
) -> dict[str, Any]:
    """Runs the pass, writes eval.json and the tables; returns the content of eval.json, with `out`.

    `show` gets that content before anything is written, so no score is lost to a full disk or a
    read-only model.

    On val it also fits the calibration, and writes it to the model's folder if possible. ValueError
    says what is missing, damaged or does not belong together.
    """
    enable_compilation_cache()
    inputs = _read_inputs(asked)
    trained, split = inputs.trained, inputs.split
    ask = _Pass(
        trained.config["model"], trained.class_index, asked.batch_size, mesh_lib.make_mesh()
    )
    answers, calibration = _answer_split(asked, inputs, ask)
    content = _content_of(asked, inputs, answers, calibration)
    if inputs.raw is not None:
        content["raw"] = _raw_scores(asked, inputs, ask)
    if inputs.unknown is not None:
        content["unknown"] = eval_json.unknown_scores(
            answers,
            _answer_unknown(asked, trained, inputs.unknown, ask, calibration),
            inputs.unknown.codepoints,
            calibration,
        ) | {"source": str(asked.unknown), "num_found": inputs.unknown.num_found}
    show(content)
    out = asked.out or trained.path / "eval" / asked.split
    out.mkdir(parents=True, exist_ok=True)
    write_tables(
        out, answers.predictions, split.sample_ids, trained.class_index, trained.train_counts
    )
    write_json(out / "eval.json", content)
    if asked.split == "val" and calibration is not None:
        _write_calibration(trained, calibration, asked, inputs.is_dataset_of_training)
    return content | {"out": str(out)}


class _Inputs(NamedTuple):
    """What an evaluation reads: the dataset's part, and models that fit it."""

    manifest: dict[str, Any]
    trained: Trained
    raw: Trained | None  # the same model with its raw weights, if both were asked for
    split: Split
    unknown: UnknownCharacters | None
    is_dataset_of_training: bool

    @property
    def stamp(self) -> dict[str, Any]:
        """What a calibration and eval.json say of the weights and the dataset."""
        return {
            "checkpoint_step": self.trained.step,
            "class_index_digest": self.trained.class_index.digest,
            "dataset_fingerprint": self.manifest["fingerprint"],
        }


def _read_inputs(asked: Evaluation) -> _Inputs:
    """Everything that can be refused is refused here, before the pass; warns of what leaks."""
    manifest = load_manifest(asked.dataset)
    if not manifest["splits"][asked.split]["num_examples"]:
        raise ValueError(
            f"{asked.dataset} has no {asked.split} examples; choose another split with --of"
        )
    if manifest["protocol"] == LEAKY_PROTOCOL and asked.split != "train":
        _warn(f"{asked.dataset}: {LEAK_WARNING}")
    weights = "ema" if asked.weights == "both" else asked.weights
    trained = load_trained(asked.model, weights=weights, which=asked.which)
    if trained.is_bundle and not asked.out:
        raise ValueError(f"{trained.path} is a bundle, which is not written into: give --out DIR")
    raw = None
    if asked.weights == "both":
        raw = load_trained(asked.model, weights="raw", which=asked.which)
    class_index = trained.class_index
    _check_same_classes(class_index, load_index(asked.dataset, manifest), asked)
    is_of_training = is_same_dataset(identity_of(asked.dataset, manifest), trained.identity)
    if not is_of_training and asked.split != "train":
        _warn(
            f"{asked.dataset} is not the build that this model was trained on: "
            f"its {asked.split} images may have been training images"
        )
    unknown = None
    if asked.unknown:
        unknown = load_unknown(asked.unknown, class_index, asked.most_unknown)
    split = load_split(asked.dataset, asked.split)
    return _Inputs(manifest, trained, raw, split, unknown, is_of_training)


def _answer_split(
    asked: Evaluation, inputs: _Inputs, ask: "_Pass"
) -> tuple[eval_json.SplitAnswers, Calibration | None]:
    """The model's answers to the split, and its calibration: on val a new one, fitted to them."""
    trained, split = inputs.trained, inputs.split
    calibration = None
    is_fitting = asked.split == "val" and len(split.labels) >= calibration_fit.LEAST_EXAMPLES
    if asked.split != "val":
        calibration = _calibration_of(trained)
    elif not is_fitting:
        _warn(
            f"{calibration_fit.LEAST_EXAMPLES} examples are needed for a calibration: none fitted"
        )
    name = f"{asked.split} of {asked.dataset}"
    if not is_fitting:
        return ask(trained, split.images, split.labels, name, calibration=calibration), calibration
    return _calibrate(inputs, name, ask)


def _calibrate(
    inputs: _Inputs, name: str, ask: "_Pass"
) -> tuple[eval_json.SplitAnswers, Calibration]:
    """A calibration that is fitted to the split, or to a part of a large one; answers with it."""
    trained, whole = inputs.trained, inputs.split
    rows = calibration_fit.rows_to_fit(whole.sample_ids)
    is_part = len(rows) < len(whole.labels)
    split = _part_of(whole, rows) if is_part else whole
    told = f"{len(rows):,} of {name}, for a calibration" if is_part else name
    answers = ask(trained, split.images, split.labels, told, is_keeping_outputs=True)
    assert answers.outputs is not None
    looks = [look_of(sample_id) for sample_id in split.sample_ids]
    kernel = kernel_of(trained.params)
    calibration = calibration_fit.fit(
        answers.outputs.logits,
        split.labels,
        weights=trained.weights,
        fitted_on={"split": "val", **inputs.stamp},
        groups=looks,
        evidence=calibration_fit.Evidence(
            answers.outputs.features, kernel, _answer_copies(trained, split, looks, ask)
        ),
    )
    if is_part:
        answers = ask(trained, whole.images, whole.labels, name, calibration=calibration)
        return answers, calibration
    return eval_json.calibrated_answers(answers, calibration, kernel), calibration


def _part_of(split: Split, rows: Int64[np.ndarray, " m"]) -> Split:
    """The examples of these rows."""
    ids = ([column[row] for row in rows] for column in (split.sample_ids, split.parent_ids))
    return Split(split.images[rows], split.labels[rows], *ids)


def _answer_copies(trained: Trained, split: Split, looks: list[str], ask: "_Pass") -> Copies:
    """Turned and halved copies of examples, and the model's outputs for them."""
    images = np.asarray(split.images).reshape(-1, GLYPH_PX, GLYPH_PX)
    copies = odd_copies(images, split.sample_ids, looks)
    labels = split.labels[copies.rows]
    name = "their turned and halved copies"
    answers = ask(trained, copies.glyphs, labels, name, is_keeping_outputs=True)
    assert answers.outputs is not None
    return Copies(copies.rows, answers.outputs)


def _content_of(
    asked: Evaluation,
    inputs: _Inputs,
    answers: eval_json.SplitAnswers,
    calibration: Calibration | None,
) -> dict[str, Any]:
    """The scores, and of what they are."""
    pooled = inputs.manifest["pool_official"]
    return eval_json.scorecard(
        answers,
        inputs.trained,
        inputs.split.sample_ids,
        split=asked.split,
        calibration=calibration,
        pooled=pooled,
    ) | {
        "model": str(inputs.trained.path),
        "checkpoint": None if inputs.trained.is_bundle else asked.which,
        **inputs.stamp,
        "dataset": str(asked.dataset),
        "protocol": inputs.manifest["protocol"],
        "pool_official": pooled,
        "is_dataset_of_training": inputs.is_dataset_of_training,
    }


def _raw_scores(asked: Evaluation, inputs: _Inputs, ask: "_Pass") -> dict[str, Any]:
    """Five scores of the raw weights, beside those of the average."""
    raw, split = inputs.raw, inputs.split
    assert raw is not None
    answers = ask(raw, split.images, split.labels, f"{asked.split} of {asked.dataset}")
    scores = summarise(
        answers.predictions, raw.class_index, raw.train_counts, split=asked.split, weights="raw"
    )
    return {key: scores[key] for key in ("top1", "top5", "macro", "loss", "ece")}


def _answer_unknown(
    asked: Evaluation,
    trained: Trained,
    unknown: UnknownCharacters,
    ask: "_Pass",
    calibration: Calibration | None,
) -> eval_json.SplitAnswers:
    """The model's answers to characters that it does not know; their labels mean nothing."""
    no_labels = np.zeros(len(unknown.images), np.int32)
    name = f"outside the index, of {asked.unknown}"
    return ask(trained, unknown.images, no_labels, name, calibration=calibration)


class _Pass:
    """Runs the network of one `model` config over images, and shows progress."""

    def __init__(
        self, model: dict[str, Any], class_index: ClassIndex, batch_size: int, mesh: Mesh
    ) -> None:
        self._class_index = class_index
        whole = -(-batch_size // mesh.size) * mesh.size
        self._evaluator = Evaluator(model, len(class_index), mesh=mesh, batch_size=whole)

    def __call__(
        self,
        trained: Trained,
        images: UInt8[np.ndarray, "n h w"],
        labels: Int32[np.ndarray, " n"],
        name: str,
        *,
        calibration: Calibration | None = None,
        is_keeping_outputs: bool = False,
    ) -> eval_json.SplitAnswers:
        print(
            f"{name}: {len(images):,} images, {trained.weights} weights of step {trained.step}; "
            "compiling",
            file=sys.stderr,
            flush=True,
        )
        parts = self._evaluator.answers(
            trained.params,
            trained.batch_stats,
            images,
            labels,
            has_outputs=True,
            on_batch=_progress(len(images)),
        )
        return eval_json.collect_answers(
            parts,
            self._class_index,
            kernel_of(trained.params),
            calibration=calibration,
            is_keeping_outputs=is_keeping_outputs,
        )


def _check_same_classes(of_model: ClassIndex, of_dataset: ClassIndex, asked: Evaluation) -> None:
    if of_model.digest == of_dataset.digest:
        return
    ours, theirs = set(of_model.codepoints), set(of_dataset.codepoints)
    raise ValueError(
        f"{asked.model} knows {len(ours)} classes and {asked.dataset} has {len(theirs)}, "
        f"{len(ours & theirs)} in common; evaluate on the dataset it was trained on, or build one "
        "with the same classes (data_tools.build --splits-from)"
    )


def _progress(num_examples: int) -> Callable[[int], None]:
    step = max(num_examples // 10, 1)
    shown = 0

    def tell(done: int) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            end = "\n" if done == num_examples else ""
            print(f"\r{done:,}/{num_examples:,}", end=end, file=sys.stderr, flush=True)
        elif done - shown >= step or done == num_examples:
            shown = done
            print(f"{done:,}/{num_examples:,}", file=sys.stderr, flush=True)

    return tell


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _calibration_of(trained: Trained) -> Calibration | None:
    """The model's calibration, if it was fitted with these very weights."""
    if trained.calibration is None:
        _warn(
            trained.stale_calibration
            or f"no {FILE_NAME} for the {trained.weights} weights of {trained.path}: evaluate --of "
            "val first, for verdicts"
        )
        return None
    return Calibration.from_json(trained.calibration)


def _write_calibration(
    trained: Trained, calibration: Calibration, asked: Evaluation, is_of_training: bool
) -> None:
    """Writes calibration.json, unless `predict` would load other weights than these."""
    served = choose_weights(trained.config, None)
    if trained.is_bundle:
        _warn(f"{FILE_NAME} not written: a bundle is complete; calibrate the run and export again")
    elif calibration.weights != served or asked.which != "best":
        _warn(f"{FILE_NAME} not written: predict uses the {served} weights of the best checkpoint")
    elif not is_of_training:
        _warn(f"{FILE_NAME} not written: this val is not that of the training dataset")
    else:
        write_json(trained.path / FILE_NAME, calibration.to_json())
