"""Collects the files of a run into its report: draws figures, reads scores, writes the page."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from kkanji_jax.config import default_config, differences
from kkanji_jax.files import read_json, written_whole
from kkanji_jax.plots import style
from kkanji_jax.plots.all_figures import all_figures
from kkanji_jax.plots.evaluated import load_evaluated
from kkanji_jax.plots.fonts import find_font
from kkanji_jax.reporting.report_page import REPEATING, Picture, page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPLIT_ORDER = ("test", "val", "train")
DPI, NUM_COLOURS = 110, 48


def write_report(workdir: Path, dataset: Path | None, out: Path) -> None:
    """Draws and writes the page; an existing file stays until all of it is written."""
    font = find_font()
    pictures = []
    for figure in all_figures(workdir, font, "last", dataset):
        if figure.name in REPEATING:
            continue
        with style.house_style(font):
            pictures.append(Picture(figure.name, _png(figure.draw())))
    splits = sorted(load_evaluated(workdir), key=lambda found: SPLIT_ORDER.index(found.split))
    html = page(workdir.resolve().name, splits, pictures, _provenance(workdir))
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as unfinished:
        unfinished.write_text(html, encoding="utf-8")


def _png(figure: "Figure") -> bytes:
    """The figure in few colours: half the bytes, without a visible difference."""
    drawn, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    palette = Image.open(drawn).convert("RGB").quantize(NUM_COLOURS)
    palette.save(reduced, format="png", optimize=True)
    return reduced.getvalue()


def _provenance(workdir: Path) -> list[tuple[str, str | list[str]]]:
    """What a reader needs to repeat the run, from config.json and env.json if they are there.

    A list has lines of code, a string is text.
    """
    rows: list[tuple[str, str | list[str]]] = []
    env = workdir / "env.json"
    if env.is_file():
        content = read_json(
            env, having=("command", "commit", "devices", "processors", "versions", "python")
        )
        rows.append(("command", [" ".join(content["command"])]))
        rows.append(("commit", str(content["commit"] or "not recorded")))
        rows.append(("devices", f"{', '.join(content['devices'])}; {content['processors']} cores"))
        versions = [f"{name} {version}" for name, version in content["versions"].items()]
        rows.append(("versions", f"Python {content['python']}, {', '.join(versions)}"))
        if "dataset_fingerprint" in content:
            rows.append(("dataset", content["dataset_fingerprint"]))
    config = workdir / "config.json"
    if config.is_file():
        changes = differences(default_config().to_dict(), read_json(config))
        rows.append(("differs from the default run in", changes))
    return rows
