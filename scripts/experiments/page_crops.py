"""How well a model reads crops from photographed pages, and what each step of `glyph_image` gives.

    python scripts/experiments/page_crops.py CROPS --model M \
        [--dataset DATASET] [--add NAME] [--sheet OUT.png]

CROPS holds labels.csv (columns file, char, page) and the files it names. Half of the pages, by the
digest of their names, may be used to tune `glyph_image`; the other half reports. With --dataset,
crops that look like a training glyph (normalised correlation over 0.9) are also left out, lest a
page that the training images were cut from be read from memory. --add keeps the summary in
docs/results/page_crops/, for results.py; --sheet draws what was misread.
"""

import argparse
import csv
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import summaries
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw
from summaries import write_json

from kkanji_jax.answers.annotate import LabelFont
from kkanji_jax.data.class_index import codepoint_of
from kkanji_jax.data.scripts import script_of
from kkanji_jax.evaluation import intervals
from kkanji_jax.glyphs.glyph_image import Steps, glyph_steps
from kkanji_jax.glyphs.image_files import load_image
from kkanji_jax.glyphs.published_form import GLYPH_PX
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.plots.fonts import font_files

SUMMARIES = summaries.SUMMARIES / "page_crops"
MAX_CORRELATION = 0.9
_TRAIN_ROWS = 4096  # training glyphs compared at a time: 64 MB


class Crop(NamedTuple):
    """One crop: its file, the character it shows, and the page it is from."""

    path: Path
    character: str
    page: str

    @property
    def is_for_tuning(self) -> bool:
        """Whether its page is of the half that `glyph_image` may be tuned on."""
        return hashlib.sha256(self.page.encode()).digest()[-1] % 2 == 0


def _square(picture: UInt8[np.ndarray, "h w"], is_padded: bool) -> UInt8[np.ndarray, "64 64"]:
    if is_padded:
        side = max(picture.shape)
        top, left = ((side - length) // 2 for length in picture.shape)
        sheet = np.zeros((side, side), np.uint8)
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        picture = sheet
    size = (GLYPH_PX, GLYPH_PX)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def ladder(steps: Steps) -> dict[str, UInt8[np.ndarray, "64 64"]]:
    """What the network would see if `glyph_image` stopped after each of its steps."""
    turned = steps.grey if steps.is_ink_bright else 255 - steps.grey
    made = {
        "grey, bright ink, squashed to a square": _square(turned, is_padded=False),
        "the same, padded to a square": _square(turned, is_padded=True),
    }
    later = (
        ("paper subtracted", steps.ink),
        ("greys stretched from paper to ink", steps.strokes),
        ("strays at the border removed", steps.own_strokes),
    )
    for name, picture in later:
        made[name] = steps.glyph if picture is None else _square(picture, is_padded=True)
    return made | {"cropped to the ink: glyph_image": steps.glyph}


def read_crops(folder: Path) -> list[Crop]:
    """The rows of labels.csv, in its order."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return [
            Crop(folder / row["file"], row["char"], row["page"]) for row in csv.DictReader(file)
        ]


def is_read_right(
    recogniser: Recogniser, glyphs: Sequence[UInt8[np.ndarray, "64 64"]], crops: Sequence[Crop]
) -> tuple[Bool[np.ndarray, " n"], list[str]]:
    """Whether the best candidate of each is right, and the character it is."""
    readings = recogniser.predict_glyphs(np.stack(glyphs), top_k=1)
    best = [reading[0].character if len(reading) else "" for reading in readings]
    return np.array([b == crop.character for b, crop in zip(best, crops, strict=True)]), best


def looks_like_training(
    glyphs: Sequence[UInt8[np.ndarray, "64 64"]], dataset: Path
) -> Bool[np.ndarray, " n"]:
    """Whether a training image correlates with the glyph over MAX_CORRELATION."""
    from kkanji_jax.data.resident import load_split

    def standardised(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1).astype(np.float32)
        flat -= flat.mean(axis=1, keepdims=True)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)

    train, expected = load_split(dataset, "train").images, standardised(np.stack(glyphs))
    highest = np.zeros(len(glyphs), np.float32)
    for start in range(0, len(train), _TRAIN_ROWS):
        likeness = expected @ standardised(train[start : start + _TRAIN_ROWS]).T
        highest = np.maximum(highest, likeness.max(axis=1))
    return highest > MAX_CORRELATION


def summarise(recogniser: Recogniser, crops: list[Crop], dataset: Path | None) -> dict[str, Any]:
    """Scores of each step on both halves; the errors of the reporting half."""
    known = {recogniser.class_index.character(i) for i in range(len(recogniser.class_index))}
    readable = [crop for crop in crops if crop.character in known]
    kanji = [crop for crop in readable if script_of(codepoint_of(crop.character)) == "kanji"]

    def score(right: Bool[np.ndarray, " n"]) -> dict[str, Any]:
        return intervals.share(int(right.sum()), len(right))

    summary: dict[str, Any] = {
        "version": 1,
        "num_crops": len(crops),
        "num_known": len(readable),
        "num_pages": len({crop.page for crop in crops}),
        "step": recogniser.step,
        "weights": recogniser.weights,
        "halves": {},
    }
    for half, is_tuning in (("tuning", True), ("report", False)):
        chosen = [crop for crop in kanji if crop.is_for_tuning == is_tuning]
        if not chosen:
            raise ValueError(
                f"none of the kanji that the model knows is of the {half} half of pages"
            )
        made = [ladder(glyph_steps(load_image(crop.path))) for crop in chosen]
        by_step, best = {}, []
        for name in made[0]:
            right, best = is_read_right(recogniser, [glyphs[name] for glyphs in made], chosen)
            by_step[name] = score(right)
        content: dict[str, Any] = {"kanji_by_step": by_step}
        glyphs = [steps["cropped to the ink: glyph_image"] for steps in made]
        if dataset is not None:
            is_new = ~looks_like_training(glyphs, dataset)
            content["kanji_unlike_training"] = score(right[is_new])
        kana = [c for c in readable if c not in kanji and c.is_for_tuning == is_tuning]
        if kana:
            shown = [glyph_steps(load_image(crop.path)).glyph for crop in kana]
            content["kana"] = score(is_read_right(recogniser, shown, kana)[0])
        wrong = [(c, b, g) for c, b, g, r in zip(chosen, best, glyphs, right, strict=True) if not r]
        pairs = [f"{crop.character}→{read}" for crop, read, _ in wrong]
        content["misread"] = {pair: pairs.count(pair) for pair in sorted(set(pairs))}
        summary["halves"][half] = content
        if not is_tuning:
            summary["wrong"] = wrong
    return summary


def draw_misread(wrong: Sequence[tuple[Crop, str, np.ndarray]], out: Path) -> None:
    """Crop, glyph, and what it was read as, a cell each."""
    width, height, per_row = 170, 110, 8
    sheet = Image.new("RGB", (width * per_row, height * max(1, -(-len(wrong) // per_row))), "white")
    draw, font = ImageDraw.Draw(sheet), LabelFont(font_files())
    for number, (crop, read, glyph) in enumerate(wrong):
        left, top = number % per_row * width, number // per_row * height
        picture = Image.open(crop.path).convert("RGB")
        picture.thumbnail((80, 80))
        sheet.paste(picture, (left, top))
        sheet.paste(Image.fromarray(glyph), (left + 86, top))
        for place, character in ((0, crop.character), (60, read)):
            text, face = font.label(character, 22)
            draw.text((left + 4 + place, top + 82), text, (160, 0, 0), font=face)
    sheet.save(out)


def card_of(summary: dict[str, Any]) -> dict[str, Any]:
    """The scores of the reporting half, as a model card takes them."""
    report, tuning = summary["halves"]["report"], summary["halves"]["tuning"]
    score = report["kanji_by_step"]["cropped to the ink: glyph_image"]
    named = {"top-1, kanji it knows": score}
    if "kanji_unlike_training" in report:
        named["top-1, kanji unlike any training image"] = report["kanji_unlike_training"]
    if "kana" in report:
        named["top-1, kana it knows"] = report["kana"]
    elif "kana" in tuning:
        named["top-1, kana it knows (on the other half of the pages)"] = tuning["kana"]
    return {
        "split": "photographed crops of one book, half of its pages",
        "num_examples": score["n"] + report.get("kana", {"n": 0})["n"],
        "checkpoint_step": summary["step"],
        "weights": summary["weights"],
        "protocol": "pages by digest",
        **named,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("crops", type=Path, metavar="CROPS")
    parser.add_argument("--model", metavar="M", help="a run or a bundle (default: the package's)")
    parser.add_argument("--dataset", type=Path, help="what the model was trained on")
    parser.add_argument("--add", metavar="NAME", help="keep the summary under this name")
    parser.add_argument("--card", type=Path, metavar="DIR", help="M/eval, for the model card")
    parser.add_argument("--sheet", type=Path, metavar="OUT.png", help="the crops that were misread")
    args = parser.parse_args(argv)
    try:
        summary = summarise(load(args.model), read_crops(args.crops), args.dataset)
    except (ValueError, OSError, KeyError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    wrong = summary.pop("wrong")
    if args.sheet:
        draw_misread(wrong, args.sheet)
    for half, content in summary["halves"].items():
        rows = dict(content["kanji_by_step"])
        rows |= {
            name: content[name] for name in ("kanji_unlike_training", "kana") if name in content
        }
        for name, score in rows.items():
            low, high = score["ci95"]
            told = f"{100 * score['value']:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
            print(f"{half:8s}{name:44s}{told}  n={score['n']}")
    if args.card:
        write_json(args.card / "page_crops" / "eval.json", card_of(summary))
    if args.add:
        write_json(SUMMARIES / f"{args.add}.json", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
