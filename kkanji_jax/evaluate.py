"""Scores a model on a split: `python -m kkanji_jax.evaluate --model M --dataset DATASET`.

One exact pass, every example once. Writes eval.json (each score with its n and a 95 % interval)
and four tables: predictions.csv (five candidates for each example), confusions.csv (each error,
most frequent first), per_class.csv and suspects.csv (likely label errors). `--of val` also fits
temperature and verdicts, for which it reads turned and halved copies of val images too, and writes
M/calibration.json, which later evaluations apply.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kkanji_jax import cli

DEFAULT_OF, DEFAULT_BATCH_SIZE, DEFAULT_UNKNOWN = "test", 256, 5000


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "kkanji_jax.evaluate",
        __doc__ or "",
        "--model runs/b0 --dataset data/kuzushiji --of val",
    )
    parser.add_argument(
        "--model", metavar="M", help="folder of a run, or a bundle (default: the package's)"
    )
    scored = parser.add_mutually_exclusive_group(required=True)
    scored.add_argument("--dataset", type=Path, help="folder written by data_tools.build")
    scored.add_argument(
        "--images",
        type=Path,
        metavar="PATH",
        help="your own labelled images: folders named U+XXXX, or CSV with path and codepoint; "
        "writes to --out if given",
    )
    parser.add_argument(
        "--backend", choices=("jax", "onnx"), default="jax", help="for --images; as in predict"
    )
    parser.add_argument(
        "--orient",
        choices=("no", "auto"),
        default="no",
        help="for --images; as in predict",
    )
    parser.add_argument(
        "--of", choices=("train", "val", "test"), default=DEFAULT_OF, help="the split"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: M/eval/SPLIT; needed for a bundle"
    )
    parser.add_argument(
        "--weights",
        choices=("ema", "raw", "both"),
        help="default: ema if the run kept an average; both: score the raw weights too",
    )
    parser.add_argument(
        "--which", choices=("best", "latest"), default="best", help="which checkpoint of the run"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=DEFAULT_BATCH_SIZE,
        metavar="N",
        help="images at a time, on all devices together",
    )
    parser.add_argument(
        "--unknown",
        type=Path,
        metavar="PATH",
        help="also score how well characters outside the index are told from those inside: a "
        "DATASET of more classes, or a folder of folders named by code point",
    )
    parser.add_argument(
        "--most-unknown",
        type=int,
        default=DEFAULT_UNKNOWN,
        metavar="N",
        help="most images of --unknown",
    )
    return parser


def _score_images(args: argparse.Namespace) -> None:
    from kkanji_jax.answers import labelled_scores
    from kkanji_jax.inference.recogniser import load
    from kkanji_jax.inputs.finding import told_counts
    from kkanji_jax.inputs.labelled_images import find_labelled

    if args.unknown:
        raise ValueError("--unknown needs --dataset; --images counts unknown characters itself")
    if args.of != DEFAULT_OF:
        raise ValueError("--of is for --dataset: images of your own are not in splits")
    for flag, default in (("batch_size", DEFAULT_BATCH_SIZE), ("most_unknown", DEFAULT_UNKNOWN)):
        if getattr(args, flag) != default:
            raise ValueError(f"--{flag.replace('_', '-')} is for --dataset: leave it out")
    if args.weights == "both":
        raise ValueError("--images scores one set of weights: expected --weights ema or raw")
    passed_over: Counter[str] = Counter()
    found = find_labelled(args.images, passed_over)
    recogniser = load(args.model, weights=args.weights, which=args.which, backend=args.backend)
    with cli.Progress() as progress:
        answers = labelled_scores.read_labelled(recogniser, found, progress, args.orient)
    scores = labelled_scores.scores_of(answers, frozenset(recogniser.class_index.codepoints))
    print("\n".join(labelled_scores.score_lines(scores)), flush=True)
    for answer in [answer for answer in answers if answer.error][:10]:
        print(f"{answer.labelled.path}: {answer.error}", file=sys.stderr)
    if passed_over:
        print(f"passed over: {told_counts(passed_over)}", file=sys.stderr)
    if args.out:
        from kkanji_jax.plots import own_confusions, style
        from kkanji_jax.plots.fonts import find_font

        labelled_scores.write_labelled(args.out, answers, {**scores, "orient": args.orient})
        font = find_font()
        with style.house_style(font):
            figure = own_confusions.draw(answers, font)
            style.save(figure, args.out / labelled_scores.CONFUSIONS_FIGURE)
        tables = (labelled_scores.SCORES, labelled_scores.READINGS, labelled_scores.CONFUSIONS)
        print(f"wrote {', '.join(tables)}, {labelled_scores.CONFUSIONS_FIGURE} in {args.out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates; 0, or 1 with one line on stderr. The scores are shown before a file is written."""
    args = _parser().parse_args(argv)

    def work() -> None:
        if args.images:
            _score_images(args)
            return
        if args.backend != "jax":
            raise ValueError("--backend is for --images: a dataset is scored by jax")
        if args.orient != "no":
            raise ValueError("--orient is for --images: images of a dataset are read as they lie")
        for flag in ("batch_size", "most_unknown"):
            if getattr(args, flag) < 1:
                name = "--" + flag.replace("_", "-")
                raise ValueError(f"{name} must be at least 1, not {getattr(args, flag)}")
        if args.most_unknown != DEFAULT_UNKNOWN and not args.unknown:
            raise ValueError("--most-unknown bounds the images of --unknown: give that too")
        from kkanji_jax.evaluation.csv_tables import TABLES
        from kkanji_jax.evaluation.run import (
            Evaluation,
            evaluate,
        )  # imported here, so that --help needs no JAX
        from kkanji_jax.reporting.score_table import score_table

        asked = Evaluation(
            model=args.model,
            dataset=args.dataset,
            split=args.of,
            out=args.out,
            weights=args.weights,
            which=args.which,
            batch_size=args.batch_size,
            unknown=args.unknown,
            most_unknown=args.most_unknown,
        )
        content = evaluate(asked, lambda content: print(score_table(content), flush=True))
        print(f"wrote eval.json, {', '.join(TABLES)} in {content['out']}")

    return cli.answer(work)


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.evaluate` and kkanji-evaluate."""
    cli.run(main)


if __name__ == "__main__":
    run()
