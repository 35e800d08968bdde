"""The page comes back with a box and a legible label for each reading, and no empty boxes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.answers.annotate import COLOURS, LabelFont, annotate_page
from kkanji_jax.answers.rows import Row
from kkanji_jax.plots.fonts import font_files

PAPER = (230, 220, 200)


@pytest.fixture
def page(tmp_path: Path) -> str:
    Image.new("RGB", (300, 200), PAPER).save(tmp_path / "page.png")
    return str(tmp_path / "page.png")


def row(box: tuple[int, int, int, int], character: str | None, verdict: str = "", rank=1) -> Row:
    codepoint = f"U+{ord(character):04X}" if character else None
    return Row("p", rank, character, codepoint, 0.5, verdict, box=box)


def test_boxes_have_their_verdicts_colour_and_a_label_at_their_right(page: str, tmp_path: Path):
    out = tmp_path / "out.png"
    rows = [
        row((20, 30, 60, 60), "春", "accept"),
        row((150, 30, 60, 60), "夏", "unknown"),
        row((20, 110, 60, 60), "秋", rank=2),
    ]
    annotate_page(page, rows, out, font_files())
    drawn = np.asarray(Image.open(out)).astype(int)
    assert drawn.shape == (200, 300, 3)
    assert tuple(drawn[30, 40]) == COLOURS["accept"] and tuple(drawn[30, 170]) == COLOURS["unknown"]
    right_of_first = drawn[30:70, 84:115]
    assert (right_of_first == COLOURS["accept"]).all(-1).sum() > 40
    assert (drawn[105:, :] == PAPER).all()  # the second candidate of a box is not drawn
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_character_without_a_glyph_is_labelled_by_its_code_point():
    font = LabelFont(font_files())
    assert font.label("春", 24)[0] == "春"
    assert font.label("\U0001b002", 24)[0] == "U+1B002"  # hentaigana: in no common font
    assert LabelFont([]).label("春", 24)[0] == "U+6625"


def test_boxes_at_and_over_the_edge_are_drawn_where_there_is_room(page: str, tmp_path: Path):
    rows = [
        row((260, -10, 60, 60), "春"),
        row((-5, 190, 400, 30), "夏"),
        Row("p", error="the box is empty", box=(5, 5, 0, -3)),
    ]
    annotate_page(page, rows, tmp_path / "out.png", font_files())
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (300, 200)


def test_a_deep_page_is_drawn_at_its_own_brightness(tmp_path: Path):
    deep = np.full((50, 50), 40000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    annotate_page(str(tmp_path / "deep.png"), [], tmp_path / "out.png", [])
    assert np.asarray(Image.open(tmp_path / "out.png"))[0, 0].tolist() == [156] * 3


def ink_of(drawn: np.ndarray, verdict: str) -> tuple[int, int]:
    """Height and width of all that has a verdict's colour."""
    rows, columns = np.nonzero((drawn == COLOURS[verdict]).all(-1))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("box", [(100, 40, 7, 90), (60, 100, 90, 7)])
def test_the_label_of_a_narrow_box_is_as_large_as_that_of_a_wide_one(
    page: str, tmp_path: Path, box: tuple[int, int, int, int]
):
    def label_of(place: tuple[int, int, int, int]) -> tuple[int, int]:
        out = tmp_path / "out.png"
        annotate_page(page, [row(place, "春", "accept")], out, font_files())
        drawn = np.asarray(Image.open(out)).astype(int)
        return ink_of(drawn[:, place[0] + place[2] + 2 :], "accept")

    wide, narrow = label_of((60, 40, 90, 90)), label_of(box)
    assert min(wide) >= 38  # half of 90, less a font's own margin
    assert min(narrow) >= 0.75 * min(wide)


def test_a_label_without_room_at_the_right_stands_at_the_left_of_its_box(page: str, tmp_path: Path):
    annotate_page(page, [row((240, 30, 55, 90), "春", "accept")], tmp_path / "o.png", font_files())
    drawn = np.asarray(Image.open(tmp_path / "o.png")).astype(int)
    is_ink = (drawn == COLOURS["accept"]).all(-1)
    assert is_ink[:, 190:238].sum() > 300 and not is_ink[33:118, 244:292].any()


def test_labels_and_ink_are_legible_on_a_transparent_page(tmp_path: Path):
    ink = np.zeros((200, 300, 4), np.uint8)  # black everywhere, and seen at the strokes only
    ink[60:120, 50:56, 3] = 255
    Image.fromarray(ink).save(tmp_path / "page.png")
    out = tmp_path / "out.png"
    rows = [row((46, 55, 14, 70), "春", "ask")]
    annotate_page(str(tmp_path / "page.png"), rows, out, font_files())
    with Image.open(out) as opened:
        assert opened.mode == "RGB"
        drawn = np.asarray(opened).astype(int)
    assert (drawn[0, 0] == 255).all() and (drawn[90, 52] == 0).all()
    label = drawn[50:110, 63:110]
    assert (label == COLOURS["ask"]).all(-1).sum() > 150 and min(ink_of(label, "ask")) >= 25
    assert label.min(axis=2).max() == 255 and not (label == 0).all(-1).any()


def test_a_line_does_not_strike_out_the_label_of_a_neighbour(page: str, tmp_path: Path):
    apart = [row((40, 40, 60, 80), "一", "accept")]
    annotate_page(page, apart, tmp_path / "one.png", font_files())
    close = [*apart, row((110, 30, 60, 100), None, "unknown")]
    annotate_page(page, close, tmp_path / "two.png", font_files())
    one, two = (np.asarray(Image.open(tmp_path / f"{n}.png")).astype(int) for n in ("one", "two"))
    label = (one == COLOURS["accept"]).all(-1) & (np.arange(300) > 101)
    assert label[:, 111].any() and (two[label] == COLOURS["accept"]).all()


def test_another_format_or_a_font_that_is_none_is_refused(page: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"must end in \.png"):
        annotate_page(page, [], tmp_path / "out.jpg", [])
    with pytest.raises(ValueError, match="cannot read .*page.png"):
        annotate_page(page, [row((1, 1, 20, 20), "春")], tmp_path / "out.png", [Path(page)])
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]
