"""One HTML page of a run: `python -m kkanji_jax.report --model runs/b0`.

All scores that kkanji_jax.evaluate wrote into the run, the figures, the calibration, the classes
and the suspected label errors, in one file that loads no other. With --dataset, confusions and
suspects are drawn with their images.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kkanji_jax import cli
from kkanji_jax.files import file_named


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "kkanji_jax.report", __doc__ or "", "--model runs/b0 --dataset data/kuzushiji"
    )
    parser.add_argument(
        "--model", required=True, type=Path, metavar="WORKDIR", help="folder of a run, as runs/b0"
    )
    parser.add_argument("--dataset", type=Path, help="the evaluated DATASET, for its images")
    parser.add_argument("--out", metavar="FILE", help="default WORKDIR/report.html")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report; 0, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)

    def work() -> None:
        out = args.model / "report.html"
        if args.out is not None:
            out = file_named(args.out, "--out")
        from kkanji_jax.reporting.run_report import write_report

        write_report(args.model, args.dataset, out)
        print(out)

    return cli.answer(work)


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.report` and kkanji-report."""
    cli.run(main)


if __name__ == "__main__":
    run()
