"""Axes on which the last per mille can be read, and settings that stay inside."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from kkanji_jax.plots.fonts import find_font
from kkanji_jax.plots.style import as_shares, house_style, new_figure, save, titled_figure


def axes_for(values: list[float]):
    with house_style(find_font()):
        _, (axes,) = new_figure("Title", "subtitle")
        axes.plot(values)
        as_shares(axes, values, "accuracy")
    return axes


def height_of(axes, share: float) -> float:
    """Where on the axis a value stands: 0 bottom, 1 top."""
    axes.figure.canvas.draw()
    return float(axes.transAxes.inverted().transform(axes.transData.transform((0, share)))[1])


def test_shares_far_from_one_keep_a_plain_axis():
    axes = axes_for([0.2, 0.5, 0.7])
    assert height_of(axes, 0.5) - height_of(axes, 0.4) == pytest.approx(
        height_of(axes, 0.7) - height_of(axes, 0.6)
    )


def test_close_to_one_each_halving_of_the_error_is_as_high():
    axes = axes_for([0.5, 0.9, 0.99, 0.999])
    steps = np.diff([height_of(axes, share) for share in (0.9, 0.99, 0.999)])
    assert steps[0] == pytest.approx(steps[1]) and steps[0] > 0.15
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert {"90 %", "99 %", "99.9 %"} <= set(labels) and 3 <= len(labels) <= 8
    assert "log" in axes.get_ylabel()


@pytest.mark.parametrize("values", [[1.0], [0.99], [0.0], [], [0.95, 1.0], [0.99999, 0.999999]])
def test_every_value_stands_inside_the_axis(values: list[float]):
    axes = axes_for(values)
    for value in values:
        assert -1e-6 <= height_of(axes, value) <= 1 + 1e-6
    assert all(label.get_text() for label in axes.get_yticklabels())


def test_the_style_ends_with_its_figure():
    before = dict(matplotlib.rcParams)
    axes_for([0.5])
    assert dict(matplotlib.rcParams) == before


def test_a_subtitle_too_long_for_its_figure_is_broken_and_stays_inside():
    words = " ".join(f"word{number}" for number in range(40))
    with house_style(find_font()):
        figure, top = titled_figure("Title", f"short\n{words}", width=4.0, body=2.0)
        figure.canvas.draw()
    _, subtitle = figure.texts
    box = subtitle.get_window_extent()
    assert subtitle.get_text().replace("\n", " ") == f"short {words}"  # nothing is lost
    assert box.x1 <= 4.0 * figure.dpi and box.y0 >= 2.0 * figure.dpi
    assert figure.get_size_inches().tolist() == pytest.approx([4.0, top + 2.0])


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.pdf"])
def test_a_figure_is_written_in_the_format_of_its_name_and_alike_each_time(name, tmp_path: Path):
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    written = []
    for folder in ("first", "second"):
        with house_style(find_font()):
            figure, (axes,) = new_figure("Title", "subtitle")
            axes.plot([1, 2], [3, 4], label="春")
            axes.legend()
            written.append(save(figure, tmp_path / folder / name).read_bytes())
    assert written[0] == written[1] and written[0].startswith(starts[Path(name).suffix])
    assert re.search(rb"Matplotlib v|20\d\d-\d\d", written[0]) is None


def test_a_value_of_one_stands_at_the_end_that_is_labelled_so():
    axes = axes_for([0.9, 0.99, 1.0])
    height_of(axes, 1.0)  # draws
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[-1] == "100 %" and height_of(axes, 1.0) == pytest.approx(1.0)
    assert height_of(axes, 0.99) < 0.97
