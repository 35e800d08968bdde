"""Scores a model on a split: `python -m kkanji_jax.evaluate --model M --dataset DATASET`.

One exact pass, every example once. Writes eval.json (each score with its n and a 95 % interval)
and four tables: predictions.csv (five candidates for each example), confusions.csv (each error,
most frequent first), per_class.csv and suspects.csv (likely label errors). `--of val` also fits
temperature and verdicts and writes M/calibration.json, which later evaluations report on.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kkanji_jax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", metavar="M", help="folder of a run, or a bundle")
    parser.add_argument("--dataset", required=True, type=Path, help="folder of data_tools.build")
    parser.add_argument(
        "--of", choices=("train", "val", "test"), default="test", help="split (default: test)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default M/eval/SPLIT; of a bundle, no default"
    )
    parser.add_argument(
        "--weights",
        choices=("ema", "raw", "both"),
        help="default: ema where the run kept an average; both: the raw ones beside them",
    )
    parser.add_argument(
        "--which", choices=("best", "latest"), default="best", help="checkpoint (default: best)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="default: 256, over all devices"
    )
    parser.add_argument(
        "--unknown",
        type=Path,
        metavar="PATH",
        help="also: are characters outside the index told from those inside? A DATASET of more "
        "classes, or a folder of folders named by code point",
    )
    parser.add_argument(
        "--most-unknown", type=int, default=5000, metavar="N", help="of them (default: 5000)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates; 0, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        for flag in ("batch_size", "most_unknown"):
            if getattr(args, flag) < 1:
                name = "--" + flag.replace("_", "-")
                raise ValueError(f"wanted a {name} of at least 1, got {getattr(args, flag)}")
        from kkanji_jax.evaluation.run import Evaluation, evaluate  # here, for --help needs no JAX

        content = evaluate(
            Evaluation(
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
        )
    except (ValueError, OSError) as err:
        if "KKANJI_TRACEBACK" in os.environ:
            raise
        print(f"error: {' '.join(str(err).split())}", file=sys.stderr)
        return 1
    from kkanji_jax.evaluation.tables import TABLES
    from kkanji_jax.reporting.score_table import score_table

    print(score_table(content))
    print(f"wrote eval.json, {', '.join(TABLES)} in {content['out']}")
    return 0


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
