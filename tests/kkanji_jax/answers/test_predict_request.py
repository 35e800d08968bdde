"""What predict was asked for: its defaults, what is refused, and what decides about rows."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from kkanji_jax.answers.predict_request import PredictRequest
from kkanji_jax.answers.rows import RowOptions

ASKED = PredictRequest(["a.png"], "0.1.0")
ON_CLUSTER = {"engine": "ray", "out": Path("rows")}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"top_k": 0}, "--top-k must be at least 1, not 0"),
        ({"workers": 0}, "--workers must be at least 1, not 0"),
        ({"neighbours": -1}, "--neighbours must be at least 0, not -1"),
        ({"min_probability": 1.5}, r"--min-probability must be in \[0, 1\], not 1.5"),
        ({"annotate": Path("a.png")}, "--annotate needs one page, and --boxes"),
        ({"base_url": "ftp://x"}, "--base-url must begin with http:// or https://, not ftp://x"),
        ({"format": "tei"}, "--format tei is of pages: give --boxes with their boxes"),
        ({"show_steps": Path("s.jpg")}, "--show-steps must end in .png, not s.jpg"),
        ({"review": Path("r.htm")}, "--review must end in .html, not r.htm"),
        ({"review": Path("r.html"), "paths": ["-"]}, "--review names images by their files"),
        ({"out": Path("a.png")}, "--out a.png is an image to be read: name another file"),
        ({"bom": True}, "--bom is for --format csv: leave it out with text"),
        ({"dataset": Path("d")}, "--dataset is where --neighbours are sought: give --neighbours N"),
        ({"cpus": 4}, "--cpus is for --engine ray: leave it out"),
        ({"per_gpu": 1}, "--per-gpu is for --engine ray: leave it out"),
        ({"partition": 9}, "--partition is for --engine ray: leave it out"),
        ({"address": "auto"}, "--address is for --engine ray: leave it out"),
        ({"engine": "ray"}, "--engine ray writes a folder of Parquet files: give --out DIR"),
        ({**ON_CLUSTER, "show_steps": Path("s.png")}, "--show-steps is not for --engine ray"),
        ({**ON_CLUSTER, "bom": True}, "--bom is not for --engine ray: leave it out"),
        (
            {**ON_CLUSTER, "format": "tei", "boxes": Path("b.csv")},
            "--engine ray writes Parquet: leave out --format tei",
        ),
        ({**ON_CLUSTER, "format": "csv"}, "--engine ray writes Parquet: leave out --format csv"),
        ({**ON_CLUSTER, "format": "jsonl"}, "--engine ray writes Parquet: leave out --format json"),
        ({"base_url": "https://x.org"}, "--base-url is for addresses in a .txt or .json file"),
        (
            {"base_url": "https://x.org", "paths": ["https://x.org/list.json", "a.png"]},
            "no PATH is one: leave it out",
        ),
        ({**ON_CLUSTER, "cpus": 0}, "--cpus must be at least 1"),
        ({**ON_CLUSTER, "per_gpu": -1}, "--per-gpu must be at least 0"),
    ],
)
def test_what_cannot_be_met_is_refused_by_its_option(changes: dict[str, Any], expected: str):
    ASKED.validate()
    with pytest.raises(ValueError, match=expected):
        replace(ASKED, **changes).validate()


def test_a_base_of_addresses_is_taken_with_a_list_of_them():
    for name in ("list.txt", "LIST.JSON"):
        replace(ASKED, base_url="https://x.org", paths=["a.png", name]).validate()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "jax"),
        ({"backend": "onnx"}, "onnx"),
        ({"per_gpu": 1}, "jax"),
        ({"engine": "ray"}, "onnx"),
        ({"engine": "ray", "per_gpu": 1}, "jax"),
        ({"engine": "ray", "backend": "jax"}, "jax"),
    ],
)
def test_a_cluster_without_gpus_reads_with_onnx_unless_told(changes: dict[str, Any], expected: str):
    assert replace(ASKED, **changes).chosen_backend == expected


# Options with another value than that of ASKED: a stopped run is not continued with it.
DECIDES = {
    "version": "0.2.0",
    "backend": "onnx",
    "top_k": 1,
    "min_probability": 0.5,
    "neighbours": 3,
    "boxes": "a file",
    "base_url": "https://example.org",
    "invert": "yes",
    "orient": "auto",
    "format": "csv",
    "bom": True,
}
# The identity has these in the model's digest and the options of rows; paths in the rows so far.
TOLD_OTHERWISE = {"model", "weights", "chars", "dataset", "paths"}
CHANGES_NO_ROW = {"out", "annotate", "review", "show_steps", "workers"}
OF_CLUSTER = {"engine", "address", "cpus", "per_gpu", "partition"}


def test_a_run_goes_on_only_for_the_same_options(tmp_path: Path):
    (tmp_path / "boxes.csv").write_text("x,y,w,h\n")
    first = ASKED.identity("a digest", RowOptions())
    for name, value in DECIDES.items():
        other = replace(ASKED, **{name: tmp_path / "boxes.csv" if name == "boxes" else value})
        differing = other.identity("a digest", RowOptions()).items() - first.items()
        assert len(differing) == 1, name
    assert ASKED.identity("another", RowOptions()) != first
    assert ASKED.identity("a digest", RowOptions(characters=frozenset("春"))) != first
    listed = {*DECIDES, *TOLD_OTHERWISE, *CHANGES_NO_ROW, *OF_CLUSTER}
    assert {field.name for field in fields(PredictRequest)} == listed, "an option is in no list"
