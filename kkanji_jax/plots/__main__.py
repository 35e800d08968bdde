"""Draws the figures of a run: `python -m kkanji_jax.plots --model runs/b0`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kkanji_jax import cli


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "kkanji_jax.plots", __doc__ or "", "--model runs/b0 --dataset data/kuzushiji"
    )
    parser.add_argument(
        "--model", required=True, type=Path, metavar="WORKDIR", help="folder of a run, as runs/b0"
    )
    parser.add_argument("--out", type=Path, help="folder for the figures; default WORKDIR/plots")
    parser.add_argument(
        "--evaluation",
        choices=("last", "best"),
        default="last",
        help="the evaluation whose misclassifications are drawn",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        help="the evaluated DATASET: draws the commonest confusions and suspected label errors "
        "with their images",
    )
    parser.add_argument(
        "--figure-format",
        nargs="+",
        choices=("png", "svg", "pdf"),
        default=["png"],
        metavar="FORMAT",
        help="one or several of png, svg and pdf: `png svg` writes each figure twice "
        "(default: png)",
    )
    return parser


def draw_all(
    workdir: Path, out: Path, which: str, dataset: Path | None, formats: Sequence[str] = ("png",)
) -> None:
    """Writes every figure that the run has data for in each format, and prints their paths."""
    from kkanji_jax.plots import style
    from kkanji_jax.plots.all_figures import all_figures
    from kkanji_jax.plots.fonts import find_font

    font = find_font()
    for figure in all_figures(workdir, font, which, dataset):
        with style.house_style(font):
            drawn = figure.draw()
            for suffix in dict.fromkeys(formats):
                print(style.save(drawn, out / f"{figure.name}.{suffix}"), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the figures; 0, or 1 with one line on stderr if they cannot be drawn."""
    args = _parser().parse_args(argv)
    out = args.out or args.model / "plots"
    return cli.answer(
        lambda: draw_all(args.model, out, args.evaluation, args.dataset, args.figure_format)
    )


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.plots` and kkanji-plots."""
    cli.run(main)


if __name__ == "__main__":
    run()
