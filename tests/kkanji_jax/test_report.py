"""One page, whole in itself: every figure and score of a run, and nothing from elsewhere."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from kkanji_jax.plots.evaluated import load_evaluated
from kkanji_jax.report import main
from kkanji_jax.reporting.report_page import page
from kkanji_jax.reporting.score_table import score_table

VOID = ("meta", "img", "br")


class Checked(HTMLParser):
    """Collects what a page asks for, and whether its tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.ids: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.sources += [found[name] or "" for name in ("src", "href") if name in found]
        self.ids |= {found["id"] or ""} if "id" in found else set()
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def reported(evaluated_run: Path):
    """A run evaluated on val and test, and its page."""
    assert main(["--model", str(evaluated_run)]) == 0
    html = (evaluated_run / "report.html").read_text(encoding="utf-8")
    checked = Checked()
    checked.feed(html)
    return evaluated_run, html, checked


def test_the_page_is_well_formed_and_needs_nothing_else(reported):
    _, html, checked = reported
    assert checked.open == []
    for source in checked.sources:
        is_inside = source.startswith("#") and source[1:] in checked.ids
        assert is_inside or source.startswith("data:image/png;base64,"), source[:80]
    for outside in ("http:", "https:", "url(", "@import", "<script", "<link"):
        assert outside not in html
    assert 'name="viewport"' in html
    assert "<b> run" not in html and "a &lt;b&gt; run" in html  # a name is text, not a tag


def test_every_figure_is_an_image_that_opens(reported):
    _, html, _ = reported
    figures = re.findall(r'alt="([^"]*)" src="data:image/png;base64,([^"]*)"', html)
    names = {name for name, _ in figures}
    for expected in (
        "loss curve",
        "top misclassifications",
        "reliability test",
        "risk coverage val",
        "long tail test",
        "long tail val",
    ):
        assert expected in names
    for _, encoded in figures:
        image = Image.open(io.BytesIO(base64.b64decode(encoded)))
        assert image.width > 300 and len(image.convert("L").getcolors() or ()) > 2


def test_every_curve_stands_once_on_the_page(reported):
    _, html, _ = reported
    names = re.findall(r'alt="([^"]*)" src=', html)
    assert len(names) == len(set(names))
    assert "loss curve" in names and "accuracy curve" in names
    assert "learning curves" not in names  # which repeats both


def test_a_figure_keeps_its_place_before_it_is_drawn(reported):
    _, html, _ = reported
    sizes = re.findall(
        r'<img width="(\d+)" height="(\d+)" alt="[^"]*" src="data:image/png;base64,([^"]*)"', html
    )
    assert len(sizes) == html.count("<img")
    for width, height, encoded in sizes:
        image = Image.open(io.BytesIO(base64.b64decode(encoded)))
        assert (str(image.width), str(image.height)) == (width, height)


def test_text_of_a_run_is_never_read_as_markup(evaluated_run: Path, tmp_path: Path):
    run = Path(shutil.copytree(evaluated_run, tmp_path / "a <i> & run"))
    for table in run.glob("eval/*/suspects.csv"):
        lines = table.read_text("utf-8").splitlines()
        lines.append("<script>x</script>/1,U+3042,U+6625,あ,春,0.01,0.9,0.5")
        table.write_text("\n".join(lines) + "\n", "utf-8")
    pages = page(run.name, load_evaluated(run), [], [("command", ["a <b> & c"])])
    assert "<script" not in pages and "&lt;script&gt;" in pages
    assert "<i>" not in pages and "a &lt;b&gt; &amp; c" in pages


def test_scores_on_the_page_are_those_of_eval_json(reported):
    run, _, checked = reported
    text = " ".join(checked.text)
    for split in ("test", "val"):
        content = json.loads((run / "eval" / split / "eval.json").read_text())
        for name in ("top1", "macro", "weighted_f1"):
            assert f"{100 * content[name]['value']:.2f} %" in text
        assert f"{content['num_examples']:,}" in text
        assert f"{100 * content['ece_calibrated']['value']:.2f} %" in text
    assert "U+6625" in text and "春" in text  # the table of classes


def test_a_run_without_a_log_is_one_line_and_leaves_the_old_page(reported, tmp_path, capsys):
    (tmp_path / "report.html").write_text("old")
    assert main(["--model", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: no run in") and err.count("\n") == 1
    assert (tmp_path / "report.html").read_text() == "old"


def test_a_run_never_evaluated_says_so(tmp_path: Path):
    assert "Not evaluated yet" in page("run", [], [], [])


def test_scores_under_the_leaky_protocol_say_so_loudly(evaluated_run: Path, tmp_path: Path):
    run = Path(shutil.copytree(evaluated_run, tmp_path / "run"))
    path = run / "eval" / "test" / "eval.json"
    content = json.loads(path.read_text("utf-8"))
    assert "LEGACY" not in score_table(content)
    path.write_text(json.dumps(content | {"protocol": "legacy"}), "utf-8")
    assert score_table(content | {"protocol": "legacy"}).startswith("LEGACY PROTOCOL: copies of")
    val, test = sorted(load_evaluated(run), key=lambda found: found.split, reverse=True)
    assert "LEGACY" in test.subtitle and "LEGACY" not in val.subtitle  # of every figure
    html = page("run", [test, val], [], [])
    assert html.count("LEGACY PROTOCOL") == 2  # above the scores, and at its section
    assert "honest protocol" in page("run", [val], [], [])


@pytest.mark.parametrize("out", ["new/", "new.html/."])
def test_a_folder_is_not_taken_for_the_name_of_the_page(out: str, tmp_path: Path, capsys):
    assert main(["--model", str(tmp_path), "--out", f"{tmp_path}/{out}"]) == 1
    told = capsys.readouterr().err
    assert f"--out {tmp_path}/{out} names a folder" in told and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
