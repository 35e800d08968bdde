"""One HTML page of a run: `python -m kkanji_jax.report --model runs/b0`.

All scores that kkanji_jax.evaluate left in the run, the figures, the calibration, the classes and
the suspected label errors, in one file that needs no network. With --dataset, confusions and
suspects are drawn with their images.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kkanji_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", required=True, type=Path, metavar="WORKDIR", help="folder of a run, as runs/b0"
    )
    parser.add_argument("--dataset", type=Path, help="the evaluated DATASET, for its images")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default WORKDIR/report.html")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report; 0, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)
    from kkanji_jax.reporting.run_report import write_report

    out = args.out or args.model / "report.html"
    try:
        write_report(args.model, args.dataset, out)
    except (ValueError, OSError, KeyError) as err:
        if "KKANJI_TRACEBACK" in os.environ:
            raise
        print(f"error: {' '.join(str(err).split())}", file=sys.stderr)
        return 1
    print(out)
    return 0


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
