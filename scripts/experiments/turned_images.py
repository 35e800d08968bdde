"""How images that lie on their side or upside down are read, with and without `--orient auto`.

    python scripts/experiments/turned_images.py DATASET [--model M] [--split test] [--n 300]
        [--seed 0] [--add NAME]

DATASET is what the model was trained on. Of its published and of its photographed images of the
split, --n each (all, if there are fewer) are read as they are, turned by 90° and 180° to the left,
and by 90° to the right. For each look, and for its kana and kanji alone: how many are read right
and how many are accepted and wrong, without and with `--orient auto`; how many with it lose their
`accept`; and how many it turns. --add keeps the counts in docs/results/turned_images/, for
results.py.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import summaries
from jaxtyping import Float32, UInt8
from summaries import write_json

from kkanji_jax.data.manifest import load_index, load_manifest
from kkanji_jax.data.resident import load_split
from kkanji_jax.data.scripts import SCRIPTS, script_of
from kkanji_jax.data.source_looks import LOOKS, look_of
from kkanji_jax.inference.orientation import TURNED, TurnedGlyphs
from kkanji_jax.inference.reading import Reading
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.inputs.note import Note

SUMMARIES = summaries.SUMMARIES / "turned_images"
LIES = ("upright", "turned 90° to the left", "turned 180°", "turned 90° to the right")
_BATCH = 128

Glyphs = UInt8[np.ndarray, "n 64 64"]
Outputs = tuple[Float32[np.ndarray, "n k"], Float32[np.ndarray, "n d"]]


class Shown(NamedTuple):
    """An image of the dataset, white on black, and what it shows."""

    look: str
    codepoint: str
    glyph: Any  # UInt8 [64 64]


class Read(NamedTuple):
    """What was read of an image that lies in one way, without and with `--orient auto`."""

    shown: Shown
    lies: str
    plain: Reading
    auto: Reading


def choose(dataset: Path, split: str, count: int, seed: int) -> list[Shown]:
    """`count` images of each look, or all of it, drawn without regard to their characters."""
    images = load_split(dataset, split)
    codepoints = load_index(dataset, load_manifest(dataset)).codepoints
    looks = [look_of(sample_id) for sample_id in images.sample_ids]
    chosen = []
    for number, look in enumerate(LOOKS):
        places = np.flatnonzero([each == look for each in looks])
        order = np.random.default_rng((seed, number)).permutation(len(places))
        for place in np.sort(places[order[:count]]):
            codepoint = codepoints[images.labels[place]]
            chosen.append(Shown(look, codepoint, images.images[place].reshape(64, 64)))
    return chosen


def read_turned(recogniser: Recogniser, shown: Sequence[Shown]) -> list[Read]:
    """Each image in the four ways it may lie; the network reads each turn once."""
    reads = []
    for start in range(0, len(shown), _BATCH):
        batch = shown[start : start + _BATCH]
        glyphs: Glyphs = np.stack([each.glyph for each in batch])
        turns = [np.ascontiguousarray(np.rot90(glyphs, turn, axes=(1, 2))) for turn in range(4)]
        outputs = [recogniser.outputs(turned) for turned in turns]
        for turn, lies in enumerate(LIES):
            plain = recogniser.readings_of(outputs[turn], turns[turn], top_k=1)
            auto = _read_oriented(recogniser, turns, outputs, turn)
            for each, *readings in zip(batch, plain, auto, strict=True):
                reads.append(Read(each, lies, *readings))
        print(f"{start + len(batch):,} of {len(shown):,}", file=sys.stderr)
    return reads


def _read_oriented(
    recogniser: Recogniser, turns: Sequence[Glyphs], outputs: Sequence[Outputs], turn: int
) -> list[Reading]:
    """The readings of `predict --orient auto` of the glyphs that lie as `turns[turn]`."""
    others = [(turn + more) % 4 for more in (1, 2, 3)]
    turned = TurnedGlyphs(
        np.arange(len(turns[turn])), np.concatenate([turns[other] for other in others])
    )
    logits, features = (
        np.concatenate([outputs[other][part] for other in others]) for part in (0, 1)
    )
    found = recogniser.surest_turns(turns[turn], outputs[turn], turned, (logits, features))
    notes = [Note(remarks=remarks) for remarks in found.remarks]
    outputs_kept = (found.logits, found.features)
    return recogniser.readings_of(outputs_kept, found.glyphs, top_k=1, notes=notes)


def rows_of(reads: Iterable[Read]) -> list[dict[str, Any]]:
    """The counts of each look, whole and by script, in each way of lying."""
    groups: dict[tuple[str, str, str], list[Read]] = {}
    for read in reads:
        for script in ("all", script_of(read.shown.codepoint)):
            groups.setdefault((read.shown.look, script, read.lies), []).append(read)
    order = [
        (look, script, lies)
        for look in LOOKS
        for script in ("all", *reversed(SCRIPTS))
        for lies in LIES
    ]
    return [
        {"look": key[0], "script": key[1], "lies": key[2], **counts_of(groups[key])}
        for key in order
        if key in groups and key[1] != "other"
    ]


def counts_of(reads: Sequence[Read]) -> dict[str, int]:
    """Counts over images that lie in one way.

    `accepts_lost` are accepted without `--orient auto`, and not with it; `turned` are those that it
    turned, `right_turned` those of them that were read right as they lay.
    """
    counts: Counter[str] = Counter()
    for read in reads:
        was_right, is_right = (_is_right(read.shown, each) for each in (read.plain, read.auto))
        was_accepted, is_accepted = (each.verdict == "accept" for each in (read.plain, read.auto))
        is_turned = any(remark in TURNED[1:] for remark in read.auto.remarks)
        counts.update(
            right=was_right,
            right_auto=is_right,
            accepts=was_accepted,
            accepts_lost=was_accepted and not is_accepted,
            wrong_accepts=was_accepted and not was_right,
            wrong_accepts_auto=is_accepted and not is_right,
            turned=is_turned,
            right_turned=is_turned and was_right,
        )
    return {"n": len(reads), **counts}


def _is_right(shown: Shown, reading: Reading) -> bool:
    return bool(len(reading)) and reading[0].codepoint == shown.codepoint


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown: a line a row, shares in percent."""
    heading = ("look", "script", "lies", "n", "right", "right, auto", "accepted, wrong")
    heading += ("accepted, wrong, auto", "accepts lost", "turned")
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for row in rows:
        names = ("right", "right_auto", "wrong_accepts", "wrong_accepts_auto")
        shares = [f"{100 * row[name] / row['n']:.1f}" for name in names]
        lost = f"{row['accepts_lost']} of {row['accepts']}"
        cells = [row["look"], row["script"], row["lies"], str(row["n"])]
        lines.append("| " + " | ".join([*cells, *shares, lost, str(row["turned"])]) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET")
    add("--model", metavar="M", help="a run or a bundle (default: the package's)")
    add("--split", choices=("val", "test"), default="test")
    add("--n", type=int, default=300, help="images of each look (default: 300)")
    add("--seed", type=int, default=0)
    add("--add", metavar="NAME", help="keep the counts under this name")
    args = parser.parse_args(argv)
    try:
        if args.n < 1:
            raise ValueError(f"expected an --n of at least 1, got {args.n}")
        manifest = load_manifest(args.dataset)
        recogniser = load(args.model, backend="onnx")
        if recogniser.accuracy_of("accept") is None:
            raise ValueError("the model has no verdicts: run kkanji_jax.evaluate --of val first")
        shown = choose(args.dataset, args.split, args.n, args.seed)
    except (ValueError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    rows = rows_of(read_turned(recogniser, shown))
    print(table(rows))
    if args.add:
        summary = {
            "version": 1,
            "split": args.split,
            "n": args.n,
            "seed": args.seed,
            "step": recogniser.step,
            "weights": recogniser.weights,
            "num_classes": len(recogniser.class_index),
            "dataset_fingerprint": manifest["fingerprint"],
            "rows": rows,
        }
        write_json(SUMMARIES / f"{args.add}.json", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
