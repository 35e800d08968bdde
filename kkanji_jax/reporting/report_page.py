"""A run's scores and figures as one HTML page without other files."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kkanji_jax.data.class_index import character_of
from kkanji_jax.plots.evaluated import Evaluated
from kkanji_jax.reporting.evaluation_view import NOTHING, EvaluationView
from kkanji_jax.reporting.rendering import render

MOST_SUSPECTS = 50
MOST_CONFUSIONS = 20
NARROW_PX = 700  # a figure of no more is read on a phone without scrolling it sideways
# By a figure's name without the split; a figure without a caption explains itself.
_CAPTIONS = {
    "long_tail": "A mean over images hides the classes that have few.",
    "reliability": "On the dashed line, a probability is the share that is right.",
    "risk_coverage": "What is left of the errors when the least sure images go to a reader.",
    "loss_curve": "Of train with its augmentation, and of val without.",
    "confused_glyphs": "The misread images, then others of both classes.",
    "suspected_labels": "The model may be wrong: the reader judges.",
}
# The curves stand once on the page: this figure shows both of them again.
REPEATING = ("learning_curves",)


@dataclass(frozen=True)
class Picture:
    """A drawn figure: its file's name without suffix, and PNG bytes."""

    name: str
    png: bytes
    split: str = ""  # of an evaluation

    @property
    def kind(self) -> str:
        """The name without the split."""
        return self.name.removesuffix(f"_{self.split}") if self.split else self.name

    @property
    def alt(self) -> str:
        return self.name.replace("_", " ")

    @property
    def caption(self) -> str:
        return _CAPTIONS.get(self.kind, "")

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png).decode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the PNG's first chunk."""
        width, height = struct.unpack(">II", self.png[16:24])
        return width, height

    @property
    def is_narrow(self) -> bool:
        return self.size[0] <= NARROW_PX


def page(
    run: str,
    splits: Sequence[Evaluated],
    pictures: Sequence[Picture],
    provenance: Sequence[tuple[str, str | Sequence[str]]],
) -> str:
    """The whole page. `splits` are in order of importance; the first one gives the tiles.

    A value of `provenance` is a line of text, or several lines of code. Figures in REPEATING are
    left out.
    """
    names = [split.split for split in splits]
    shown = [picture for picture in pictures if picture.name not in REPEATING]
    sections = [_section(split, shown) for split in splits]
    return render(
        "report.html.j2",
        {
            "run": run,
            "sections": sections,
            "training_pictures": [
                p for p in shown if not p.name.endswith(tuple(f"_{n}" for n in names))
            ],
            "provenance": provenance,
            "interval_method": sections[0]["evaluation"].interval_method if sections else None,
        },
    )


def _section(split: Evaluated, pictures: Sequence[Picture]) -> dict[str, Any]:
    own = [
        Picture(picture.name, picture.png, split.split)
        for picture in pictures
        if picture.name.endswith(f"_{split.split}")
    ]
    confusions = split.table("confusions.csv")
    return {
        "evaluation": EvaluationView.of(split.content),
        "pictures": {picture.kind: picture for picture in own},
        "other_pictures": [p.kind for p in own if p.kind not in _CAPTIONS],
        "confusions": confusions[:MOST_CONFUSIONS],
        "num_confusions": len(confusions),
        "classes": _class_rows(split.table("per_class.csv")),
        "suspects": [_suspect_row(row) for row in split.table("suspects.csv")[:MOST_SUSPECTS]],
    }


def _class_rows(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The classes that have an image, the worst first."""
    scored = [row for row in rows if row["n"] != "0"]
    scored.sort(key=lambda row: (float(row["recall"]), -int(row["n"]), row["codepoint"]))
    return [
        {
            **row,
            **{key: _percent(row[key]) for key in ("recall", "precision", "f1")},
            "most_read_as": f"{character_of(row['most_read_as'])} {row['most_read_as']} "
            f"×{row['most_read_as_count']}"
            if row["most_read_as"]
            else "",
        }
        for row in scored
    ]


def _suspect_row(row: Mapping[str, str]) -> dict[str, str]:
    return {
        **row,
        "label_probability": f"{float(row['label_probability']):.2g}",
        "read_as_probability": f"{float(row['read_as_probability']):.2f}",
    }


def _percent(text: str) -> str:
    return f"{100 * float(text):.2f} %" if text else NOTHING
