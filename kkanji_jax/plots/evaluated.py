"""What an evaluation left in a folder, and its images if the dataset is available."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import LEAK_WARNING, LEAKY_PROTOCOL, SPLITS, load_manifest
from kkanji_jax.data.resident import load_split
from kkanji_jax.evaluation.csv_tables import read_csv
from kkanji_jax.files import read_json
from kkanji_jax.plots.run_log import describe_split


class Evaluated(NamedTuple):
    """One evaluated split of a run."""

    folder: Path
    content: dict[str, Any]  # of eval.json
    subtitle: str

    @property
    def split(self) -> str:
        return self.content["split"]

    @property
    def protocol(self) -> str:
        """How the splits were made, for a subtitle, with a warning if they leak."""
        name = self.content["protocol"]
        return LEAK_WARNING if name == LEAKY_PROTOCOL else f"{name} protocol"

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a table beside eval.json; none if an older version did not write it."""
        path = self.folder / name
        return read_csv(path) if path.is_file() else []


class Pictures(NamedTuple):
    """The images of an evaluated split, with the label and the reading of each."""

    images: UInt8[np.ndarray, "n h w"]
    labels: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    row_of: dict[str, int]  # sample id -> row


def load_evaluated(workdir: Path) -> list[Evaluated]:
    """Every eval/*/eval.json of a run that is of a split of a dataset, by the name of its folder.

    ValueError names a file that is damaged.
    Scores of other images, such as photographed crops, and a second evaluation of a split, such as
    that of the run's bundle, are only for the model card.
    """
    found = []
    for path in sorted(workdir.glob("eval/*/eval.json")):
        content = read_json(path, having=("split", "num_examples", "weights", "protocol"))
        own = path.parents[1] / str(content["split"]) / "eval.json"
        is_second = own != path and own.is_file()
        if is_second or content["split"] not in SPLITS:
            continue
        subtitle = describe_split(
            workdir.resolve().name, content["split"], content["num_examples"], content["weights"]
        )
        if content["protocol"] == LEAKY_PROTOCOL:
            subtitle = f"{subtitle}\n{LEAK_WARNING}"
        found.append(Evaluated(path.parent, content, subtitle))
    return found


def load_pictures(evaluated: Evaluated, dataset: Path, class_index: ClassIndex) -> Pictures:
    """The split's images, from the dataset that was evaluated; ValueError for another one."""
    fingerprint = load_manifest(dataset)["fingerprint"]
    expected = evaluated.content["dataset_fingerprint"]
    if fingerprint != expected:
        raise ValueError(
            f"{evaluated.folder} is of the dataset {expected[:12]}, {dataset} is "
            f"{fingerprint[:12]}: evaluate on it first, or name the other dataset"
        )
    split = load_split(dataset, evaluated.split)
    rows = evaluated.table("predictions.csv")
    if [row["sample_id"] for row in rows] != list(split.sample_ids):
        raise ValueError(f"{evaluated.folder}/predictions.csv is not of {dataset}: evaluate again")
    predicted = np.array([class_index.id_of(row["predicted_1"]) for row in rows])
    row_of = {sample_id: row for row, sample_id in enumerate(split.sample_ids)}
    return Pictures(split.images, split.labels, predicted, row_of)
