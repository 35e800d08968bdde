"""One HTML page of a run: `python -m kkanji_jax.report --model runs/b0`.

All scores that kkanji_jax.evaluate left in the run, the figures, the calibration, the classes and
the suspected label errors, in one file that needs no network. With --dataset, confusions and
suspects are drawn with their images.
"""

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kkanji_jax import cli
from kkanji_jax.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLIT_ORDER = ("test", "val", "train")
DPI, NUM_COLOURS = 110, 48


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser(
        "kkanji_jax.report", __doc__ or "", "--model runs/b0 --dataset data/kuzushiji"
    )
    parser.add_argument(
        "--model", required=True, type=Path, metavar="WORKDIR", help="folder of a run, as runs/b0"
    )
    parser.add_argument("--dataset", type=Path, help="the evaluated DATASET, for its images")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default WORKDIR/report.html")
    return parser


def write_report(workdir: Path, dataset: Path | None, out: Path) -> None:
    """Draws and writes the page; what was there stays until all of it is written."""
    from kkanji_jax.plots import style
    from kkanji_jax.plots.all_figures import all_figures
    from kkanji_jax.plots.evaluated import load_evaluated
    from kkanji_jax.plots.fonts import find_font
    from kkanji_jax.reporting.report_page import Picture, page

    font = find_font()
    pictures = []
    for figure in all_figures(workdir, font, "last", dataset):
        with style.house_style(font):
            pictures.append(Picture(figure.name, _png(figure.draw())))
    splits = sorted(load_evaluated(workdir), key=lambda found: SPLIT_ORDER.index(found.split))
    html = page(workdir.resolve().name, splits, pictures, _provenance(workdir))
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as unfinished:
        unfinished.write_text(html, encoding="utf-8")


def _png(figure: "Figure") -> bytes:
    """The figure in few colours: half the bytes, and no difference that the eye sees."""
    from PIL import Image

    drawn, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    palette = Image.open(drawn).convert("RGB").quantize(NUM_COLOURS)
    palette.save(reduced, format="png", optimize=True)
    return reduced.getvalue()


def _provenance(workdir: Path) -> list[tuple[str, str]]:
    """What a reader needs to repeat the run, from config.json and env.json where they are."""
    from kkanji_jax.config import default_config, differences

    rows = []
    env = workdir / "env.json"
    if env.is_file():
        content = json.loads(env.read_text(encoding="utf-8"))
        rows.append(("command", " ".join(content["command"])))
        rows.append(("commit", str(content["commit"] or "not recorded")))
        rows.append(("devices", f"{', '.join(content['devices'])}; {content['processors']} cores"))
        versions = [f"{name} {version}" for name, version in content["versions"].items()]
        rows.append(("versions", f"Python {content['python']}, {', '.join(versions)}"))
        if "dataset_fingerprint" in content:
            rows.append(("dataset", content["dataset_fingerprint"]))
    config = workdir / "config.json"
    if config.is_file():
        own = json.loads(config.read_text(encoding="utf-8"))
        changed = differences(default_config().to_dict(), own)
        rows.append(("differs from the default run in", "; ".join(changed) or "nothing"))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report; 0, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)
    out = args.out or args.model / "report.html"

    def work() -> None:
        write_report(args.model, args.dataset, out)
        print(out)

    return cli.answer(work)


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.report` and kkanji-report."""
    cli.run(main)


if __name__ == "__main__":
    run()
