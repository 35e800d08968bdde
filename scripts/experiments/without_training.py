"""What changes a trained model's scores on val without training anew.

    python scripts/experiments/without_training.py --model runs/b0 --dataset DATASET
        [--copies places|sizes|none] [--add NAME]

Logits moved by a multiple of a class's log frequency in training (arXiv:2007.07314), of all
classes, of those with fewer than 100 training images alone, or of these and all kana
(logit_adjustment.py); answers averaged over copies of an image, moved or of other sizes; and the
blank images that the audit dropped put back, as if all had fallen into val: they have the same
pixels, so one split would hold them all. --add keeps the scores in docs/results/without_training/,
for results.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import summaries
from jaxtyping import Bool, Int, UInt8
from logit_adjustment import are_kana, raised_by
from PIL import Image
from summaries import write_json

from data_tools.view.dataset_view import read_audit, read_pictures
from kkanji_jax import load
from kkanji_jax.data.class_index import ClassIndex
from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.data.resident import load_split
from kkanji_jax.data.source_looks import look_of
from kkanji_jax.evaluation import intervals
from kkanji_jax.evaluation.calibration import softmax
from kkanji_jax.evaluation.groups import macro_recall
from kkanji_jax.glyphs.published_form import GLYPH_PX
from kkanji_jax.inference.recogniser import Recogniser
from kkanji_jax.saved.trained import load_trained

SUMMARIES = summaries.SUMMARIES / "without_training"
AS_IT_IS, BLANK = "as it is", "blank images put back"
FACTORS = (-0.5, -0.2, -0.1, 0.1, 0.2, 0.5)
RAISES, COMMON = (0.1, 0.2, 0.3), 100
OF_KANA, BESIDE = (0.5, 0.75, 1.0, 1.5, 2.0), 0.2  # nats, beside this raise of rare characters
SHIFT_PX = 2
NEAR = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]  # in units of SHIFT_PX; the first is the image
COPIES = ("places", "sizes", "none")
CORNERS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
SIDES_PX = (56, 72)  # of copies that are smaller and larger than GLYPH_PX
OF_SIZES = f"mean of {1 + len(SIDES_PX)} sizes"
_BATCH = 256

Images = UInt8[np.ndarray, "n 64 64"]
Ids = Int[np.ndarray, " n"]


def shifted(images: Images, down: int, right: int) -> Images:
    """The images moved by so many pixels, 0 where nothing was."""
    height, width = images.shape[1:]
    wide = np.pad(images, ((0, 0), (SHIFT_PX, SHIFT_PX), (SHIFT_PX, SHIFT_PX)))
    top, left = SHIFT_PX - down, SHIFT_PX - right
    return wide[:, top : top + height, left : left + width]


def resized(images: Images, side_px: int) -> Images:
    """The images with this side, on black or cut at the edges, as large as they were."""
    size = (side_px, side_px)
    scaled = np.stack(
        [
            np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BICUBIC))
            for each in images
        ]
    )
    margin = (GLYPH_PX - side_px) // 2
    if margin < 0:
        return scaled[:, -margin:margin, -margin:margin]
    return np.pad(scaled, ((0, 0), (margin, margin), (margin, margin)))


def answers(
    recogniser: Recogniser,
    images: Images,
    counts: Sequence[int],
    kana: Bool[np.ndarray, " k"],
    *,
    copies: str = "places",
) -> dict[str, Ids]:
    """The most probable class id of each image, by what was changed.

    `counts` are the training images of each class, and `kana` says which are kana. `copies` is one
    of COPIES; those at other places take eight times as long as all else.
    """
    log_counts = np.log(np.maximum(counts, 1)).astype(np.float32)
    parts: list[dict[str, Ids]] = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        logits = recogniser.outputs(batch)[0]
        part = {AS_IT_IS: logits.argmax(axis=1)}
        for factor in FACTORS:
            part[f"logits {factor:+.1f} × log n"] = (logits + factor * log_counts).argmax(axis=1)
        for factor in RAISES:
            raised = logits + raised_by(counts, factor, COMMON)
            part[f"logits +{factor:.1f} × log({COMMON}/n), n < {COMMON}"] = raised.argmax(axis=1)
        for nats in OF_KANA:
            raised = logits + raised_by(counts, BESIDE, COMMON) + nats * kana
            part[f"the same with {BESIDE:.1f}, and kana +{nats:g}"] = raised.argmax(axis=1)
        total = softmax(logits)
        for places in (NEAR[1:], CORNERS) if copies == "places" else ():
            for down, right in places:
                moved = shifted(batch, SHIFT_PX * down, SHIFT_PX * right)
                total += softmax(recogniser.outputs(moved)[0])
            num = len(NEAR) + (len(CORNERS) if places is CORNERS else 0)
            part[f"mean of {num} places, {SHIFT_PX} px apart"] = total.argmax(axis=1)
        if copies == "sizes":
            total += sum(softmax(recogniser.outputs(resized(batch, side))[0]) for side in SIDES_PX)
            part[OF_SIZES] = total.argmax(axis=1)
        parts.append(part)
        print(f"{start + len(batch):,} of {len(images):,}", file=sys.stderr)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def blanks(dataset: Path) -> tuple[Images, Ids]:
    """The images that the audit dropped as blank, of classes that the dataset still has."""
    names = set(read_audit(dataset)["rules"]["blank"]["samples"])
    pictures = read_pictures(dataset)
    if pictures is None:
        raise ValueError(f"{dataset} was built before audits kept their images; build it anew")
    chosen = [
        row
        for row, name in enumerate(pictures.sample_ids)
        if name in names and pictures.class_ids[row] >= 0
    ]
    return pictures.images[chosen], pictures.class_ids[chosen]


def summarise(model: str, dataset: Path, *, copies: str = "places") -> dict[str, Any]:
    """Top-1 and the mean over classes of val, by what was changed; each with n and interval."""
    trained, recogniser, split = load_trained(model), load(model), load_split(dataset, "val")
    if trained.class_index.digest != ClassIndex.load(dataset / "index.json").digest:
        raise ValueError(f"{model} was trained on other classes than those of {dataset}")
    counts = [trained.train_counts[codepoint] for codepoint in trained.class_index.codepoints]
    images, labels = blanks(dataset)
    kana = are_kana(trained.class_index)
    found = answers(recogniser, split.images, counts, kana, copies=copies)
    photographed = np.array([look_of(name) == "photographed" for name in split.sample_ids])
    rows = {name: _scores(split.labels, ids) for name, ids in found.items()}
    if photographed.any():
        for name, ids in found.items():
            rows[name]["photographed"] = _share((ids == split.labels)[photographed])
    if len(images):
        read = recogniser.outputs(images)[0].argmax(axis=1)
        rows[BLANK] = _scores(
            np.concatenate([split.labels, labels]), np.concatenate([found[AS_IT_IS], read])
        )
    return {
        "version": 1,
        "dataset_fingerprint": load_manifest(dataset)["fingerprint"],
        "weights": trained.weights,
        "rows": rows,
    }


def _share(hits: Bool[np.ndarray, " n"]) -> dict[str, Any]:
    return intervals.share(int(hits.sum()), len(hits))


def _scores(labels: Ids, ids: Ids) -> dict[str, Any]:
    rng, hits = np.random.default_rng(0), ids == labels
    return {
        "top1": _share(hits),
        "macro": macro_recall(labels, hits, int(labels.max()) + 1, rng),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, metavar="M", help="folder of a run, or a bundle")
    parser.add_argument("--dataset", type=Path, required=True, metavar="DATASET")
    parser.add_argument(
        "--copies", choices=COPIES, default="places", help="which copies are averaged over"
    )
    parser.add_argument("--add", metavar="NAME", help="keep the scores under this name")
    args = parser.parse_args(argv)
    try:
        summary = summarise(args.model, args.dataset, copies=args.copies)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    for name, scores in summary["rows"].items():
        top1, macro = (100 * scores[key]["value"] for key in ("top1", "macro"))
        print(f"{name:36} top-1 {top1:.1f} %  macro {macro:.1f} %  n={scores['top1']['n']:,}")
    if args.add:
        write_json(SUMMARIES / f"{args.add}.json", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
