"""What `predict` is asked for: its options in one record, checked, and what follows from them."""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kkanji_jax import cli
from kkanji_jax.answers.output_paths import require_apart
from kkanji_jax.answers.row_formats import RowFormat
from kkanji_jax.answers.rows import RowOptions
from kkanji_jax.answers.transcript import TRANSCRIPTS
from kkanji_jax.files import file_named, sha256_of
from kkanji_jax.inference.allowed_characters import NAMED, characters_of, told_lacking
from kkanji_jax.inputs.image_input import STANDARD_INPUT
from kkanji_jax.workers import num_cores

if TYPE_CHECKING:
    from kkanji_jax.inference.recogniser import Recogniser

MOST_WORKERS = 8  # unless more are asked for: each is a process with its own memory
OUTPUTS = ("out", "annotate", "show_steps", "review")
NOT_ON_CLUSTER = ("annotate", "review", "show_steps", "base_url", "bom")
ONLY_ON_CLUSTER = ("address", "cpus", "per_gpu", "partition")


@dataclass(frozen=True)
class PredictRequest:
    """The options of `predict`, by their names without dashes; docs/predict.md says what they mean.

    `version` is that of kkanji_jax. With `engine` ray, `out` is a folder. `validate` checks it.
    """

    paths: Sequence[str]
    version: str
    model: str | None = None
    backend: str | None = None
    weights: str | None = None
    top_k: int = 5
    chars: str | None = None
    min_probability: float = 0.0
    neighbours: int = 0
    dataset: Path | None = None
    boxes: Path | None = None
    base_url: str = ""
    annotate: Path | None = None
    review: Path | None = None
    invert: str = "auto"
    orient: str = "no"
    show_steps: Path | None = None
    format: str = "text"
    out: Path | None = None
    bom: bool = False
    engine: str = "local"
    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    per_gpu: int = 0
    partition: int = 4096

    @classmethod
    def of_flags(cls, flags: Mapping[str, Any], version: str) -> "PredictRequest":
        """The request of parsed flags, in which outputs are text still.

        ValueError if an output names a folder where a file is meant.
        """
        outputs = {}
        for name in OUTPUTS:
            text = flags[name]
            if text is not None:
                is_folder = name == "out" and flags["engine"] == "ray"
                outputs[name] = Path(text) if is_folder else file_named(text, _flag(name))
        return cls(**{**flags, **outputs}, version=version)

    @property
    def chosen_backend(self) -> str:
        """The backend that was asked for, or the default: onnx for a cluster's CPUs, else jax."""
        is_on_cpus = self.engine == "ray" and not self.per_gpu
        return self.backend or ("onnx" if is_on_cpus else "jax")

    @property
    def num_decoders(self) -> int:
        """How many processes may decode images, without a cluster."""
        return self.workers or min(num_cores(), MOST_WORKERS)

    @property
    def is_transcript(self) -> bool:
        """Whether the text of pages is written, and not rows."""
        return self.format in TRANSCRIPTS

    @property
    def row_format(self) -> RowFormat:
        """How rows are written; for a transcript, how they are kept until it is made."""
        if self.is_transcript:
            return RowFormat("jsonl")
        return RowFormat(self.format, self.bom and self.format == "csv")

    def validate(self) -> None:
        """ValueError for an option, or several together, that cannot be met."""
        if self.top_k < 1:
            raise ValueError(f"--top-k must be at least 1, not {self.top_k}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--workers must be at least 1, not {self.workers}")
        if self.neighbours < 0:
            raise ValueError(f"--neighbours must be at least 0, not {self.neighbours}")
        if not 0 <= self.min_probability <= 1:
            raise ValueError(f"--min-probability must be in [0, 1], not {self.min_probability}")
        is_one_file = len(self.paths) == 1 and not os.path.isdir(self.paths[0])
        if self.annotate and not (self.boxes and is_one_file):
            raise ValueError("--annotate needs one page, and --boxes with its boxes")
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"--base-url must begin with http:// or https://, not {self.base_url}")
        if self.is_transcript and not self.boxes:
            raise ValueError(f"--format {self.format} is of pages: give --boxes with their boxes")
        for flag, path in (("--annotate", self.annotate), ("--show-steps", self.show_steps)):
            if path and path.suffix.lower() != ".png":
                raise ValueError(f"{flag} must end in .png, not {path}")
        if self.review and self.review.suffix.lower() != ".html":
            raise ValueError(f"--review must end in .html, not {self.review}")
        if self.review and STANDARD_INPUT in self.paths:
            raise ValueError("--review names images by their files: give a path instead of -")
        if self.dataset and not self.neighbours:
            raise ValueError("--dataset is where --neighbours are sought: give --neighbours N too")
        self._require_outputs_apart()
        if self.engine == "ray":
            self._validate_for_cluster()
            return
        for name in ONLY_ON_CLUSTER:
            if getattr(self, name) != DEFAULTS[name]:
                raise ValueError(f"{_flag(name)} is for --engine ray: leave it out")
        if self.base_url and not any(map(_is_list, self.paths)):
            raise ValueError(
                "--base-url is for addresses in a .txt or .json file, and no PATH is one: leave it "
                "out"
            )
        if self.bom and self.format != "csv":
            raise ValueError(f"--bom is for --format csv: leave it out with {self.format}")

    def _require_outputs_apart(self) -> None:
        written = {_flag(name): getattr(self, name) for name in OUTPUTS}
        read = {
            "--boxes": self.boxes,
            "--chars": Path(self.chars) if self.chars and self.chars not in NAMED else None,
            "--model": Path(self.model) if self.model else None,
            "--dataset": self.dataset,
        }
        require_apart(
            {flag: path for flag, path in written.items() if path},
            {flag: path for flag, path in read.items() if path},
            self.paths,
        )

    def _validate_for_cluster(self) -> None:
        if self.out is None:
            raise ValueError("--engine ray writes a folder of Parquet files: give --out DIR")
        if self.format != DEFAULTS["format"]:
            raise ValueError(f"--engine ray writes Parquet: leave out --format {self.format}")
        for name in NOT_ON_CLUSTER:
            if getattr(self, name):
                raise ValueError(f"{_flag(name)} is not for --engine ray: leave it out")
        for name, least in (("cpus", 1), ("per_gpu", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{_flag(name)} must be at least {least}")

    def identity(self, model_digest: str, options: RowOptions) -> dict[str, str]:
        """All that decides about rows, by the name that a message gives it."""
        index = options.index
        told = {
            "model": model_digest,
            "--backend": self.chosen_backend,
            "--top-k": self.top_k,
            "--chars": None if options.characters is None else "".join(sorted(options.characters)),
            "--min-probability": self.min_probability,
            "--neighbours": self.neighbours,
            "--dataset": index and hashlib.sha256(index.vectors.tobytes()).hexdigest(),
            "--invert": self.invert,
            "--orient": self.orient,
            "--boxes": sha256_of(self.boxes) if self.boxes else None,
            "--base-url": self.base_url,
            "--format": self.format,
            "--bom": self.bom,
            "version of kkanji_jax": self.version,
            "working folder": os.getcwd() if any(map(_is_relative, self.paths)) else None,
        }
        return {name: str(value) for name, value in told.items()}


# Of the options that have one; a command's parser takes them from here.
DEFAULTS = {
    field.name: field.default for field in fields(PredictRequest) if field.default is not MISSING
}


def row_options_of(request: PredictRequest, recogniser: "Recogniser") -> RowOptions:
    """What the request wants to be told of each image.

    Characters that the model lacks are named on standard error. ValueError for a list without any
    that it knows, or if the index of neighbours cannot be had.
    """
    characters = index = None
    if request.chars:
        characters, lacking = characters_of(request.chars, recogniser.class_index)
        if lacking:
            print(told_lacking(lacking, request.chars), file=sys.stderr)
    if request.neighbours:
        from kkanji_jax.inference.neighbours import cached_index

        with cli.Progress() as progress:
            index = cached_index(recogniser, request.dataset, progress)
    return RowOptions(
        request.top_k,
        characters,
        request.min_probability,
        index,
        request.neighbours,
        is_ink_bright={"auto": None, "yes": True, "no": False}[request.invert],
        orient=request.orient,
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_relative(path: str) -> bool:
    return path != STANDARD_INPUT and "://" not in path and not os.path.isabs(path)


def _is_list(path: str) -> bool:
    """Whether a path is named like a file of addresses."""
    from kkanji_jax.pages.iiif import LIST_SUFFIXES, is_address

    return path.lower().endswith(LIST_SUFFIXES) and not is_address(path)
