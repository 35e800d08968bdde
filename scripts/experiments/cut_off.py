"""What it costs and gains to accept characters whose strokes seem to be cut off by the picture.

    python scripts/experiments/cut_off.py --dataset DATASET --shapes SHAPES --crops CROPS
        --source SOURCE [--model M] [--n 500] [--seed 0] [--add NAME]

Photographed characters (SHAPES, of the books that DATASET holds out; CROPS) and published glyphs on
paper (SOURCE/kkanji2, --n of them) are read whole, and so is a half of each, left, right, upper or
lower by chance. Where strokes seem cut off and there is no other remark, the verdict `accept` is
kept from so many nats of support on (`inference.reading.CUT_SUPPORT`). A line of the table is one
such number; in the first, `accept` is never kept. Counted are whole characters that are accepted,
those of them that are right, and halves that are accepted and read as another character. The number
is chosen on the books of val and on the tuning halves of the others. --add keeps the counts in
docs/results/cut_off/, for results.py.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import page_crops
import photographs
import summaries
from glyph_kinds import Sample, is_for_tuning, perturbed, published_samples
from PIL import Image
from summaries import write_json

from kkanji_jax.data.class_index import character_of
from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.evaluation.calibration import Calibration
from kkanji_jax.glyphs.glyph_image import CUT_OFF
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.inputs.note import Note
from kkanji_jax.inputs.python_images import ImageError, noted_glyphs, stacked_glyphs
from kkanji_jax.saved.trained import kernel_of

SUMMARIES = summaries.SUMMARIES / "cut_off"
NATS = (math.inf, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0)
HALF = "half a character"
_BATCH = 128


class Read(NamedTuple):
    """What was read of an image, and what its verdict goes by."""

    is_right: bool
    is_sure: bool  # accepted, but for its remarks
    remarks: tuple[str, ...]
    support: float

    def is_accepted(self, nats: float) -> bool:
        """Whether it is accepted if cut strokes are from so many nats on."""
        is_cut = self.remarks == (CUT_OFF,)
        return self.is_sure and (not self.remarks or (is_cut and self.support >= nats))


def sets_of(args: argparse.Namespace, known: set[str]) -> Iterator[tuple[str, list[Sample]]]:
    """The characters by set: its name says what its counts are for."""
    manifest = load_manifest(args.dataset)
    shapes = list(photographs.read_shapes(args.shapes, manifest))
    for role in ("val", "test"):
        yield (
            f"photographs of {role} books",
            [
                Sample(Path(each.image).name, character_of(each.codepoint), _opened(each.image))
                for each in shapes
                if each.book in manifest[f"{role}_books"]
            ],
        )
    crops = page_crops.read_crops(args.crops)
    published = published_samples(args.source, known, args.seed)
    halves: dict[bool, list[Sample]] = {True: [], False: []}
    for sample in itertools.islice(published, 2 * args.n):
        halves[is_for_tuning(sample.name)].append(sample)
    for half, is_tuning in (("tuning", True), ("reporting", False)):
        yield (
            f"page_crops, {half} half",
            [
                Sample(crop.path.name, crop.character, _opened(crop.path))
                for crop in crops
                if crop.is_for_tuning == is_tuning
            ],
        )
        yield f"published glyphs on paper, {half} half", halves[is_tuning]


def _opened(path: Any) -> Image.Image:
    return Image.open(path).convert("RGB")


def read(recogniser: Recogniser, samples: Sequence[Sample], images: Sequence[Any]) -> list[Read]:
    """Each of `images`, which show the samples, whole or not; ValueError if one cannot be read."""
    calibration = Calibration.from_json(recogniser.trained.calibration)
    kernel = kernel_of(recogniser.trained.params)
    reads = []
    for start in range(0, len(samples), _BATCH):
        noted = []
        for each in noted_glyphs(images[start : start + _BATCH]):
            if isinstance(each, ImageError):
                raise each
            noted.append(each)
        glyphs = stacked_glyphs(noted)
        outputs = recogniser.outputs(glyphs)
        supports = calibration.supports_of(*outputs, kernel)
        if supports is None:
            raise ValueError("the model's calibration has no support: evaluate --of val again")
        unremarked = [Note(each.note.trouble) for each in noted]
        readings = recogniser.readings_of(outputs, glyphs, top_k=1, notes=unremarked)
        for sample, each, reading, support in zip(
            samples[start : start + _BATCH], noted, readings, supports.tolist(), strict=True
        ):
            is_right = bool(len(reading)) and reading[0].character == sample.character
            is_sure = reading.verdict == "accept"
            reads.append(Read(is_right, is_sure, each.note.remarks, support))
    return reads


def counts_of(whole: Sequence[Read], halves: Sequence[Read]) -> list[dict[str, Any]]:
    """The counts at each of NATS; infinity is null."""
    rows = []
    for nats in NATS:
        accepted = [each for each in whole if each.is_accepted(nats)]
        rows.append(
            {
                "nats": None if math.isinf(nats) else nats,
                "accepted": len(accepted),
                "right": sum(each.is_right for each in accepted),
                "halves": sum(not each.is_right and each.is_accepted(nats) for each in halves),
            }
        )
    return rows


def table(sets: Iterable[dict[str, Any]]) -> str:
    """Markdown: a line for each set and number of nats."""
    lines = ["| characters | n | from nats | accepted | right | halves, accepted and wrong |"]
    lines.append("|---|---|---|---|---|---|")
    for each in sets:
        for row in each["rows"]:
            nats = "never" if row["nats"] is None else f"{row['nats']:g}"
            right = f"{100 * row['right'] / max(1, row['accepted']):.1f} %"
            halves = f"{row['halves']} ({100 * row['halves'] / max(1, each['n']):.1f} %)"
            cells = (each["name"], str(each["n"]), nats, str(row["accepted"]), right, halves)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summarise(args: argparse.Namespace) -> dict[str, Any]:
    """All counts, and whose they are."""
    if args.n < 1:
        raise ValueError(f"expected an --n of at least 1, got {args.n}")
    recogniser = load(args.model, backend="onnx")
    if recogniser.trained.calibration is None:
        raise ValueError("the model has no verdicts: run kkanji_jax.evaluate --of val first")
    known = set(map(character_of, recogniser.class_index.codepoints))
    sets = []
    for name, samples in sets_of(args, known):
        whole = read(recogniser, samples, [sample.picture for sample in samples])
        halves = read(recogniser, samples, perturbed(samples, HALF, args.seed))
        sets.append({"name": name, "n": len(samples), "rows": counts_of(whole, halves)})
        print(f"{name}: {len(samples):,} read", file=sys.stderr)
    return {
        "version": 1,
        "n": args.n,
        "seed": args.seed,
        "step": recogniser.step,
        "weights": recogniser.weights,
        "num_classes": len(recogniser.class_index),
        "dataset_fingerprint": load_manifest(args.dataset)["fingerprint"],
        "sets": sets,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", type=Path, required=True, metavar="DATASET")
    add("--shapes", type=Path, required=True, metavar="SHAPES")
    add("--crops", type=Path, required=True, metavar="CROPS")
    add("--source", type=Path, required=True, metavar="SOURCE")
    add("--model", metavar="M", help="a run or a bundle (default: the package's)")
    add("--n", type=int, default=500, help="published glyphs for each half (default: 500)")
    add("--seed", type=int, default=0)
    add("--add", metavar="NAME", help="keep the counts under this name")
    args = parser.parse_args(argv)
    try:
        summary = summarise(args)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    print(table(summary["sets"]))
    if args.add:
        write_json(SUMMARIES / f"{args.add}.json", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
