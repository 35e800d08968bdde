"""A trained model, loaded: images in, characters with probabilities out."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np

from kkanji_jax.array_types import Bool, Float, Float32, Shaped, UInt8
from kkanji_jax.data.class_index import ClassIndex, character_of
from kkanji_jax.evaluation.calibration import Calibration, softmax_sums
from kkanji_jax.glyphs.glyph_image import is_blank
from kkanji_jax.glyphs.image_files import ImageSource
from kkanji_jax.glyphs.paper_and_ink import BLANK, UNCLEAR
from kkanji_jax.glyphs.published_form import GLYPH_PX
from kkanji_jax.inference.orientation import (
    LEVEL_STROKE,
    ORIENTS,
    Oriented,
    TurnedGlyphs,
    oriented,
    turned_glyphs,
)
from kkanji_jax.inference.reading import VERDICTS, Candidate, Reading, may_accept
from kkanji_jax.inputs.note import Note
from kkanji_jax.inputs.python_images import ImageError, NotedGlyph, noted_glyphs, stacked_glyphs
from kkanji_jax.saved.trained import (
    CALIBRATION,
    Trained,
    check_model,
    choose_weights,
    digest_of_weights,
    kernel_of,
    load_trained,
)

__all__ = [
    "Candidate",
    "ImageError",
    "Reading",
    "Recogniser",
    "check_model",
    "choose_weights",
    "load",
]

BACKENDS = ("jax", "onnx")

Backend = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
_GLYPHS = f"glyphs as an array uint8 [n {GLYPH_PX} {GLYPH_PX}], white on black"


class Recogniser:
    """Reads images of single characters; made by `load`.

    Images are paths, streams of bytes, PIL images or arrays of any size (see
    `glyphs.image_files.load_image`), one or a list of them; an array uint8 [n h w], with w over 4,
    is n images. What cannot be read raises ImageError, a ValueError: a path that is not there, a
    folder, a damaged file, anything that is no image.

    It can be pickled, and loads its network anew where it is unpickled; one backed by a model.onnx
    does so from the same file. It serves the process that made it: a fork of it is refused with
    ValueError.
    """

    def __init__(
        self, trained: Trained, run: Backend, calibration: Calibration | None = None
    ) -> None:
        self.trained = trained
        self._run = run
        self._calibration = calibration
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_process"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _process=os.getpid())

    @property
    def class_index(self) -> ClassIndex:
        """The characters it can answer with."""
        return self.trained.class_index

    @property
    def weights(self) -> str:
        """`ema` or `raw`."""
        return self.trained.weights

    @property
    def step(self) -> int:
        """The training step of its weights."""
        return self.trained.step

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of what decides about its answers: weights, characters, calibration."""
        told = json.dumps([self.class_index.to_json(), self.trained.calibration], sort_keys=True)
        return hashlib.sha256(f"{digest_of_weights(self.trained)} {told}".encode()).hexdigest()

    @overload
    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        top_k: int = 5,
        *,
        characters: Iterable[str] | None = None,
        orient: str = "no",
        on_error: Literal["raise"] = "raise",
    ) -> list[Reading]: ...
    @overload
    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        top_k: int = 5,
        *,
        characters: Iterable[str] | None = None,
        orient: str = "no",
        on_error: Literal["row"],
    ) -> list[Reading | ImageError]: ...
    def predict(
        self,
        images: Any,  # as above; anything else is an ImageError
        top_k: int = 5,
        *,
        characters: Iterable[str] | None = None,
        orient: str = "no",
        on_error: str = "raise",
    ) -> list[Reading] | list[Reading | ImageError]:
        """The `top_k` most probable characters of each image; all if there are fewer.

        Probabilities sum to 1 over all classes, or over those of `characters` when the answer is
        restricted to them; they are calibrated where the model has a calibration. A verdict is of
        the unrestricted answer: where the restriction changes the best reading, it is `unknown`.
        With `orient="auto"` images that lie on their side or upside down are turned, and a remark
        says so. An image that cannot be read raises ImageError; with `on_error="row"` the error
        stands in its place in the list instead. ValueError for another argument that is not what it
        must be, before an image is read.
        """
        _check_top_k(top_k)
        wanted = _wanted_of(characters)
        if on_error not in ("raise", "row"):
            raise ValueError(f"expected an on_error of raise or row, got {on_error!r}")
        if orient not in ORIENTS:
            raise ValueError(f"expected an orient of {' or '.join(ORIENTS)}, got {orient!r}")
        given = noted_glyphs(images)
        errors = {n: item for n, item in enumerate(given) if isinstance(item, ImageError)}
        if errors and on_error == "raise":
            raise next(iter(errors.values()))
        good = [item for item in given if not isinstance(item, ImageError)]
        glyphs = stacked_glyphs(good)
        notes = [item.note for item in good]
        outputs = self.outputs(glyphs)
        if orient == "auto":
            found = self.turned_upright(glyphs, outputs, notes)
            glyphs, outputs = found.glyphs, (found.logits, found.features)
            notes = [n.with_remarks(more) for n, more in zip(notes, found.remarks, strict=True)]
        answers = self.readings_of(outputs, glyphs, top_k, characters=wanted, notes=notes)
        readings = iter(answers)
        if not errors:
            return answers
        return [errors[n] if n in errors else next(readings) for n in range(len(given))]

    def predict_glyphs(
        self,
        glyphs: UInt8[np.ndarray, "n 64 64"],
        top_k: int = 5,
        *,
        characters: Iterable[str] | None = None,
    ) -> list[Reading]:
        """`predict` for glyphs that already have the network's look; ValueError for others."""
        _check_top_k(top_k)
        wanted = _wanted_of(characters)
        return self.readings_of(self.outputs(glyphs), glyphs, top_k, characters=wanted)

    def readings_of(
        self,
        outputs: tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n d"]],
        glyphs: UInt8[np.ndarray, "n 64 64"],
        top_k: int = 5,
        *,
        characters: Iterable[str] | None = None,
        notes: Sequence[Note] | None = None,
    ) -> list[Reading]:
        """`predict_glyphs` for what `outputs` gave, and what is known of the images.

        ValueError if the logits are not finite, or for another argument that is not what it must
        be.
        """
        logits, features = outputs
        _check_top_k(top_k)
        wanted = _wanted_of(characters)
        if not np.isfinite(logits).all():
            raise ValueError("the network's outputs are not finite: the model is damaged")
        calibration = self._calibration
        temperature = 1.0 if calibration is None else calibration.temperature
        sums = softmax_sums(logits, temperature)
        verdicts, supports = [""] * len(logits), None
        if calibration is not None:
            if calibration.support is not None:
                supports = calibration.supports_of(logits, features, self._kernel)
            verdicts = calibration.verdicts(logits, 1 / sums, supports)
        ids = np.arange(len(self.class_index))
        kept = logits
        if wanted is not None:
            ids = self._class_ids_of(wanted)
            kept = logits.take(ids, axis=1)
            sums = softmax_sums(kept, temperature)
        columns = top_columns(kept, top_k)
        if wanted is not None:
            is_changed = ids[columns[:, 0]] != logits.argmax(axis=1)
            for row in np.flatnonzero(is_changed):
                verdicts[row] = verdicts[row] and "unknown"
        # In float64 as `softmax` has it, of the best alone: to the bit what it would give.
        best = np.take_along_axis(kept, columns, axis=1).astype(np.float64)
        shares = np.exp((best - best[:, :1]) / temperature) / sums[:, None]
        readings = []
        if notes is None:
            notes = [Note()] * len(glyphs)
        told = [None] * len(glyphs) if supports is None else supports.tolist()
        for verdict, support, glyph, note, chosen, probabilities in zip(
            verdicts, told, glyphs, notes, ids[columns].tolist(), shares.tolist(), strict=True
        ):
            if note.trouble or is_blank(glyph):
                readings.append(Reading((), note.trouble or BLANK, note.remarks))
                continue
            candidates = [
                Candidate(self._characters[i], self.class_index.codepoints[i], probability, rank)
                for rank, (i, probability) in enumerate(zip(chosen, probabilities, strict=True), 1)
            ]
            if verdict == "accept" and not may_accept(note.remarks, support):
                verdict = "ask"
            readings.append(Reading(candidates, verdict, note.remarks))
        return readings

    def embed(self, images: Any) -> Float32[np.ndarray, "n d"]:
        """The network's pooled features of each image, the vector its classifier reads."""
        return self.outputs(self.glyphs(images))[1]

    def glyphs(self, images: Any) -> UInt8[np.ndarray, "n 64 64"]:
        """Each image as the network sees it: white on black; ImageError if one cannot be read."""
        good: list[NotedGlyph] = []
        for item in noted_glyphs(images):
            if isinstance(item, ImageError):
                raise item
            good.append(item)
        return stacked_glyphs(good)

    def outputs(
        self, glyphs: UInt8[np.ndarray, "n 64 64"]
    ) -> tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]]:
        """Logits and features of glyphs, in one pass; ValueError if they are no such array."""
        if not isinstance(glyphs, np.ndarray):
            raise ValueError(f"expected {_GLYPHS}, got {type(glyphs).__name__}")
        if glyphs.dtype != np.uint8 or glyphs.shape[1:] != (GLYPH_PX, GLYPH_PX):
            raise ValueError(f"expected {_GLYPHS}, got {glyphs.dtype} of shape {glyphs.shape}")
        if os.getpid() != self._process:
            raise ValueError(
                f"this recogniser was made by process {self._process}, of which this is a fork, "
                "where its threads are gone: load it in each process, or start processes by spawn, "
                "to which it can be passed"
            )
        return self._run(glyphs)

    def turned_upright(
        self,
        glyphs: UInt8[np.ndarray, "n 64 64"],
        outputs: tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]],
        notes: Sequence[Note],
    ) -> Oriented:
        """Glyphs with their outputs and notes, those that lie turned in their surest turn."""
        turned = turned_glyphs(glyphs, [not note.trouble for note in notes])
        turned_outputs = self.outputs(turned.glyphs) if turned.places.size else outputs
        return self.surest_turns(glyphs, outputs, turned, turned_outputs)

    def surest_turns(
        self,
        glyphs: UInt8[np.ndarray, "n 64 64"],
        outputs: tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]],
        turned: TurnedGlyphs,
        turned_outputs: tuple[Float32[np.ndarray, "t k"], Float32[np.ndarray, "t d"]],
    ) -> Oriented:
        """`orientation.oriented` with this model's temperature and class of LEVEL_STROKE."""
        temperature = 1.0 if self._calibration is None else self._calibration.temperature
        names = self.class_index.codepoints
        level_stroke = names.index(LEVEL_STROKE) if LEVEL_STROKE in names else None
        return oriented(glyphs, outputs, turned, turned_outputs, temperature, level_stroke)

    def accuracy_of(self, verdict: str) -> float | None:
        """The top-1 accuracy of readings with this verdict, as measured on val; None if it was not.

        It is of the split it was measured on: other books and photographs may be harder.
        """
        if verdict not in VERDICTS:
            raise ValueError(f"expected a verdict of {', '.join(VERDICTS)}, got {verdict!r}")
        if self._calibration is None or verdict in (BLANK, UNCLEAR):
            return None
        return self._calibration.accuracy_of(verdict)

    @cached_property
    def _kernel(self) -> Float32[np.ndarray, "d k"]:
        """The classifier's weights."""
        return kernel_of(self.trained.params)

    @cached_property
    def _characters(self) -> tuple[str, ...]:
        """The character of each class id."""
        return tuple(map(character_of, self.class_index.codepoints))

    def _class_ids_of(self, wanted: frozenset[str]) -> Shaped[np.ndarray, " k"]:
        is_wanted: Bool[np.ndarray, " k"] = np.array([c in wanted for c in self._characters])
        if not is_wanted.any():
            raise ValueError(
                f"none of the {len(wanted)} characters asked for is among the model's "
                f"{len(self.class_index)}"
            )
        return np.flatnonzero(is_wanted)


def _check_top_k(top_k: Any) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int | np.integer):
        raise ValueError(f"expected a whole number for top_k, got {top_k!r}")
    if top_k < 1:
        raise ValueError(f"expected top_k of at least 1, got {top_k}")


def _wanted_of(characters: Any) -> frozenset[str] | None:
    """The characters asked for, None for all; ValueError if they are no strings."""
    if characters is None:
        return None
    if not isinstance(characters, Iterable):
        raise ValueError(f"expected characters as strings, got {type(characters).__name__}")
    wanted = []
    for each in characters:
        if not isinstance(each, str):
            raise ValueError(f"expected characters as strings, got {type(each).__name__} in them")
        wanted.append(each)
    return frozenset(wanted)


def load(
    model: str | os.PathLike | None = None,
    *,
    weights: str | None = None,
    which: str = "best",
    backend: str = "jax",
) -> Recogniser:
    """Loads a model for reading images: the folder of a run, a bundle, or (None) the package's own.

    `weights` is `ema` or `raw`, `which` the `best` or `latest` checkpoint of a run; see
    `trained.load_trained`. `backend` is `jax`, or `onnx`: the same answers, sooner, on the CPU.
    ValueError says what is missing or damaged.
    """
    if backend not in BACKENDS:
        raise ValueError(f"expected a backend of {' or '.join(BACKENDS)}, got {backend!r}")
    trained = load_trained(model, weights=weights, which=which)
    if trained.stale_calibration:
        print(f"warning: {trained.stale_calibration}", file=sys.stderr)
    if backend == "onnx":
        from kkanji_jax.inference.onnx_backend import OnnxBackend

        run: Backend = OnnxBackend.of_trained(trained)
    else:
        try:
            from kkanji_jax.inference.jax_backend import JaxBackend
        except ModuleNotFoundError as err:
            raise ValueError(f"{err}, which the JAX backend needs: use --backend onnx") from err

        num_classes = len(trained.class_index)
        run = JaxBackend(trained.config["model"], num_classes, trained.params, trained.batch_stats)
    return Recogniser(trained, run, _calibration_of(trained))


def _calibration_of(trained: Trained) -> Calibration | None:
    if trained.calibration is None:
        return None
    try:
        return Calibration.from_json(trained.calibration)
    except ValueError as err:
        raise ValueError(f"{trained.path / CALIBRATION}: {err}") from err


def top_columns(rows: Float[np.ndarray, "n k"], count: int) -> Shaped[np.ndarray, "n top"]:
    """The columns of the `count` largest numbers of each row, largest first; or all of them.

    Of equal numbers the smaller column comes first, and is kept where not all of them can be. The
    numbers are finite.
    """
    num_rows, num_columns = rows.shape
    count = min(count, num_columns)
    least = np.partition(rows, num_columns - count, axis=1)[:, num_columns - count]
    # More than `count` in a row where several equal the least.
    at_rows, at_columns = np.divmod(np.flatnonzero(rows >= least[:, None]), num_columns)
    order = np.lexsort((at_columns, -rows[at_rows, at_columns], at_rows))
    at_rows, at_columns = at_rows[order], at_columns[order]
    begins = np.searchsorted(at_rows, np.arange(num_rows))
    is_kept = np.arange(len(at_rows)) - begins[at_rows] < count
    return at_columns[is_kept].reshape(num_rows, count)
