"""The text of whole pages: in which order boxes are read, and how many characters are right.

    python scripts/experiments/page_text.py SCANS [--model M] [--dataset DATASET] [--add NAME] \\
        [--show OUT]

SCANS holds pages `<book>_<page>.jpg`, boxes.csv with the columns page, order, codepoint, x, y, w
and h, and for some pages their text in `<page>.txt`; `order` is the number of a character in it.
The boxes are those of the file; their order is found anew. DATASET says which books the model was
trained on: their characters are reported apart. Every character counts: one outside the index as
wrong, and 〓 as wrong in the text. --add keeps the summary in docs/results/page_text/, for
results.py; --show writes the transcripts to a folder.
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import summaries
from photographs import role_of
from scipy.stats import kendalltau
from summaries import told, write_json

from kkanji_jax.answers.page_readings import PagesOfRows
from kkanji_jax.answers.rows import RowOptions, predict_rows
from kkanji_jax.answers.transcript import text_of_pages
from kkanji_jax.data.manifest import load_manifest
from kkanji_jax.data.scripts import SCRIPTS, script_of
from kkanji_jax.evaluation import intervals
from kkanji_jax.inference.recogniser import Recogniser, load
from kkanji_jax.inputs.box_crops import crops_of
from kkanji_jax.inputs.image_input import ImageInput
from kkanji_jax.pages.box import Box

SUMMARIES = summaries.SUMMARIES / "page_text"


class Known(NamedTuple):
    """A box of boxes.csv, with what it holds and its number in its page's text, if known."""

    box: Box
    codepoint: str
    order: int | None


class PageScore(NamedTuple):
    """A page as it was read; box for box, `codepoints`, `is_accepted` and `best` go together."""

    page: str
    codepoints: list[str]
    best: list[str]  # the best candidate's code point; empty without one
    is_accepted: list[bool]
    found_orders: list[int]  # the true numbers of boxes, in the order that was found
    text: str  # the transcript, with 〓
    best_text: str  # the same of all best candidates
    truth: str  # empty if it is not known


def read_scans(folder: Path) -> dict[str, list[Known]]:
    """The boxes of each page, in the file's order; their ids are their places in it."""
    pages: dict[str, list[Known]] = {}
    with (folder / "boxes.csv").open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            place = [int(row[key]) for key in ("x", "y", "w", "h")]
            left, top, width, height = place
            known = Known(
                Box(left, top, width, height, str(number)),
                row["codepoint"],
                int(row["order"]) if row["order"] else None,
            )
            pages.setdefault(row["page"], []).append(known)
    return dict(sorted(pages.items()))


def score_page(
    folder: Path, page: str, known: Sequence[Known], recogniser: Recogniser
) -> PageScore:
    """Reads the boxes of one page; ValueError for one that is not on it."""
    read = PagesOfRows()
    found = crops_of([ImageInput(str(folder / f"{page}.jpg"))], [each.box for each in known])
    rows = list(predict_rows(recogniser, read.watched(found), RowOptions(top_k=1)))
    if errors := [row.error for row in rows if row.error]:
        raise ValueError(f"{page}: {errors[0]}")
    (shown,) = read.pages([[row] for row in rows])
    by_id = {each.box.id: each for each in known}
    boxes = list(itertools.chain(*shown.columns))
    truth = folder / f"{page}.txt"
    return PageScore(
        page,
        [by_id[box.item.id].codepoint for box in boxes],
        [box.rows[0].codepoint or "" for box in boxes],
        [box.is_accepted for box in boxes],
        [order for box in boxes if (order := by_id[box.item.id].order) is not None],
        "".join(text_of_pages([shown])),
        "".join(box.rows[0].character or "〓" for box in boxes),
        truth.read_text(encoding="utf-8").strip() if truth.is_file() else "",
    )


def distance(read: str, truth: str) -> int:
    """Insertions, deletions and substitutions from one text to the other (Levenshtein)."""
    places = np.arange(len(truth) + 1)
    before = places.copy()
    for number, character in enumerate(read, 1):
        substituted = before[:-1] + np.array([character != other for other in truth], int)
        after = np.minimum(before[1:] + 1, substituted)
        after = np.concatenate(([number], after))
        before = np.minimum.accumulate(after - places) + places  # insertions, from the left
    return int(before[-1])


def order_of(scores: Sequence[PageScore]) -> dict[str, Any]:
    """How well the order was found: pairs of neighbours in the text that stayed neighbours."""
    kept = total = 0
    taus = []
    for score in scores:
        orders = score.found_orders
        if len(orders) < 2:
            continue
        after = dict(itertools.pairwise(orders))
        kept += sum(after[a] == b for a, b in itertools.pairwise(sorted(orders)) if a in after)
        total += len(orders) - 1
        tau: Any = kendalltau(range(len(orders)), orders)  # a class that no type checker knows
        taus.append(float(tau.statistic))
    return {
        "pages": len(taus),
        "pairs_kept": intervals.share(kept, total),
        "mean_tau": sum(taus) / len(taus) if taus else None,
        "min_tau": min(taus, default=None),
    }


def characters_of(scores: Sequence[PageScore], manifest: dict[str, Any] | None) -> list[dict]:
    """By role of the book and script: best candidates right, and what stands in the text."""
    groups: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for score in scores:
        book = score.page.split("_")[0]
        role = role_of(book, manifest) if manifest else "any book"
        for truth, best, accepted in zip(
            score.codepoints, score.best, score.is_accepted, strict=True
        ):
            groups.setdefault((role, script_of(truth)), []).append((truth == best, accepted))
    rows = []
    for (role, script), read in sorted(
        groups.items(), key=lambda item: (item[0][0], SCRIPTS.index(item[0][1]))
    ):
        accepted = [right for right, is_accepted in read if is_accepted]
        rows.append(
            {
                "role": role,
                "script": script,
                "n": len(read),
                "best": intervals.share(sum(right for right, _ in read), len(read)),
                "accepted": intervals.share(len(accepted), len(read)),
                "accepted_right": intervals.share(sum(accepted), len(accepted)),
                "in_text": intervals.share(sum(accepted), len(read)),
            }
        )
    return rows


def texts_of(scores: Sequence[PageScore]) -> dict[str, Any]:
    """Character accuracy of whole texts, 1 - edits / length, over all pages with a known text."""
    told = [score for score in scores if score.truth]
    length = sum(len(score.truth) for score in told)
    if not length:
        return {"pages": 0, "n": 0}

    def accuracy(texts: Sequence[str]) -> float:
        edits = sum(distance(text, score.truth) for text, score in zip(texts, told, strict=True))
        return 1 - edits / length

    return {
        "pages": len(told),
        "n": length,
        "best": accuracy([score.best_text for score in told]),
        "transcript": accuracy(["".join(score.text.split()) for score in told]),
    }


def summarise(args: argparse.Namespace) -> dict[str, Any]:
    """All of it, and whose reading it is."""
    recogniser = load(args.model, backend=args.backend)
    if recogniser.accuracy_of("accept") is None:
        raise ValueError("expected a calibrated model: a text is made by verdicts")
    scores = [
        score_page(args.scans, page, known, recogniser)
        for page, known in read_scans(args.scans).items()
    ]
    if args.show:
        args.show.mkdir(parents=True, exist_ok=True)
        for score in scores:
            (args.show / f"{score.page}.txt").write_text(score.text, encoding="utf-8")
    return {
        "version": 1,
        "step": recogniser.step,
        "weights": recogniser.weights,
        "num_pages": len(scores),
        "order": order_of(scores),
        "characters": characters_of(scores, load_manifest(args.dataset) if args.dataset else None),
        "texts": texts_of(scores),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scans", type=Path, help="pages and their boxes")
    parser.add_argument("--model", metavar="M", help="a run or a bundle (default: the package's)")
    parser.add_argument("--backend", choices=("jax", "onnx"), default="onnx")
    parser.add_argument("--dataset", type=Path, help="what it was trained on")
    parser.add_argument("--add", metavar="NAME", help="keep the summary under this name")
    parser.add_argument("--show", type=Path, metavar="OUT", help="folder for the transcripts")
    args = parser.parse_args(argv)
    try:
        summary = summarise(args)
    except (ValueError, OSError, KeyError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    order, texts = summary["order"], summary["texts"]
    print(f"order, {order['pages']} pages: neighbours kept {told(order['pairs_kept'])}")
    for row in summary["characters"]:
        print(
            f"{row['role']}, {row['script']}: best candidate {told(row['best'])}; in the text "
            f"{told(row['accepted'])}, of these right {told(row['accepted_right'])}"
        )
    if texts["n"]:
        print(
            f"texts, {texts['pages']} pages of {texts['n']:,} characters: accuracy "
            f"{100 * texts['best']:.1f} % of best candidates, {100 * texts['transcript']:.1f} % "
            "with 〓"
        )
    if args.add:
        write_json(SUMMARIES / f"{args.add}.json", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
