"""A torn end costs nothing but itself; damage anywhere else is told with its file and line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kkanji_jax.training.metrics_file import read_metrics

LINES = [{"kind": "train", "step": step, "loss": 1.5} for step in (1, 2, 3)]
WHOLE = "".join(json.dumps(line) + "\n" for line in LINES).encode()
TORN = {
    "cut off": b'{"kind": "train", "st',
    "cut off inside a character": '{"kind": "春'.encode()[:-1],
    "zeros of a block that was never written": b"\0" * 40,
    "not UTF-8": b'{"kind": "\xff\xfe"}',
    "no object": b"17",
}


@pytest.mark.parametrize("end", ["", "\n"], ids=["unended", "ended"])
@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
def test_a_torn_last_line_is_left_out(torn: bytes, end: str, tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE + torn + end.encode())
    assert read_metrics(path) == LINES


@pytest.mark.parametrize("damage", TORN.values(), ids=TORN)
def test_a_damaged_line_before_the_last_is_told_with_file_and_number(damage: bytes, tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE + damage + b"\n" + WHOLE)
    with pytest.raises(ValueError, match=r"metrics\.jsonl line 4 is damaged: .*remove that line"):
        read_metrics(path)


def test_blank_lines_hold_nothing_but_are_counted(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n" + WHOLE + b"  \r\n" + WHOLE + b"\n\n")
    assert read_metrics(path) == LINES + LINES
    path.write_bytes(b"\n\n{\n" + WHOLE)
    with pytest.raises(ValueError, match="line 3 is damaged"):
        read_metrics(path)


def test_a_last_line_that_only_lacks_its_newline_is_whole(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE.rstrip())
    assert read_metrics(path) == LINES


def test_an_empty_file_has_no_lines_and_a_missing_one_is_an_error(tmp_path: Path):
    (tmp_path / "metrics.jsonl").touch()
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "other.jsonl")


def test_reading_the_file_needs_no_array_library():
    code = (
        "import sys, kkanji_jax.training.metrics_file;"
        "sys.exit(bool({'numpy', 'jax', 'flax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
def test_a_run_resumes_over_a_torn_line_and_the_file_is_whole_again(torn: bytes, tmp_path: Path):
    from kkanji_jax.training.metric_log import LogConfig, MetricLog

    lines = [line | {"elapsed_s": 2.0 * line["step"]} for line in LINES]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes("".join(json.dumps(line) + "\n" for line in lines).encode() + torn)
    config = LogConfig(total_steps=9, steps_per_epoch=3.0, batch_size=4, learning_rates=np.zeros(9))
    MetricLog(tmp_path, config, resumed_step=2)
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == lines[:2]


ODD = [{}, {"step": 1}, {"step": "1", "elapsed_s": 2.0}, {"elapsed_s": 2.0, "note": "春"}]


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
def test_a_line_that_no_run_wrote_is_told_with_its_file(odd: dict, tmp_path: Path):
    from kkanji_jax.training.metric_log import LogConfig, MetricLog

    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(odd) + "\n", encoding="utf-8")
    config = LogConfig(total_steps=9, steps_per_epoch=3.0, batch_size=4, learning_rates=np.zeros(9))
    with pytest.raises(ValueError, match=r"metrics\.jsonl has a line without step.*remove that"):
        MetricLog(tmp_path, config, resumed_step=2)
    assert path.read_text(encoding="utf-8") == json.dumps(odd) + "\n"
